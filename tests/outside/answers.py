"""Ask every exposure of the lab as its users would and print what came back: python -m outside.answers"""

import dataclasses
import sys
from typing import Any

import rich.box
import rich.console
import rich.table
import rich.text
from pymysql import MySQLError

from outside import clients, lab

# The account that the lab's MariaDB is made with
SQL_USER = SQL_PASSWORD = "edgeway"
SQL_STATEMENT = "SELECT words, VERSION() FROM edgeway.greeting"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """`asked` is what a user would type; `got` one line a fact, or the error."""

    asked: str
    got: tuple[str, ...]
    good: bool = True


def _web(vip: str, exposure: dict[str, Any], authority: str) -> Answer:
    host = exposure["hostnames"][0]
    if exposure["protocol"] == "HTTP":
        answer = clients.http_get(vip, host, port=exposure.get("port", 80))
        facts = []
    else:
        answer = clients.https_get(vip, host, port=exposure.get("port", 443), ca=authority)
        facts = [f"certificate: {clients.subject(answer.certificate)}"] if answer.certificate else []
    lines = [f"body: {line}" for line in answer.body.splitlines() if line.split("=")[0] in ("ServiceVersion", "Host")]
    asked = f"{exposure['protocol'].lower()}://{host}/"
    return Answer(asked, (f"status: {answer.status}", *facts, *lines), answer.status == 200)


def _sql(vip: str, exposure: dict[str, Any]) -> Answer:
    rows = clients.sql(vip, SQL_STATEMENT, port=exposure["port"], user=SQL_USER, password=SQL_PASSWORD)
    asked = f"mariadb --port {exposure['port']}"
    return Answer(asked, (SQL_STATEMENT, *(f"row: {' | '.join(map(str, row))}" for row in rows)), bool(rows))


def ask(found: lab.Lab, exposure: dict[str, Any]) -> Answer:
    """One exposure's answer through the VIP; an error is an answer too."""
    try:
        if exposure["protocol"] == "TCP":
            return _sql(found.vip, exposure)
        return _web(found.vip, exposure, found.authority)
    except (OSError, MySQLError) as error:
        return Answer(f"{exposure['protocol']} {exposure['name']}", (f"{type(error).__name__}: {error}",), good=False)


def main() -> int:
    found = lab.load()
    answers = [ask(found, exposure) for exposure in found.exposures]
    table = rich.table.Table(box=rich.box.SIMPLE, title=f"Asked at {found.vip} from outside the cluster")
    table.add_column("asked", no_wrap=True)
    table.add_column("got")
    for answer in answers:
        table.add_row(answer.asked, rich.text.Text("\n".join(answer.got), style="" if answer.good else "bold red"))
    rich.console.Console().print(table)
    silent = [answer.asked for answer in answers if not answer.good]
    if silent:
        print(f"No good answer from: {', '.join(silent)}", file=sys.stderr)
    return 1 if silent or not answers else 0


if __name__ == "__main__":
    sys.exit(main())
