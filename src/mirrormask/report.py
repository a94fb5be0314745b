"""What came out: zeros asked and zeros counted, tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mirrormask.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TensorSparsity:
    """Zeros of one tensor.

    Attributes:
        name: Qualified name in the model.
        shape: Its shape.
        weights: Number of elements.
        zeros: Number of elements that are exactly zero.
        flops: FLOPs of one forward pass that go through it when dense, or None if not counted.
    """

    name: str
    shape: tuple[int, ...]
    weights: int
    zeros: int
    flops: int | None = None

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return self.zeros / self.weights


@dataclass(frozen=True, kw_only=True)
class SparsityReport:
    """The result of ``finalize``: prints as a table, serialises to JSON.

    Attributes:
        method: Name of the method.
        steps: Optimizer steps done.
        asked: Sparsity asked for.
        asked_zeros: The number of zeros that this means.
        tensors: The targeted tensors.
        other_weights: Elements of all parameters that were not targeted.
        other_zeros: How many of those are zero.
        flops: FLOPs of one dense forward pass, or None if no data was given.
    """

    method: str
    steps: int
    asked: float
    asked_zeros: int
    tensors: tuple[TensorSparsity, ...]
    other_weights: int
    other_zeros: int
    flops: int | None = None

    @property
    def weights(self) -> int:
        """Targeted weights."""
        return sum(tensor.weights for tensor in self.tensors)

    @property
    def zeros(self) -> int:
        """Zeros counted among the targeted weights."""
        return sum(tensor.zeros for tensor in self.tensors)

    @property
    def achieved(self) -> float:
        """Fraction of zeros over the targeted weights."""
        return self.zeros / self.weights

    @property
    def achieved_overall(self) -> float:
        """Fraction of zeros over all parameters of the model."""
        return (self.zeros + self.other_zeros) / (self.weights + self.other_weights)

    @property
    def flops_left(self) -> float | None:
        """Fraction of the dense FLOPs that multiply a weight other than zero."""
        if not self.flops:
            return None
        saved = sum((tensor.flops or 0) * tensor.sparsity for tensor in self.tensors)
        return 1.0 - saved / self.flops

    def to_json(self) -> str:
        """Return all fields, and the fractions computed from them, as JSON."""
        fields = asdict(self) | {
            "achieved": self.achieved,
            "achieved_overall": self.achieved_overall,
            "flops_left": self.flops_left,
        }
        return json.dumps(fields, indent=2)

    @classmethod
    def from_json(cls, text: str) -> SparsityReport:
        """Return the report that :meth:`to_json` wrote.

        Raises:
            DataError: If the text is no such report.
        """
        try:
            fields = json.loads(text)
            for derived in ("achieved", "achieved_overall", "flops_left"):
                del fields[derived]
            rows = [TensorSparsity(**t | {"shape": tuple(t["shape"])}) for t in fields["tensors"]]
            return cls(**fields | {"tensors": tuple(rows)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"This is no sparsity report ({error}): read what to_json or a run wrote."
            ) from error

    def __str__(self) -> str:
        """Return a table with one row a tensor and the totals below."""
        rows = [("tensor", "shape", "weights", "zeros", "sparsity")]
        rows += [
            (
                t.name,
                "x".join(map(str, t.shape)),
                f"{t.weights:,}",
                f"{t.zeros:,}",
                _pct(t.sparsity),
            )
            for t in self.tensors
        ]
        rows.append(("targeted", "", f"{self.weights:,}", f"{self.zeros:,}", _pct(self.achieved)))
        rows.append(
            (
                "all parameters",
                "",
                f"{self.weights + self.other_weights:,}",
                f"{self.zeros + self.other_zeros:,}",
                _pct(self.achieved_overall),
            )
        )
        lines = _aligned(rows)
        rule = "-" * len(lines[0])
        lines = [lines[0], rule, *lines[1:-2], rule, *lines[-2:]]
        lines.append(f"asked {_pct(self.asked)} = {self.asked_zeros:,} zeros: {self._verdict()}")
        if self.flops_left is not None:
            lines.append(f"FLOPs left per forward pass: {_pct(self.flops_left)}")
        return "\n".join(lines)

    def _verdict(self) -> str:
        surplus = self.zeros - self.asked_zeros
        if surplus == 0:
            return "exact"
        return f"{surplus:,} more are zero by themselves"


def _pct(fraction: float) -> str:
    text = f"{100 * fraction:.4g}"
    digits = 5
    # One weight left of a million is the point of such a report: never round it to 100 %.
    while fraction < 1 and text == "100" and digits <= 17:
        text = f"{100 * fraction:.{digits}g}"
        digits += 1
    return f"{text} %"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
