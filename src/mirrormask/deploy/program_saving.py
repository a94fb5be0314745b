"""Save a model as a program that runs without torch."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mirrormask.deploy.arguments import module_of
from mirrormask.deploy.example_inputs import Inputs, arguments_of
from mirrormask.deploy.export import densified
from mirrormask.deploy.outputs import output_error, tensors_in
from mirrormask.deploy.runner.attached import program_of
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.trial import with_program
from mirrormask.errors import ArgumentError, OutputError
from mirrormask.files.paths import path_of
from mirrormask.runtime.description import Description
from mirrormask.runtime.program_file import load, write_program

_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class ProgramReport:
    """What was written: how many steps, for how many examples at a time, how exact, how large.

    ``max_error`` is the largest difference to the model's outputs on the example, over their
    largest value.
    """

    path: str
    steps: int
    part: int
    file_bytes: int
    max_error: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        examples = "1 example" if self.part == 1 else f"{self.part} examples"
        return (
            f"{self.path}: {self.steps} steps, {examples} at a time, {self.file_bytes:,} bytes, "
            f"error {self.max_error:.1e}"
        )


def save_program(model: nn.Module, example_inputs: Inputs, path: str | Path) -> ProgramReport:
    """Write a whole model, planned and packed, to a file that runs without torch.

    ``mirrormask.runtime.load`` reads it: numpy in, numpy out, in any batch size. A model that
    :func:`mirrormask.compile` made into a program is written as it is; any other is planned now,
    for part sizes up to the example's batch. The file is one ordinary safetensors file; it appears
    only after its outputs were compared with the model's.

    Args:
        model: A model of float32 weights on the CPU.
        example_inputs: A tensor or a tuple of tensors ``[n, ...]``.
        path: The file to write.

    Raises:
        ArgumentError: The model does something that no step of a program does.
        OutputError: The outputs differ, or the file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from mirrormask import runtime
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
        >>> x = torch.randn(3, 8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = save_program(net, x, f"{folder}/net.program")
        ...     y = runtime.load(f"{folder}/net.program")(x.numpy())
        >>> torch.allclose(torch.from_numpy(y), net(x), atol=1e-5)
        True
    """
    path, module = path_of(path), module_of(model)
    inputs, keywords = arguments_of(example_inputs)
    if keywords:
        raise ArgumentError("a program takes its inputs by position: give a tensor or a tuple")
    try:
        with torch.no_grad():
            expected = densified(module)(*inputs)
    except ArgumentError:
        raise
    # The model's own code may raise anything.
    except Exception as error:
        raise ArgumentError(
            f"the model does not run on the example inputs ({type(error).__name__}: {error}): "
            "give inputs as its forward takes them"
        ) from error
    description = _described(module, inputs, expected)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        write_program(draft, description)
        found = load(draft)(*[value.detach().numpy() for value in inputs])
    arrays = found if isinstance(found, tuple) else (found,)
    gap = output_error([torch.from_numpy(array) for array in arrays], tensors_in(expected))
    if gap > _TOLERANCE:
        raise OutputError(f"{path} would be wrong by {gap:.1e}: not written")
    return ProgramReport(
        path=str(path),
        steps=len(description.steps),
        part=description.part,
        file_bytes=write_program(path, description),
        max_error=gap,
    )


def _described(model: nn.Module, inputs: tuple[Any, ...], expected: object) -> Description:
    ready = program_of(model)
    if ready is not None:
        return ready.description
    plain = densified(model)
    try:
        made = program_of(with_program(plain, plain, inputs, expected))
    except UnsupportedError as reason:
        raise ArgumentError(
            f"the model has no program: {reason} cannot be planned; export it as .onnx or .pt2"
        ) from None
    assert made is not None
    return made.description
