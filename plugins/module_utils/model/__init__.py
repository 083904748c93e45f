# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Behind `_model`: how the list is read and checked, the shapes that it becomes, and what they mean in either API.

Pure. The way in is `_model.parse`; the shapes are what everything after it reads.
"""
