"""Centre, scale and weight a regression, and take the answer back to the user's units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mirrormask.lab.schedules import Array


@dataclass(frozen=True)
class Design:
    """A regression in units of one standard deviation, rows weighted.

    Attributes:
        z: Features, shape (samples, features), in Fortran order.
        y: Targets, shape (samples,).
        weight: Sum of the sample weights.
        x_mean: Means of the features, shape (features,).
        x_scale: Scales of the features, shape (features,).
        y_mean: Mean of the targets.
        y_scale: Scale of the targets.
    """

    z: Array
    y: Array
    weight: float
    x_mean: Array
    x_scale: Array
    y_mean: float
    y_scale: float

    def restore(self, x: Array) -> tuple[Array, float]:
        """Return coefficients and intercept in the user's units.

        Args:
            x: Weights in the units of the design, shape (features,).
        """
        coef: Array = x * (self.y_scale / self.x_scale)
        return coef, self.y_mean - float(self.x_mean @ coef)


def standardise(
    x: Array,
    y: Array,
    sample_weight: Array | None,
    *,
    fit_intercept: bool,
    scale_features: bool,
) -> Design:
    """Return the design of a regression.

    Args:
        x: Features, shape (samples, features).
        y: Targets, shape (samples,).
        sample_weight: Weights of the samples, none negative, not all zero; ones if not given.
        fit_intercept: Whether to centre features and targets.
        scale_features: Whether to bring each feature to unit scale. Features that are constant
            are never scaled, and become zero when centred.

    Example:
        >>> design = standardise(np.array([[1.0], [3.0]]), np.array([0.0, 4.0]), None,
        ...                      fit_intercept=True, scale_features=True)
        >>> design.z.ravel(), design.restore(np.array([1.0]))
        (array([-1.,  1.]), (array([2.]), -2.0))
    """
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    total = float(weights.sum())
    x_mean, y_mean = np.zeros(x.shape[1]), 0.0
    if fit_intercept:
        x_mean, y_mean = weights @ x / total, float(weights @ y) / total
    z = np.empty(x.shape, order="F")
    np.subtract(x, x_mean, out=z)
    spread = np.sqrt(np.einsum("i,ij,ij->j", weights, z, z) / total)
    # Below rounding of the mean, a spread is none: the feature is constant.
    flat = spread <= 10 * np.finfo(np.float64).eps * np.abs(x_mean)
    if fit_intercept:
        z[:, flat] = 0.0
    flat |= spread == 0
    x_scale = np.where(flat, 1.0, spread) if scale_features else np.ones_like(spread)
    z /= x_scale
    centred = y - y_mean
    y_scale = float(np.sqrt(weights @ centred**2 / total)) or 1.0
    root = np.sqrt(weights)
    z *= root[:, None]
    return Design(z, centred / y_scale * root, total, x_mean, x_scale, y_mean, y_scale)
