"""AC/DC: dense and sparse phases in turn, so that cuts can be taken back."""

from __future__ import annotations

from dataclasses import dataclass

from mirrormask.errors import ArgumentError
from mirrormask.masking.policy import Masking


@dataclass(frozen=True, kw_only=True)
class ACDC(Masking):
    """Alternate compressed and decompressed training, and end with a long compressed phase.

    After a dense warm-up come ``cycles`` pairs of a compressed phase, in which only the largest
    magnitudes live, and a dense one, in which the others grow again from zero; then the last
    compressed phase. The paper's ImageNet run of 100 epochs has a warm-up of 10, phases of 5 and
    a last one of 15.

    Source: Peste et al., "AC/DC: Alternating Compressed/DeCompressed Training" (NeurIPS 2021).

    Args:
        warmup: Fraction of the run before the first compression, in [0, 1).
        final: Fraction of the run after the last compression, in (0, 1).
        cycles: Pairs of phases in between, at least 1.

    Raises:
        ArgumentError: If a number is outside its domain, or nothing is left for the cycles.

    Example:
        >>> policy = ACDC(warmup=0.2, final=0.4, cycles=1)
        >>> [policy.cut_after(step, 10, 0.9) for step in range(11)]
        [None, None, 0.9, None, 0.0, None, 0.9, None, None, None, None]
    """

    warmup: float = 0.1
    final: float = 0.15
    cycles: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cycles < 1:
            raise ArgumentError(f"cycles={self.cycles} is too few: use at least 1.")
        if not (self.warmup >= 0 and self.final > 0 and self.warmup + self.final < 1):
            raise ArgumentError(
                f"warmup={self.warmup} and final={self.final} leave no time for cycles: use "
                "warmup >= 0 and final > 0 with a sum below 1."
            )

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        """Return the target where a compressed phase begins, 0 where a dense one does."""
        # From the last on: in a run of very few steps the last phase must be a compressed one.
        for phase in range(2 * self.cycles, -1, -1):
            if step == self._begin(phase, steps):
                return 0.0 if phase % 2 else sparsity
        return None

    def last_cut(self, steps: int) -> int:
        """Return the step after which the long compressed phase begins."""
        return self._begin(2 * self.cycles, steps)

    def _begin(self, phase: int, steps: int) -> int:
        length = (1.0 - self.final - self.warmup) / (2 * self.cycles)
        return round((self.warmup + phase * length) * steps)
