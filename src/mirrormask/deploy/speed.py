"""What compiling a model found: per layer and for the whole net, also where nothing was gained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, cast, get_args

from mirrormask.deploy.candidates import Form, LayerCosts
from mirrormask.deploy.extras import optional
from mirrormask.errors import ArgumentError

if TYPE_CHECKING:
    from rich.table import Table

_MIN_GAIN = 1.05


@dataclass(frozen=True, kw_only=True)
class LayerSpeed:
    """One layer: milliseconds a call, bytes of its weight, what was chosen and why."""

    name: str
    kind: str
    sparsity: float
    dense_ms: float | None
    sparse_ms: float | None
    dense_bytes: int
    sparse_bytes: int
    choice: Form
    reason: str

    @classmethod
    def choose(cls, costs: LayerCosts) -> Self:
        """Choose the faster form of a layer; sparse must lead by more than the noise."""
        form, reason = costs.best_form(), costs.reason
        dense_ms = sparse_ms = None
        if costs.timings is not None:
            dense_ms, sparse_ms = costs.timings.median("dense"), costs.timings.median(form)
            gain = costs.timings.speedup(form, over="dense").median
            reason = f"{gain:.2f}x" if gain >= _MIN_GAIN else f"not faster ({gain:.2f}x)"
            form = form if gain >= _MIN_GAIN else "dense"
        return cls(
            name=costs.name,
            kind=costs.kind,
            sparsity=costs.sparsity,
            dense_ms=dense_ms,
            sparse_ms=sparse_ms,
            dense_bytes=costs.dense_bytes,
            sparse_bytes=costs.bytes_of.get(costs.best_form(), 0),
            choice=form,
            reason=reason,
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided for a model, to be used again without measuring the layers.

    ``choices`` maps layers to their forms; layers that are not named stay dense. ``rewrite`` says
    whether norms are folded and dead channels removed first. ``part`` is how many examples a
    program works on at a time, 0 without one. ``slow`` names operators of the exported graph that
    have steps and yet stay in torch.
    """

    choices: Mapping[str, Form]
    rewrite: bool
    part: int = 0
    slow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.part < 0:
            raise ArgumentError(f"the plan has part={self.part}: give 0 or more examples")
        for name, form in self.choices.items():
            if form not in get_args(Form):
                raise ArgumentError(
                    f"the plan gives layer {name!r} the form {form!r}: known are "
                    f"{', '.join(get_args(Form))}"
                )

    def to_json(self) -> str:
        """Return the plan as text."""
        data = {"choices": dict(self.choices), "rewrite": self.rewrite, "part": self.part}
        return json.dumps({"version": 1, **data, "slow": list(self.slow)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a plan that :meth:`to_json` wrote.

        Raises:
            ArgumentError: The text is no plan.

        Example:
            >>> plan = Plan(choices={"fc1": "csr"}, rewrite=True)
            >>> Plan.from_json(plan.to_json()) == plan
            True
        """
        try:
            data = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or data.get("version") != 1:
            raise ArgumentError("the text is no plan of this version: compile again without it")
        choices, rewrite = data.get("choices"), data.get("rewrite")
        part, slow = data.get("part", 0), data.get("slow", [])
        if not isinstance(choices, dict) or not isinstance(rewrite, bool) or type(part) is not int:
            raise ArgumentError("the plan is damaged: compile again without it")
        if not isinstance(slow, list) or not all(isinstance(name, str) for name in slow):
            raise ArgumentError("the plan is damaged: compile again without it")
        choices = cast(dict[str, Form], choices)
        return cls(choices=choices, rewrite=rewrite, part=part, slow=tuple(slow))


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """What :func:`mirrormask.compile` measured and decided.

    Times are medians in milliseconds for one call on the example. ``speedup`` is the median of
    interleaved ratios with quartiles ``speedup_low`` and ``speedup_high``. ``max_error`` is the
    largest difference to the dense outputs over their largest value. ``faster`` is False where
    the dense model was kept.
    """

    layers: tuple[LayerSpeed, ...]
    faster: bool
    verdict: str
    notes: tuple[str, ...]
    dense_ms: float
    compiled_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    dense_bytes: int
    compiled_bytes: int
    max_error: float
    plan: Plan
    threads: int
    shapes: tuple[str, ...]
    machine: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{layer.name} ({layer.kind}, {layer.sparsity:.1%} zeros): {layer.choice}, "
            f"{layer.reason}"
            for layer in self.layers
        ]
        return "\n".join([*lines, *self.notes, self.verdict])

    def table(self) -> Table:
        """Return a table for rich to print."""
        table: Table = optional("rich.table", "a table").Table(
            title="layers", caption="\n".join([*self.notes, self.verdict])
        )
        for heading in ("layer", "kind"):
            table.add_column(heading, overflow="fold")
        for heading in ("zeros", "dense ms", "sparse ms", "dense bytes", "sparse bytes"):
            table.add_column(heading, justify="right")
        table.add_column("choice")
        table.add_column("reason")
        for layer in self.layers:
            table.add_row(
                layer.name,
                layer.kind,
                f"{layer.sparsity:.1%}",
                "" if layer.dense_ms is None else f"{layer.dense_ms:.3f}",
                "" if layer.sparse_ms is None else f"{layer.sparse_ms:.3f}",
                f"{layer.dense_bytes:,}",
                f"{layer.sparse_bytes:,}" if layer.sparse_bytes else "",
                layer.choice,
                layer.reason,
            )
        return table
