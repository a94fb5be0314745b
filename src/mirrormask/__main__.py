"""Entry point of the ``mirrormask`` command."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the command line, or say what to install for it."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.exit(
            f'The command line needs {" and ".join(missing)}: run  pip install "mirrormask[study]"'
        )
    from mirrormask.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
