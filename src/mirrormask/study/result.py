"""What the main job found: each twin by itself, and the two side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mirrormask.errors import CheckpointError
from mirrormask.report import SparsityReport
from mirrormask.study.run_folder import write_text


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage leaves behind.

    Attributes:
        title: ``"dense"`` or the method.
        test_accuracy: On the test images, evaluated once.
        test_loss: Cross-entropy there.
        seconds: Of training, summed over resumptions.
        zeros: Exact zeros among the weights that the method targets.
        weights: Number of those weights.
        bytes: Size of the model file.
        epochs: One row an epoch.
        pressure: Step, alpha and budget before each step of a sparse method.
        report: The sparsity report as JSON, for a sparse method.
    """

    title: str
    test_accuracy: float
    test_loss: float
    seconds: float
    zeros: int
    weights: int
    bytes: int
    epochs: list[dict[str, float]]
    pressure: list[tuple[int, float, float]]
    report: str | None

    @property
    def sparsity(self) -> float:
        """Fraction of exact zeros among the weights that the method targets."""
        return self.zeros / self.weights

    @classmethod
    def read(cls, path: Path) -> StageResult:
        """Return what :meth:`write` stored.

        Raises:
            CheckpointError: If the file is damaged.
        """
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}): delete it to finish this stage anew."
            ) from error

    def write(self, path: Path) -> None:
        """Store the result, whole or not at all."""
        write_text(path, json.dumps(asdict(self)))

    def sparsity_report(self) -> SparsityReport | None:
        """Return the report of a sparse method."""
        return None if self.report is None else SparsityReport.from_json(self.report)


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The two twins of a finished job.

    Attributes:
        folder: Where everything was written.
        dense: The dense twin.
        sparse: The sparse one.
        packed_bytes: Size of the sparse network's packed file.
    """

    folder: Path
    dense: StageResult
    sparse: StageResult
    packed_bytes: int

    @property
    def difference(self) -> float:
        """Test accuracy of the sparse twin less that of the dense one, in points."""
        # Accuracies are counts over images; without rounding, 20 of 2,000 is a little over 1.0.
        return round(100 * (self.sparse.test_accuracy - self.dense.test_accuracy), 9)

    @property
    def verdict(self) -> str:
        """Say in one sentence what the zeros cost."""
        change = f"{100 * self.sparse.sparsity:.4g} % exact zeros, {self.difference:+.2f} points"
        if abs(self.difference) <= 1.0:
            return f"{change}: within 1.0 point of dense."
        side = "above" if self.difference > 0 else "below"
        return f"{change}: more than 1.0 point {side} dense."
