"""MirrorRegressor: the sparse interpolator as a scikit-learn estimator, for p >> n."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mirrormask.errors import ArgumentError
from mirrormask.lab.design import Design, standardise
from mirrormask.lab.dual import newton
from mirrormask.lab.interpolation import descend_scales, independent_rows
from mirrormask.lab.potential import check_scale
from mirrormask.lab.schedules import Array

LIMIT = 2000
"""Most Newton steps of one fit; a fit takes about 30."""


class MirrorRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear regression that ends where the mirror flow of ``x = m * w`` ends.

    With ``penalty=0`` it is the least potential ``R_a`` among all least-squares solutions: at a
    large scale ``a`` the one of least L2 norm, as ``a`` falls ever more the one of least L1 norm.
    With a penalty it minimises ``1/2 mean(error²) + penalty * P_a(coef)``, where ``P_a`` is the
    potential divided by ``arcsinh(1/a) / 2``: ridge-like at a large scale, scikit-learn's Lasso of
    ``alpha = penalty`` as the scale falls. Scale and penalty are in units of one standard
    deviation of each feature and of the targets.

    With at least as many independent samples as features the least-squares solution is unique, so
    that with ``penalty=0`` the scale has no effect.

    Source: Jacobs & Burkholz (ICLR 2025), optimality in under-determined regression.

    Args:
        scale: Scale ``a`` of the potential, positive; ``exp(-4 A) / 2`` after a budget ``A``.
        penalty: Weight of the potential, at least 0; 0 interpolates.
        cut: Features whose standardised coefficient is below ``cut`` times the largest get an
            exact zero, and the rest is fitted again without them; 0 to keep all.
        fit_intercept: Whether to fit an intercept.
        scale_features: Whether to bring features to unit standard deviation first.
        tol: Largest residual of the optimality conditions, relative to the largest target.

    Attributes:
        coef_: Coefficients, shape (n_features,).
        intercept_: Intercept.
        n_iter_: Newton steps taken.
        n_features_in_: Number of features seen.

    Raises:
        ArgumentError: In ``fit``, if an argument is outside its domain; scikit-learn's own errors
            for data that are not finite or do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(40, 200))
        >>> model = MirrorRegressor(scale=1e-9).fit(X, 3 * X[:, 7] - 2 * X[:, 11])
        >>> np.flatnonzero(model.coef_), model.coef_[[7, 11]].round(3)
        (array([ 7, 11]), array([ 3., -2.]))
    """

    def __init__(
        self,
        *,
        scale: float = 1e-4,
        penalty: float = 0.0,
        cut: float = 1e-3,
        fit_intercept: bool = True,
        scale_features: bool = True,
        tol: float = 1e-9,
    ) -> None:
        self.scale = scale
        self.penalty = penalty
        self.cut = cut
        self.fit_intercept = fit_intercept
        self.scale_features = scale_features
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients.

        Args:
            X: Features, shape (n_samples, n_features).
            y: Targets, shape (n_samples,).
            sample_weight: Weights of the samples, shape (n_samples,); as if repeated so often.
        """
        design = self._design(X, y, sample_weight)
        x, self.n_iter_ = solve(design, self.scale, self.penalty, self.tol)
        x, more = refit(design, x, self.scale, self.penalty, cut=self.cut, tol=self.tol)
        self.n_iter_ += more
        self.coef_, self.intercept_ = design.restore(x)
        return self

    def predict(self, X: Any) -> Array:
        """Return the predictions, shape (n_samples,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predictions: Array = X @ self.coef_ + self.intercept_
        return predictions

    def path(
        self,
        X: Any,
        y: Any,
        *,
        scales: Sequence[float] | None = None,
        budgets: Sequence[float] | None = None,
    ) -> tuple[Array, Array]:
        """Return the coefficients along a path of scales, or of budgets A (``a = exp(-4A)/2``).

        Args:
            X: Features, shape (n_samples, n_features).
            y: Targets, shape (n_samples,).
            scales: The scales, positive.
            budgets: The budgets, at least 0; give these or the scales.

        Returns:
            The scales, shape (k,), and the coefficients, shape (n_features, k); no cut is made.

        Example:
            >>> X, y = np.array([[1.0, 2.0]]), np.array([2.0])
            >>> model = MirrorRegressor(fit_intercept=False, scale_features=False)
            >>> model.path(X, y, budgets=[0.0, 6.0])[1].round(3)
            array([[0.379, 0.   ],
                   [0.811, 1.   ]])
        """
        if (scales is None) == (budgets is None):
            raise ArgumentError("path takes scales or budgets: give exactly one of them.")
        if scales is None:
            scales = [0.5 * math.exp(-4.0 * budget) for budget in budgets or ()]
        design = self._design(X, y, None)
        coefs = [
            design.restore(solve(design, check_scale(float(a)), self.penalty, self.tol)[0])[0]
            for a in scales
        ]
        return np.array(scales, dtype=np.float64), np.stack(coefs, axis=1)

    def _design(self, X: Any, y: Any, sample_weight: Any) -> Design:
        check_scale(self.scale)
        for name, value in (("penalty", self.penalty), ("cut", self.cut)):
            if not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"{name}={value} is out of range: use a finite number >= 0.")
        if not (self.cut < 1 and 0 < self.tol < 1):
            raise ArgumentError(f"cut={self.cut}, tol={self.tol}: use numbers below 1, tol > 0.")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not sample_weight.any():
                raise ArgumentError("sample_weight is zero everywhere: weigh at least one sample.")
        return standardise(
            X,
            y.astype(np.float64),
            sample_weight,
            fit_intercept=self.fit_intercept,
            scale_features=self.scale_features,
        )


