# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Istio in the cluster: what it shall be, what it is, installing it by istioctl or Helm, and taking it away.

Also what goes with it: the Gateway API's definitions, and namespaces whose pods get sidecars.
"""
