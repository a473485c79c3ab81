#!/usr/bin/env python
"""Fill the tables of README.md and docs/ from committed JSON files; ``--check`` only reports stale pages."""

import startup  # before torch is loaded

# isort: split
import os
import re
from pathlib import Path

from switchablecompat.cli.parsers.shared import Parser
from switchablecompat.errors import InputError, exit_on_input_error
from switchablecompat.files import atomic_write

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"<!-- (?P<kind>\w+): (?P<path>\S+) -->\n(?P<body>.*?)<!-- /(?P=kind) -->", re.DOTALL)


def update(page: Path) -> str:
    """Return the text of a page with every generated block rendered anew."""
    from doc_tables import RENDERERS

    def render(match: re.Match) -> str:
        kind, path = match["kind"], match["path"]
        if kind not in RENDERERS:
            raise InputError(f"{page.name}: {path}", f"must be a table of {', '.join(RENDERERS)}", kind)
        try:
            body = RENDERERS[kind](page.parent / path)
        except InputError:
            raise
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{page.name}: {path}", f"must be what a {kind} is made from", repr(error)) from error
        return f"<!-- {kind}: {path} -->\n{body}\n<!-- /{kind} -->"

    return BLOCK.sub(render, page.read_text())


def main() -> None:
    """The command line."""
    parser = Parser(description=__doc__, epilog="example: python tools/update_docs.py --check")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 2 if a page is not current")
    args = parser.parse_args()
    startup.load()
    os.chdir(ROOT)  # suites name their configs relative to this folder
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        name = page.relative_to(ROOT)
        try:
            text = update(page)
            if text == page.read_text():
                continue
            if args.check:
                found = "tables that differ from their JSON; run tools/update_docs.py"
                raise InputError(str(name), "must be current", found)
            with atomic_write(page) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise InputError(str(name), "must be a page that can be read and written", error) from error
        print(f"updated {name}")


if __name__ == "__main__":
    exit_on_input_error(main)
