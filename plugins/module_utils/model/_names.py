# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What names look like: of objects, hosts, headers and labels; and how to write one that is wrong."""

from __future__ import annotations

import ipaddress
import re

from ansible_collections.edgeway.istio.plugins.module_utils._reader import Node, as_text, kind_of, shown
from ansible_collections.edgeway.istio.plugins.module_utils.model._shapes import Pairs

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")  # a header's name: RFC 9110, section 5.6.2
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]{1,4096}")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

DNS_RULE = "a DNS label (a-z, 0-9 and -, at most 63)"
DNS_CURE = "Use lower-case letters, digits and dashes, with a letter or digit at both ends"


def read_labels(node: Node, key: str) -> Pairs | None:
    found = node.pairs(key)
    if found is None:
        return None
    result = []
    for path, name, value in found:
        if not _LABEL_KEY.fullmatch(name):
            node.log.add(path, f"`{shown(name)}` is not the key of a label", "Write it as Kubernetes shows it")
        text = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
        if text is None:
            node.log.add(path, f"is {kind_of(value)}, a text is expected", as_text(value))
        elif not _LABEL_VALUE.fullmatch(text):
            node.log.add(path, f"`{shown(text)}` is not the value of a label", "Write it as Kubernetes shows it")
        else:
            result.append((name, text))
    if not found:
        node.add(key, "is empty", "Give at least one label: without any, every pod is meant")
    return tuple(result)


def is_address(text: str) -> bool:
    """Tell an IP address, of either family, from a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_cure(name: str) -> str | None:
    """Say how to write the name of one host, or None when it is right already."""
    if name.startswith("*"):
        return "Name one host, no wildcard"
    if is_address(name.strip("[]")):
        return "An address is no name: write a DNS name"
    return hostname_cure(name)


def hostname_cure(name: str) -> str | None:
    """Say how to write a hostname (a wildcard is allowed as its first label), or None when it is right already."""
    if name == "*":
        return "Drop `hostnames` to take every name"
    if "://" in name or "/" in name:
        return "Write the name alone; scheme and path go elsewhere"
    if is_address(name.strip("[]")):
        return "An address is no name: drop `hostnames` to take every name"
    if re.search(r":[0-9]+$", name):
        return f"Write `{shown(name.rsplit(':', 1)[0])}`; the port goes into `port`"
    if not name.isascii():
        try:
            return f"Write `{name.encode('idna').decode()}`"
        except UnicodeError:
            return "Write it in its ASCII form, which starts with `xn--`"
    if name.endswith("."):
        return f"Write `{shown(name.rstrip('.'))}`"
    rest = name.removeprefix("*.")
    if "*" in rest:
        return "A wildcard stands for the whole first label: `*.example.com`"
    if not SUBDOMAIN.fullmatch(rest) or len(name) > 253:
        return "Use a-z, 0-9 and - in labels of 1 to 63 characters, joined by dots"
    return None
