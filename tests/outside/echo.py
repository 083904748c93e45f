"""The answers of the lab's echo server, which says in its body what it was asked and who it is."""

import collections
from collections.abc import Callable

from outside.clients import HttpAnswer


def facts(answer: HttpAnswer) -> dict[str, str]:
    """`ServiceVersion`, `Cluster`, `Host`, `URL`, `Method`, `Hostname` (the pod) and so on."""
    lines = (line.partition("=") for line in answer.body.splitlines())
    return {name: value for name, _unused, value in lines if name != "RequestHeader"}


def headers(answer: HttpAnswer) -> list[tuple[str, str]]:
    """The request's headers as they reached the server, names in lower case, sorted."""
    lines = (line.partition("=") for line in answer.body.splitlines())
    pairs = (value.partition(":") for name, _unused, value in lines if name == "RequestHeader")
    return sorted((name.lower(), value) for name, _unused, value in pairs)


def tally(count: int, ask: Callable[[], HttpAnswer]) -> collections.Counter[str]:
    """Ask `count` times; who answered, as "Cluster/ServiceVersion", or the status where nobody did."""
    found: collections.Counter[str] = collections.Counter()
    for _number in range(count):
        answer = ask()
        seen = facts(answer)
        name = "/".join(filter(None, (seen.get("Cluster"), seen.get("ServiceVersion"))))
        found[name if answer.status == 200 else str(answer.status)] += 1
    return found
