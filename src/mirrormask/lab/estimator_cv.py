"""MirrorRegressorCV: scale and penalty chosen by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mirrormask.errors import ArgumentError
from mirrormask.lab.design import Design, standardise
from mirrormask.lab.estimator import MirrorRegressor, penalty_path, refit, solve
from mirrormask.lab.schedules import Array


class MirrorRegressorCV(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """:class:`MirrorRegressor` with scale, penalty and cut chosen by cross-validation.

    For every fold and scale the penalties are walked from the largest to the smallest, each
    solution the start of the next, so that the whole grid costs little more than a few fits. The
    cut is chosen after them, on the same folds: the largest whose error is within ``allowance``
    standard errors of the best.

    Args:
        scales: Scales to choose from, positive.
        n_penalties: Number of penalties, spread evenly in their logarithm.
        smallest: Smallest penalty as a share of the largest, at which nothing is left.
        cv: Number of folds, or a scikit-learn splitter.
        cuts: Cuts to choose from, each as in :class:`MirrorRegressor`.
        allowance: Standard errors that a larger cut may cost; 0 takes the best cut, 1 is the
            one-standard-error rule.
        fit_intercept: Whether to fit an intercept.
        scale_features: Whether to bring features to unit standard deviation first.
        tol: Largest residual of the optimality conditions, relative to the largest target.

    Attributes:
        scale_: The scale chosen.
        penalty_: The penalty chosen.
        cut_: The cut chosen.
        scales_: The scales tried, shape (s,).
        penalties_: The penalties tried, shape (p,).
        mse_path_: Mean squared error of each fold without a cut, shape (s, p, folds).
        mse_cuts_: The same of each cut at the scale and penalty chosen, shape (cuts, folds).
        coef_: Coefficients, shape (n_features,).
        intercept_: Intercept.
        n_features_in_: Number of features seen.

    Raises:
        ArgumentError: In ``fit``, if an argument is outside its domain.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(60, 300))
        >>> y = 3 * X[:, 7] - 2 * X[:, 11] + 0.1 * rng.normal(size=60)
        >>> model = MirrorRegressorCV(cv=3).fit(X, y)
        >>> set(np.argsort(-np.abs(model.coef_))[:2].tolist()) == {7, 11}
        True
    """

    def __init__(
        self,
        *,
        scales: Sequence[float] = (1e-1, 1e-2, 1e-4, 1e-8),
        n_penalties: int = 30,
        smallest: float = 1e-3,
        cv: Any = 5,
        cuts: Sequence[float] = (0.0, 1e-3, 1e-2, 3e-2, 0.1, 0.2, 0.4),
        allowance: float = 0.0,
        fit_intercept: bool = True,
        scale_features: bool = True,
        tol: float = 1e-6,
    ) -> None:
        self.scales = scales
        self.n_penalties = n_penalties
        self.smallest = smallest
        self.cv = cv
        self.cuts = cuts
        self.allowance = allowance
        self.fit_intercept = fit_intercept
        self.scale_features = scale_features
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Choose scale and penalty, then fit on everything.

        Args:
            X: Features, shape (n_samples, n_features).
            y: Targets, shape (n_samples,).
            sample_weight: Weights of the samples, in fits and in the error.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = y.astype(np.float64)
        weights = np.ones(len(y))
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        whole = self._design(X, y, weights)
        top = 2.0 * float(np.abs(whole.z.T @ whole.y).max()) / whole.weight
        penalties = (top or 1.0) * np.geomspace(1.0, self.smallest, self.n_penalties)
        folds = list(check_cv(self.cv).split(X, y))
        # A fold without weight has nothing to learn from, or nothing to judge by.
        folds = [f for f in folds if weights[f[0]].any() and weights[f[1]].any()]
        if not folds:
            raise ArgumentError("sample_weight leaves no fold to judge by: weigh more samples.")
        self.mse_path_ = np.empty((len(self.scales), len(penalties), len(folds)))
        self.mse_cuts_ = np.empty((len(self.cuts), len(folds)))

        def missed(design: Design, solution: Array, test: Array) -> float:
            coef, intercept = design.restore(solution)
            error = X[test] @ coef + intercept - y[test]
            return float(np.average(error**2, weights=weights[test]))

        for k, (train, test) in enumerate(folds):
            design = self._design(X[train], y[train], weights[train])
            for i, scale in enumerate(self.scales):
                for j, x in enumerate(penalty_path(design, scale, penalties.tolist(), self.tol)):
                    self.mse_path_[i, j, k] = missed(design, x, test)
        mean = self.mse_path_.mean(axis=2)
        row, column = divmod(int(np.argmin(mean)), len(penalties))
        self.scales_, self.penalties_ = np.array(self.scales, dtype=np.float64), penalties
        self.scale_, self.penalty_ = float(self.scales[row]), float(penalties[column])
        for k, (train, test) in enumerate(folds):
            design = self._design(X[train], y[train], weights[train])
            x, _ = solve(design, self.scale_, self.penalty_, self.tol)
            for i, cut in enumerate(self.cuts):
                kept, _ = refit(design, x, self.scale_, self.penalty_, cut=cut, tol=self.tol)
                self.mse_cuts_[i, k] = missed(design, kept, test)
        self.cut_ = self._choose_cut()
        final = MirrorRegressor(
            scale=self.scale_,
            penalty=self.penalty_,
            cut=self.cut_,
            fit_intercept=self.fit_intercept,
            scale_features=self.scale_features,
            tol=self.tol,
        ).fit(X, y, weights)
        self.coef_, self.intercept_ = final.coef_, final.intercept_
        return self

    def predict(self, X: Any) -> Array:
        """Return the predictions, shape (n_samples,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predictions: Array = X @ self.coef_ + self.intercept_
        return predictions

    def _check(self) -> None:
        bad = [a for a in self.scales if not (math.isfinite(a) and a > 0)]
        if bad or not len(self.scales):
            raise ArgumentError(f"scales={self.scales}: use at least one, finite and positive.")
        if not len(self.cuts) or not all(0 <= cut < 1 for cut in self.cuts):
            raise ArgumentError(f"cuts={self.cuts}: use at least one, each in [0, 1).")
        if not (math.isfinite(self.allowance) and self.allowance >= 0):
            raise ArgumentError(f"allowance={self.allowance}: use a finite number >= 0.")
        if self.n_penalties < 1 or not 0 < self.smallest <= 1:
            raise ArgumentError(
                f"n_penalties={self.n_penalties}, smallest={self.smallest} make no path: use at "
                "least one penalty, and a share in (0, 1]."
            )

    def _choose_cut(self) -> float:
        mean = self.mse_cuts_.mean(axis=1)
        best = int(np.argmin(mean))
        worse = self.mse_cuts_ - self.mse_cuts_[best]
        # The folds are shared, so what counts is the error of the difference.
        error = worse.std(axis=1) / math.sqrt(max(worse.shape[1] - 1, 1))
        allowed = worse.mean(axis=1) <= self.allowance * error
        return float(max(cut for cut, fine in zip(self.cuts, allowed, strict=True) if fine))

    def _design(self, X: Array, y: Array, weights: Array) -> Design:
        return standardise(
            X, y, weights, fit_intercept=self.fit_intercept, scale_features=self.scale_features
        )
