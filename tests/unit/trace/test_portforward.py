"""The SPDY frames of a port forward, against a server that speaks them over a socket pair."""

import contextlib
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.edgeway.istio.plugins.module_utils.cluster import _portforward as spdy

Server = Callable[[socket.socket], None]


def frames(connection: socket.socket) -> Iterator[spdy.Frame]:
    decoder = spdy.Decoder()
    while arrived := connection.recv(4096):
        yield from decoder.feed(arrived)


def served(behaviour: Server) -> spdy.Forward:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError):
            behaviour(theirs)
            theirs.shutdown(socket.SHUT_WR)
            # Closed with bytes unread, the other side would see a reset
            while theirs.recv(4096):
                pass

    threading.Thread(target=serve, daemon=True).start()
    return spdy.Forward(ours, 15000)


def test_opens_the_two_streams_that_the_kubelet_asks_for() -> None:
    seen: list[spdy.Frame] = []

    def kubelet(connection: socket.socket) -> None:
        for frame in frames(connection):
            seen.append(frame)
            if len(seen) == 2:
                connection.sendall(spdy.data(spdy.DATA, b"x", last=True))
                return

    with served(kubelet) as forward:
        assert forward.socket.recv(10) == b"x"
    assert [(one.kind, one.stream, one.flags) for one in seen] == [
        (spdy.SYN_STREAM, spdy.ERRORS, spdy.FIN),
        (spdy.SYN_STREAM, spdy.DATA, 0),
    ]
    # One compressor for the connection, and no dictionary
    block = zlib.decompressobj()
    first, second = (block.decompress(one.payload[10:]) for one in seen)
    assert first.startswith(struct.pack(">I", 3))
    assert b"streamtype\0\0\0\x05error" in first
    assert b"streamtype\0\0\0\x04data" in second
    assert b"port\0\0\0\x0515000" in second


def test_carries_bytes_both_ways() -> None:
    def echo(connection: socket.socket) -> None:
        for frame in frames(connection):
            if frame.kind == 0 and frame.stream == spdy.DATA:
                connection.sendall(spdy.data(spdy.DATA, frame.payload.upper()))

    with served(echo) as forward:
        forward.socket.settimeout(5)
        forward.socket.sendall(b"hello")
        assert forward.socket.recv(10) == b"HELLO"


def test_waits_for_the_reason_when_nothing_listens() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.sendall(spdy.data(spdy.DATA, b"", last=True))
        connection.sendall(spdy.data(spdy.ERRORS, b"connection refused", last=True))

    with served(refuse) as forward:
        assert forward.socket.recv(10) == b""
    assert forward.error == "connection refused"


def test_answers_a_ping() -> None:
    answered = threading.Event()

    def pings(connection: socket.socket) -> None:
        connection.sendall(spdy.control(spdy.PING, struct.pack(">I", 7)))
        for frame in frames(connection):
            if frame.kind == spdy.PING and frame.payload == struct.pack(">I", 7):
                answered.set()
                return

    with served(pings):
        assert answered.wait(5)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_frames_may_arrive_in_pieces(size: int) -> None:
    whole = (
        spdy.data(3, b"abc") + spdy.control(spdy.RST_STREAM, struct.pack(">II", 3, 1)) + spdy.data(1, b"", last=True)
    )
    decoder = spdy.Decoder()
    found = [frame for at in range(0, len(whole), size) for frame in decoder.feed(whole[at : at + size])]
    assert [(one.kind, one.stream, one.flags) for one in found] == [
        (0, 3, 0),
        (spdy.RST_STREAM, 3, 0),
        (0, 1, spdy.FIN),
    ]
