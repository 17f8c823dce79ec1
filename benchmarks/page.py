"""Fills the tables of docs/performance.md from docs/benchmarks/*.json.

    python -m benchmarks.page

In the page, what stands between ``<!-- ingest -->`` and ``<!-- end -->`` is of docs/benchmarks/ingest.json.
"""

import json
import re

from benchmarks.report import DIRECTORY, text

PAGE = DIRECTORY.parent / "performance.md"
PLACE = re.compile(r"(<!-- (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(page: str) -> str:
    """Return the page with what the JSON holds now."""
    return PLACE.sub(lambda match: match[1] + shown(match[2]) + match[3], page)


def shown(name: str) -> str:
    """Return the chart, the tables and the conditions of one benchmark as Markdown."""
    path = DIRECTORY / f"{name}.json"
    if not path.exists():
        return f"\nNot measured yet: `python -m benchmarks.{name} --write`.\n\n"
    found = json.loads(path.read_text(encoding="utf-8"))
    parts = [f"![{name}: bar chart of the tables below](benchmarks/{name}.svg)"]
    parts += [f"{table['title']}:\n\n{text(table)}" for table in found["tables"]]
    conditions = "; ".join(found["conditions"].values())
    parts.append(f"`{found['command']}`: {conditions}.")
    return "\n" + "\n\n".join(parts) + "\n\n"


def main() -> None:
    """Fill the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
