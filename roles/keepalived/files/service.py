# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the services beside keepalived, its checks and its guard, have in common."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def put(path: Path, text: str) -> None:
    """Replace a file at once, readable by all; OSError where that can't be."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)


def tell_systemd(message: str) -> None:
    """Send a message as sd_notify does; nothing where systemd didn't start us."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)
