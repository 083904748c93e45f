# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behind `_findings`: the checks, a file for each part of a request's way, and what they look at.

`_snapshot` is what was read of a cluster, `_reading` brings it and the list into the shapes of `_world`, and `_view`
lays one over the other. All of that is pure but for `_looking`, which reads the cluster and asks DNS for a run.
"""
