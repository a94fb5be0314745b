"""What a weight is worth to the loss: its magnitude, or its saliency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Score = Literal["magnitude", "saliency"]

FORGETTING = 0.99
"""Part of the running mean of squared gradients that a step leaves: about a hundred steps count."""

SMALLEST_ROOT = 1e-18
"""Stands for a root mean square gradient of zero, so that magnitudes settle such ties."""


def scores(
    score: Score,
    magnitudes: Sequence[Tensor],
    kept: Sequence[Tensor],
    squares: Sequence[Tensor] | None,
) -> list[Tensor]:
    """Return how much each weight is worth, in the shapes of the weights.

    Magnitudes of different layers say little about each other: they follow the scale of each
    layer's start and of what flows through it. The saliency ``|x| * sqrt(E[g**2])`` does not change
    when a layer is multiplied and the next one divided by a number. Squared, it is twice the loss
    that optimal brain damage expects from cutting the weight alone, with the empirical Fisher
    information in place of the second derivative.

    Source: LeCun, Denker & Solla, "Optimal brain damage" (NIPS 1989); Theis et al., "Faster gaze
    prediction with dense networks and Fisher pruning" (2018).

    Args:
        score: Which of the two.
        magnitudes: ``|x|`` of each tensor.
        kept: The masks in force: a cut weight is worth 0, and less than any other.
        squares: Running means of squared gradients; None where none were sensed, as before the
            first step: magnitudes are all that is known then.

    Example:
        >>> magnitudes, squares = [torch.tensor([1.0, 2.0, 3.0])], [torch.tensor([16.0, 1.0, 0.0])]
        >>> kept = [torch.tensor([True, True, True])]
        >>> scores("saliency", magnitudes, kept, squares)[0].argsort().tolist()
        [2, 1, 0]
    """
    if score == "magnitude" or squares is None:
        return list(magnitudes)
    return [
        torch.where(
            keep,
            (magnitude * square.sqrt().clamp(min=SMALLEST_ROOT)).clamp(
                min=torch.finfo(magnitude.dtype).tiny
            ),
            0.0,
        )
        for magnitude, keep, square in zip(magnitudes, kept, squares, strict=True)
    ]
