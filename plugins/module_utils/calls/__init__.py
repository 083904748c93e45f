# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module does with its options, in a process of its own or in Ansible's.

A file for each, as Ansible compiles all that a module imports on every start: none brings along what it doesn't use.
"""
