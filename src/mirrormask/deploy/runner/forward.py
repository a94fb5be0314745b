"""A model whose forward is a program where that may be, and torch's own everywhere else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mirrormask.deploy.csr import is_recording
from mirrormask.deploy.runner.region_module import template
from mirrormask.runtime.description import Description
from mirrormask.runtime.program import Program

_MOST_KNOWN = 64
Fit = tuple[int, list[torch.Tensor]]


class ProgramForward:
    """Stands for a model's ``forward``: runs the program for inputs that it was planned for.

    Those are float32 tensors on the CPU of the planned shapes, a whole number of parts of them, in
    evaluation mode and without gradients. Everything else, exporting included, takes the model's
    own forward, layer by layer.
    """

    def __init__(self, model: nn.Module, description: Description, *, single: bool) -> None:
        self._model, self.description, self._single = model, description, single
        self.program = Program(description)
        self._types = (torch.float32,) * len(description.inputs)
        self._plain = single and len(description.inputs) == 1
        # For each shape of the only input that fits: how many parts, and forms of the outputs.
        self._known: dict[torch.Size, Fit] = {}

    @property
    def part(self) -> int:
        """How many examples one run works on."""
        return self.description.part

    @property
    def steps(self) -> int:
        """Of how many steps the program consists."""
        return len(self.description.steps)

    @property
    def nbytes(self) -> int:
        """Bytes of its weights and indices in memory."""
        return self.program.nbytes

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Compute the model."""
        if keywords or not may_run(self._model, inputs, self._types):
            return type(self._model).forward(self._model, *inputs, **keywords)
        # Some networks take one microsecond: each line here is a part of what a call costs.
        if self._plain:
            x = inputs[0]
            fit = self._known.get(x.shape) or self._fit([x.shape])
            if fit is not None:
                x, out = x.contiguous(), torch.empty_like(fit[1][0])
                addresses = x.data_ptr(), out.data_ptr()
                self.program.run(addresses, fit[0], torch.get_num_threads())
                return out
        elif (fit := self._fit([value.shape for value in inputs])) is not None:
            return self._run(inputs, *fit)
        return type(self._model).forward(self._model, *inputs)

    def _run(self, inputs: tuple[torch.Tensor, ...], parts: int, forms: list[torch.Tensor]) -> Any:
        tensors = [value.contiguous() for value in inputs]
        made = [torch.empty_like(form) for form in forms]
        addresses = [tensor.data_ptr() for tensor in (*tensors, *made)]
        self.program.run(addresses, parts, torch.get_num_threads())
        return made[0] if self._single else tuple(made)

    def _fit(self, shapes: list[torch.Size]) -> Fit | None:
        """Return parts and forms of the outputs, or None if the program is not for such shapes."""
        part, count = self.description.part, shapes[0][0] if shapes[0] else 0
        fits = count > 0 and count % part == 0
        for shape, port in zip(shapes, self.description.inputs, strict=True):
            fits = fits and tuple(shape) == (count, *port.shape[1:])
        if not fits:
            return None
        parts = count // part
        forms = [
            template((parts * port.shape[0], *port.shape[1:])) for port in self.description.outputs
        ]
        # Callers with ever new batch sizes must not fill the memory.
        if self._plain and len(self._known) < _MOST_KNOWN:
            self._known[shapes[0]] = parts, forms
        return parts, forms


def may_run(model: nn.Module, inputs: tuple[Any, ...], types: tuple[torch.dtype, ...]) -> bool:
    """Tell whether a model may run on such inputs as it was planned, but for their sizes."""
    if model.training or is_recording() or len(inputs) != len(types):
        return False
    if len(types) == 1:  # Most have one, and a loop would cost as much as the checks.
        return _is_plain(inputs[0], types[0])
    return all(map(_is_plain, inputs, types))


def _is_plain(value: Any, kind: torch.dtype) -> bool:
    return (
        type(value) is torch.Tensor
        and value.dtype is kind
        and value.is_cpu
        and not (value.requires_grad and torch.is_grad_enabled())
    )
