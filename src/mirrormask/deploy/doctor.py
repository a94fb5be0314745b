"""What is active on this machine, what is missing, and the way to get it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mirrormask.deploy.extras import optional
from mirrormask.deploy.timing import machine
from mirrormask.errors import ArgumentError, OutputError
from mirrormask.kernels import kernel_status, kernels
from mirrormask.kernels.build import BuildError, TargetError, build, compiler

if TYPE_CHECKING:
    from rich.table import Table

_OPTIONAL = {
    "onnxruntime": "the dense rival, and ONNX export is checked with it",
    "onnxscript": "ONNX export",
    "openvino": "a dense rival",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: its state in a word or two, and what that means."""

    what: str
    state: str
    meaning: str


def diagnose() -> tuple[Finding, ...]:
    """Look at the processor, the kernels, the compiler and the optional runtimes.

    Example:
        >>> [finding.what for finding in diagnose()][:3]
        ['processor', 'threads', 'kernels']
    """
    here = machine()
    status, library = kernel_status(), kernels()
    found = [
        Finding(what="processor", state=here["vectors"], meaning=here["cpu"]),
        Finding(
            what="threads",
            state=str(torch.get_num_threads()),
            meaning=f"of {os.cpu_count()} processors; torch.set_num_threads changes it",
        ),
        Finding(
            what="kernels",
            state=status.variant if status.active else "off",
            meaning=status.reason
            if library is None
            else f"{status.reason}; this processor runs {', '.join(library.variants)}",
        ),
    ]
    if library is None:
        found.append(
            Finding(
                what="in their place",
                state="torch CSR",
                meaning="linear layers at small batch gain, convolutions little",
            )
        )
    found.append(_compiler())
    for name, use in _OPTIONAL.items():
        try:
            found.append(Finding(what=name, state=version(name), meaning=use))
        except PackageNotFoundError:
            found.append(Finding(what=name, state="missing", meaning=f"{use}: pip install {name}"))
    return tuple(found)


def _compiler() -> Finding:
    try:
        command = " ".join(compiler())
    except BuildError as error:
        return Finding(what="compiler", state="missing", meaning=str(error))
    return Finding(what="compiler", state=command, meaning="mirrormask doctor --build uses it")


def build_kernels() -> Path:
    """Compile the kernels for this installation; a process that starts later uses them.

    Raises:
        ArgumentError: There is no compiler, or it fails.
        OutputError: The package's folder cannot be written.
    """
    try:
        return build()
    except TargetError as error:
        raise OutputError(f"the kernels were not installed: {error}") from error
    except BuildError as error:
        raise ArgumentError(f"the kernels were not compiled: {error}") from error


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table for rich to print."""
    table: Table = optional("rich.table", "a table").Table(title="mirrormask on this machine")
    for heading in ("what", "state", "meaning"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, finding.state, finding.meaning)
    return table
