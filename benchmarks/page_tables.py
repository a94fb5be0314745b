"""Write the measured tables of the pages in docs/ from raw results.

python benchmarks/page_tables.py          print them
python benchmarks/page_tables.py --write  put them into the pages

A table stands in its page between <!-- name --> and <!-- /name -->. What makes the tables of a page
is in a file of its own, tables_<page>.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import tables_deploy
import tables_loops
import tables_pretrained
import tables_recipe
import tables_research

DOCS = Path(__file__).parents[1] / "docs"
PAGES: dict[str, Mapping[str, Callable[[], str]]] = {
    "deploy.md": tables_deploy.PARTS,
    "loops.md": tables_loops.PARTS,
    "pretrained.md": tables_pretrained.PARTS,
    "recipe.md": tables_recipe.PARTS,
    "research/dynamics.md": tables_research.PARTS,
}


def filled(name: str) -> str:
    """Return a page with every part as it is measured now."""
    page = (DOCS / name).read_text()
    for part, make in PAGES[name].items():
        before, begin, rest = page.partition(f"<!-- {part} -->\n")
        _, end, after = rest.partition(f"<!-- /{part} -->")
        if not end or begin in after:
            raise SystemExit(f"{name} must have one place for {part!r}")
        page = f"{before}{begin}{make()}\n{end}{after}"
    return page


def main() -> None:
    for name, parts in PAGES.items():
        if sys.argv[1:] == ["--write"]:
            (DOCS / name).write_text(filled(name))
            continue
        for part, make in parts.items():
            print(f"{name}: {part}\n{make()}\n")


if __name__ == "__main__":
    main()
