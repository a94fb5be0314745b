"""The ``mirrormask`` command: a face without logic, put together from the rooms' own commands."""

from __future__ import annotations

import typer
from rich.console import Console

from mirrormask.deploy import commands as deploy
from mirrormask.errors import MirrormaskError
from mirrormask.lab import commands as lab
from mirrormask.study import commands as study

INTERRUPTED = 130

app = typer.Typer(
    help="Sparse neural networks by implicit regularisation: exact zeros, plain models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for room in (study, deploy, lab):
    room.register(app)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code.

    Errors that a user can act on are one sentence on stderr and code 2; Ctrl-C is 130.
    """
    errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    try:
        app(arguments)
    except MirrormaskError as error:
        errors.print(f"error: {error}")
        return 2
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
        if code == INTERRUPTED:
            errors.print(
                "Stopped. A training run goes on with: --out FOLDER --resume; a comparison with "
                "the same command."
            )
        return code
    return 0
