"""Which network namespaces hold an address, asked of the kernel by netlink: no process is started, so it is cheap."""

import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

RTM_NEWADDR = 20
RTM_GETADDR = 22
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST_DUMP = 0x301
IFA_ADDRESS = 1
IFA_LOCAL = 2
LOOPBACK = 1
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _addresses(message: bytes) -> Iterator[bytes]:
    """The addresses in one RTM_NEWADDR: a header of 8 bytes, then attributes."""
    offset = 8
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("HH", message, offset)
        if length < 4:
            return
        if kind in (IFA_ADDRESS, IFA_LOCAL):
            yield message[offset + 4 : offset + length]
        offset += _padded(length)


class Namespace:
    """The addresses of one network namespace, named by a process in it. It lives on as long as this is open."""

    def __init__(self, pid: int) -> None:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        away = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            # Of this thread alone, and a socket stays where it was made
            _enter(away)
            try:
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            finally:
                _enter(home)
        finally:
            os.close(home)
            os.close(away)
        self._socket.settimeout(1)

    def close(self) -> None:
        self._socket.close()

    def has(self, address: str) -> bool:
        """Whether an interface has this address of which the network is told: not the loopback one."""
        wanted = ipaddress.ip_address(address)
        family = socket.AF_INET if wanted.version == 4 else socket.AF_INET6
        body = struct.pack("BBBBI", family, 0, 0, 0, 0)
        self._socket.send(struct.pack("IHHII", 16 + len(body), RTM_GETADDR, NLM_F_REQUEST_DUMP, 1, 0) + body)
        found = False
        while True:
            answer = self._socket.recv(65536)
            offset = 0
            while offset + 16 <= len(answer):
                length, kind = struct.unpack_from("IH", answer, offset)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    raise OSError("netlink refused to list addresses")
                if kind == RTM_NEWADDR and struct.unpack_from("I", answer, offset + 20)[0] != LOOPBACK:
                    found = found or wanted.packed in _addresses(answer[offset + 16 : offset + length])
                offset += _padded(length)