def ridge_of(design: Design, scale: float, penalty: float) -> float:
    """Return the weight of ``R_a`` in the dual that a penalty amounts to.

    Example:
        >>> design = standardise(np.eye(2), np.ones(2), None, fit_intercept=False,
        ...                      scale_features=False)
        >>> round(ridge_of(design, 1.0, 0.5), 4)
        2.2692
    """
    return 2.0 * penalty * design.weight / float(np.arcsinh(1.0 / scale))


def solve(design: Design, scale: float, penalty: float, tol: float) -> tuple[Array, int]:
    """Return the standardised weights, shape (features,), and the Newton steps taken."""
    tilt = np.zeros(design.z.shape[1])
    if penalty == 0:
        z, y, _ = independent_rows(design.z, design.y)
        if len(y) == 0:
            return tilt, 0
        found = descend_scales(z, y, scale, tilt=tilt, ridge=0.0, tol=tol, limit=LIMIT)
    else:
        z, y = _fewer_rows(design)
        ridge = ridge_of(design, scale, penalty)
        found = descend_scales(z, y, scale, tilt=tilt, ridge=ridge, tol=tol, limit=LIMIT)
    return found.x, found.steps


def penalty_path(
    design: Design, scale: float, penalties: Sequence[float], tol: float
) -> Iterator[Array]:
    """Yield the standardised weights for falling penalties, each the start of the next.

    Args:
        design: The regression.
        scale: Scale of the potential.
        penalties: The penalties, positive and falling.
        tol: Largest residual, relative to the largest target.
    """
    z, y = _fewer_rows(design)
    tilt, dual = np.zeros(z.shape[1]), np.zeros(len(y))
    unit = max(float(np.abs(y).max()), 1e-300)
    for penalty in penalties:
        ridge = ridge_of(design, scale, penalty)
        found = newton(z, y, scale, tilt=tilt, dual=dual, ridge=ridge, tol=tol * unit, limit=LIMIT)
        dual = found.dual
        yield found.x


def refit(
    design: Design, x: Array, scale: float, penalty: float, *, cut: float, tol: float
) -> tuple[Array, int]:
    """Return the weights with small ones cut to zero and the rest fitted again, and the steps."""
    keep = np.abs(x) > cut * np.abs(x).max(initial=0.0)
    if cut == 0 or keep.all() or not keep.any():
        return x, 0
    kept = Design(
        np.asfortranarray(design.z[:, keep]),
        design.y,
        design.weight,
        design.x_mean[keep],
        design.x_scale[keep],
        design.y_mean,
        design.y_scale,
    )
    again, steps = solve(kept, scale, penalty, tol)
    result = np.zeros_like(x)
    result[keep] = again
    return result, steps


def _fewer_rows(design: Design) -> tuple[Array, Array]:
    """Return a system of at most as many rows as features with the same normal equations."""
    if design.z.shape[0] <= design.z.shape[1]:
        return design.z, design.y
    q, r = np.linalg.qr(design.z)
    return np.asfortranarray(r), q.T @ design.y
