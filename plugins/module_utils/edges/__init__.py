# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edges: VIPs as keepalived's virtual routers, what it says of them, and how requests get on to the gateway.

`_keepalived` and `_probe` run on the edges themselves. All is pure but for `_forward.look`, which reads the cluster.
"""
