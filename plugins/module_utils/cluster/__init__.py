# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Around `_cluster`: kinds of objects, who owns which of their fields, objects of any kind, a connection into a pod.

Only `_cluster` talks to the API server; `_portforward` uses its connections.
"""
