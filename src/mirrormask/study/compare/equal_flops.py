"""How long a method may train for the FLOPs of dense training."""

from __future__ import annotations

from mirrormask.optimizer import Recipe

MOST = 5
"""No method trains for more than this many times the epochs: its FLOPs may stay below dense."""


def equal_flops_epochs(recipe: Recipe, sparsity: float, epochs: int, share: float) -> int:
    """Return the epochs that cost a method about the FLOPs of dense training.

    With s(t) the sparsity in force at step t and f the share of FLOPs in targeted weights, a step
    costs 1 - f s(t) of a dense one, if all layers are equally sparse; the epochs are multiplied by
    the inverse of its mean, up to five times, and rounded. What runs really cost is measured from
    their masks.

    Args:
        recipe: Of the method.
        sparsity: The target.
        epochs: Of dense training.
        share: Part of the forward FLOPs that goes through targeted weights.

    Example:
        >>> from mirrormask.masking import ProjectAndFreeze
        >>> half = Recipe(masking=ProjectAndFreeze(at=0.5))
        >>> equal_flops_epochs(half, 0.8, epochs=12, share=1.0)
        20
    """
    cost = 1.0 - share * mean_sparsity(recipe, sparsity)
    return min(MOST * epochs, max(1, round(epochs / cost)))


def mean_sparsity(recipe: Recipe, sparsity: float) -> float:
    """Return the sparsity in force by a method's timetable, averaged over a run.

    Example:
        >>> from mirrormask.masking import ProjectAndFreeze
        >>> round(mean_sparsity(Recipe(masking=ProjectAndFreeze(at=0.5)), 0.8), 3)
        0.4
    """
    steps = 1000  # a timetable is a function of the finished fraction
    in_force, total = 0.0, 0.0
    for step in range(steps):
        cut = recipe.masking.cut_after(step, steps, sparsity)
        in_force = in_force if cut is None else cut
        total += in_force
    return total / steps
