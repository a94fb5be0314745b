"""A model whose forward is a program where that may be, and torch's own everywhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mirrormask.deploy.csr import is_recording
from mirrormask.runtime.description import Description
from mirrormask.runtime.program import Program


class ProgramForward:
    """Stands for a model's ``forward``: runs the program for inputs that it was planned for.

    Those are float32 tensors on the CPU of the planned shapes, a whole number of parts of them, in
    evaluation mode and without gradients. Everything else, exporting included, takes the model's
    own forward, layer by layer.
    """

    def __init__(self, model: nn.Module, description: Description, *, single: bool) -> None:
        self._model, self.description, self._single = model, description, single
        self._prepare()

    def _prepare(self) -> None:
        self.program = Program(self.description)
        part = self.description.part
        self._part = part
        self._planned = tuple(torch.Size(port.shape[1:]) for port in self.description.inputs)
        # An output may have several rows for each example.
        self._made = tuple(
            (port.shape[0] // part, port.shape[1:]) for port in self.description.outputs
        )

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Compute the model."""
        if keywords or not self._fits(inputs):
            return type(self._model).forward(self._model, *inputs, **keywords)
        count = len(inputs[0])
        tensors = [value.contiguous() for value in inputs]
        made = [torch.empty((count * rows, *shape)) for rows, shape in self._made]
        self.program.run(
            [tensor.data_ptr() for tensor in (*tensors, *made)],
            parts=count // self._part,
            threads=torch.get_num_threads(),
        )
        return made[0] if self._single else tuple(made)

    def _fits(self, inputs: tuple[Any, ...]) -> bool:
        if self._model.training or len(inputs) != len(self._planned) or is_recording():
            return False
        gradients = torch.is_grad_enabled()
        for value, planned in zip(inputs, self._planned, strict=True):
            if type(value) is not torch.Tensor or value.dtype != torch.float32:
                return False
            if value.shape[1:] != planned or value.device.type != "cpu":
                return False
            if gradients and value.requires_grad:
                return False
        count = len(inputs[0])
        return count % self._part == 0 and all(len(value) == count for value in inputs)

    def __getstate__(self) -> dict[str, Any]:
        # A program holds addresses of this process: copies and pickles make their own.
        return {name: value for name, value in self.__dict__.items() if name != "program"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def attach(model: nn.Module, description: Description, *, single: bool) -> None:
    """Make a model run as a program from now on."""
    # A bound method, as torch expects one: exporting looks into its code.
    model.forward = ProgramForward(model, description, single=single).forward


def detach(model: nn.Module) -> None:
    """Make a model run layer by layer again."""
    if program_of(model) is not None:
        del model.__dict__["forward"]


def program_of(model: nn.Module) -> ProgramForward | None:
    """Return the program that a model runs as, or None."""
    found = getattr(model.__dict__.get("forward"), "__self__", None)
    return found if isinstance(found, ProgramForward) else None
