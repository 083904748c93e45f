# Copyright: Contributors to the edgeway.istio project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection to a port inside a pod, over a connection that the API server has upgraded to SPDY/3.1.

The WebSocket way of the kubernetes package begins with a GET, for which Kubernetes up to 1.34 asks the right `get` on
pods/portforward and later ones `create` as well. SPDY begins with a POST: `create` alone is enough everywhere. Of
SPDY/3.1 only what the API server and the kubelet use of it is here: two streams (data, and the kubelet's errors), no
flow control, and headers that are compressed without the dictionary, which Go's reader allows.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PROTOCOL = "portforward.k8s.io"
UPGRADE = {"connection": "Upgrade", "upgrade": "SPDY/3.1", "x-stream-protocol-version": PROTOCOL}

SYN_STREAM, RST_STREAM, PING, GOAWAY = 1, 3, 6, 7
FIN = 1

ERRORS, DATA = 1, 3
_CHUNK = 32 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `kind` is 0 for data, else the control frame's type; `stream` is 0 where it concerns none."""

    kind: int
    stream: int
    flags: int
    payload: bytes


class Decoder:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, arrived: bytes) -> Iterator[Frame]:
        """Yield each frame that is whole by now."""
        self._rest += arrived
        while len(self._rest) >= 8:
            head, flags_length = struct.unpack_from(">II", self._rest)
            flags, length = flags_length >> 24, flags_length & 0xFFFFFF
            if len(self._rest) < 8 + length:
                return
            payload, self._rest = self._rest[8 : 8 + length], self._rest[8 + length :]
            if not head & 0x80000000:
                yield Frame(0, head, flags, payload)
                continue
            kind = head & 0xFFFF
            named = kind in (1, 2, RST_STREAM, 8, 9) and len(payload) >= 4
            yield Frame(kind, struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF if named else 0, flags, payload)


def data(stream: int, payload: bytes, *, last: bool = False) -> bytes:
    """Return a data frame; `last` closes our side of the stream."""
    return struct.pack(">II", stream, (FIN if last else 0) << 24 | len(payload)) + payload


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a control frame."""
    return struct.pack(">II", 0x80030000 | kind, flags << 24 | len(payload)) + payload


class Encoder:
    """Makes the frames that open streams: all of a connection share one compressor."""

    def __init__(self) -> None:
        self._compress = zlib.compressobj()

    def open(self, stream: int, headers: Mapping[str, str], *, last: bool = False) -> bytes:
        """Return SYN_STREAM."""
        block = struct.pack(">I", len(headers))
        for key, value in headers.items():
            for text in (key.encode(), value.encode()):
                block += struct.pack(">I", len(text)) + text
        packed = self._compress.compress(block) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        return control(SYN_STREAM, struct.pack(">IIBB", stream, 0, 0, 0) + packed, FIN if last else 0)


class Forward:
    """A connection to one port of a pod. `socket` is a plain connected socket; `error` is the kubelet's complaint."""

    def __init__(self, upgraded: socket.socket, port: int) -> None:
        self.error = ""
        self._far = upgraded
        self._open = {ERRORS, DATA}
        self._answered = False
        self.socket, self._near = socket.socketpair()
        encoder = Encoder()
        common = {"port": str(port), "requestid": "0"}
        self._far.sendall(
            encoder.open(ERRORS, {"streamtype": "error", **common}, last=True)
            + encoder.open(DATA, {"streamtype": "data", **common})
        )
        self._thread = threading.Thread(target=self._pump, name=f"forward-{port}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End both sides."""
        self.socket.close()
        self._thread.join(2)

    def __enter__(self) -> Forward:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _pump(self) -> None:
        try:
            with self._near, self._far, contextlib.suppress(OSError):
                self._carry()
        except Exception as error:  # a thread's own traceback would go to the module's output
            self.error = self.error or f"the API server's stream can't be read: {error}"

    def _carry(self) -> None:
        decoder = Decoder()
        self._far.settimeout(60)
        waiting: list[socket.socket] = [self._far, self._near]
        while True:
            # A TLS socket may hold bytes that the kernel doesn't know of
            held = getattr(self._far, "pending", int)()
            ready = [self._far] if held else select.select(waiting, [], [], 60)[0]
            if not ready:
                return
            if self._near in ready:
                outgoing = self._near.recv(_CHUNK)
                self._far.sendall(data(DATA, outgoing, last=not outgoing))
                if not outgoing:
                    waiting.remove(self._near)
                    if self.socket.fileno() < 0:
                        return
            if self._far in ready:
                arrived = self._far.recv(_CHUNK)
                if not arrived:
                    return
                for frame in decoder.feed(arrived):
                    if self._take(frame):
                        return

    def _take(self, frame: Frame) -> bool:
        """Handle one frame; whether it was the last."""
        if frame.kind == PING:
            self._far.sendall(control(PING, frame.payload))
        elif frame.kind == GOAWAY:
            return True
        elif frame.kind == 0 and frame.stream == ERRORS:
            self.error += frame.payload.decode(errors="replace").strip()
        elif frame.kind == 0 and frame.payload:
            self._answered = True
            self._near.sendall(frame.payload)
        if frame.kind == RST_STREAM or frame.flags & FIN:
            self._open.discard(frame.stream)
        # Where nothing answered, the reason may still be on its way
        return DATA not in self._open and (self._answered or bool(self.error) or ERRORS not in self._open)
