# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behind `_trace`: the facts of one request, how they are found, and how its hops are shown.

`_looking` and `_requests` find the facts of `_facts`, with real requests; the rest is pure.
"""
