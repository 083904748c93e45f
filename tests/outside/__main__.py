"""python -m outside {http,https,tls,sql,tcp,stream} ADDRESS …: what a client outside the cluster gets."""

import argparse
import sys

from pymysql import MySQLError

from outside import clients, stream


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="outside", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, port: int | None) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("address", help="where to connect to, e.g. the VIP")
        added.add_argument("--port", type=int, default=port, required=port is None)
        return added

    for name, port in (("http", 80), ("https", 443)):
        added = command(name, "print status and body", port)
        added.add_argument("host", help="Host header and server name")
        added.add_argument("path", nargs="?", default="/")
    command("tls", "print the subject of the certificate", 443).add_argument("host", help="server name")
    added = command("sql", "print the rows of one statement", None)
    added.add_argument("statement")
    added.add_argument("--user", required=True)
    added.add_argument("--password", default="")
    command("tcp", "print the first bytes that come back", None).add_argument("--send", default="")
    added = command("stream", "GET at a constant rate, each on a new connection; fails if any is lost", 80)
    added.add_argument("host", help="Host header")
    added.add_argument("path", nargs="?", default="/")
    added.add_argument("--rate", type=float, default=50, help="requests a second (50)")
    added.add_argument("--seconds", type=float, default=10, help="how long (10)")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    match asked.command:
        case "http" | "https":
            get = clients.http_get if asked.command == "http" else clients.https_get
            answer = get(asked.address, asked.host, asked.path, port=asked.port)
            print(answer.status)
            print(answer.body)
        case "tls":
            print(clients.subject(clients.tls_certificate(asked.address, asked.host, port=asked.port)))
        case "sql":
            rows = clients.sql(
                asked.address, asked.statement, port=asked.port, user=asked.user, password=asked.password
            )
            for row in rows:
                print(*row, sep="\t")
        case "tcp":
            sys.stdout.buffer.write(clients.tcp(asked.address, asked.port, asked.send.encode()))
        case "stream":
            attempt = stream.http_attempt(asked.address, asked.host, asked.path, port=asked.port)
            with stream.Stream(attempt, rate=asked.rate, seconds=asked.seconds) as running:
                running.finish()
            print(running.report)
            return 1 if running.report.lost else 0
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, MySQLError) as error:
        sys.exit(f"outside: {error}")
