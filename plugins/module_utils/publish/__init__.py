# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behind `_publish`: writing all or nothing, taking turns, and waiting until every gateway pod has what was written.

Also through which gateways, what is published now, and where it answers, for those who only look too.
"""
