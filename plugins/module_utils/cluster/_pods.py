# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pods as the API server has them: which take requests, and which are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_over(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is being deleted, or has ended and stayed, as an evicted one does."""
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return ended or bool(pod["metadata"].get("deletionTimestamp"))


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod takes requests."""
    status = pod.get("status") or {}
    if is_over(pod):
        return False
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or ())
