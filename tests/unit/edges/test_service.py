"""What the checks and the guard have in common."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from unit.edges.scripts import load

service = load("service")


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    with path.open() as reader:
        service.put(path, "after\n")
        assert reader.read() == "before\n"
    assert path.read_text() == "after\n"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    path = f"{'@' if abstract else ''}{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path.replace("@", "\0"))
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        service.tell_systemd("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_nobody_is_told_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.tell_systemd("READY=1")
