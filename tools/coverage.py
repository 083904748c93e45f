"""Say how much of plugins/module_utils the unit tests reach, and fail below 95 % of its lines or of its branches."""

import sys
from xml.etree import ElementTree

LEAST = 95.0


def main() -> int:
    root = ElementTree.parse(".cache/coverage.xml").getroot()  # noqa: S314  # nosec B314  pytest has just written it
    reached = {what: 100 * float(root.get(f"{what}-rate", "0")) for what in ("line", "branch")}
    print(f"plugins/module_utils: {reached['line']:.1f} % of lines, {reached['branch']:.1f} % of branches")
    if min(reached.values()) < LEAST:
        print(f"At least {LEAST:.0f} % of both are wanted", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
