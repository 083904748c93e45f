"""A DNS server for the tests: answers A and AAAA from a dictionary that they change."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class Names:
    """`records` maps a name to its addresses of both kinds; a name that isn't there is NXDOMAIN."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.port = 0

    def answer(self, asked: bytes) -> bytes:
        query = dns.message.from_wire(asked)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        question = query.question[0]
        addresses = self.records.get(str(question.name).rstrip("."))
        if addresses is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        kind = {dns.rdatatype.A: ".", dns.rdatatype.AAAA: ":"}.get(question.rdtype, "none")
        found = [address for address in addresses or () if kind in address]
        if found:
            reply.answer.append(dns.rrset.from_text_list(question.name, 1, "IN", question.rdtype, found))
        return reply.to_wire()


@contextlib.contextmanager
def serving() -> Iterator[Names]:
    names = Names()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, connection = self.request
            connection.sendto(names.answer(data), self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server:
        names.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, name="names", daemon=True).start()
        try:
            yield names
        finally:
            server.shutdown()
