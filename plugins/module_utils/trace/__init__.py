# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behind `_trace`: the hops of one request, the facts they are made from, how these are found, and how all is shown.

`_looking` and `_requests` find the facts of `_facts`, with real requests; the rest is pure.
"""
