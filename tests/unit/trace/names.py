"""A DNS server on the loopback."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


@contextlib.contextmanager
def serving(*records: str, **errors: str) -> Iterator[str]:
    """Answer with records as `a.example. A 192.0.2.1`, or with an rcode for a name (dots as __); yield its address.

    The rcode `SILENT` is no answer at all.
    """
    known = [record.split(maxsplit=2) for record in records]
    wrong = {name.replace("__", ".") + ".": code for name, code in errors.items()}

    def answer(wire: bytes) -> bytes | None:
        asked = dns.message.from_wire(wire)
        reply = dns.message.make_response(asked)
        reply.flags |= dns.flags.RA
        name, kind = asked.question[0].name.to_text(), dns.rdatatype.to_text(asked.question[0].rdtype)
        if wrong.get(name) == "SILENT":
            return None
        if name in wrong:
            reply.set_rcode(dns.rcode.from_text(wrong[name]))
        while name:
            found = [one for one in known if one[0] == name and one[1] in (kind, "CNAME")]
            reply.answer += [dns.rrset.from_text(owner, 60, "IN", type_, value) for owner, type_, value in found]
            name = next((value for _owner, type_, value in found if type_ == "CNAME"), "")
        return reply.to_wire()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    wire, client = listening.recvfrom(4096)
                    if not wire:
                        return
                    said = answer(wire)
                    if said is not None:
                        listening.sendto(said, client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        at = listening.getsockname()
        yield f"{at[0]}:{at[1]}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", at)
        thread.join(3)
