from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from mirrormask.errors import ArgumentError
from mirrormask.lab import MirrorRegressor, MirrorRegressorCV
from mirrormask.lab.interpolation import least_potential


@parametrize_with_checks(
    [
        MirrorRegressor(),
        MirrorRegressor(scale=1e-8, penalty=0.01),
        MirrorRegressorCV(cv=3, n_penalties=8, scales=(1e-1, 1e-6)),
    ]
)
def test_keeps_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture
def wide() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = 5 + rng.normal(size=(40, 150)) * rng.uniform(0.1, 10, size=150)
    truth = np.zeros(150)
    truth[[4, 50, 99]] = [2.0, -1.0, 0.5]
    return x, x @ truth + 7, truth


def test_finds_sparse_truth_in_any_units(
    wide: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, truth = wide
    model = MirrorRegressor(scale=1e-9).fit(x, y)
    np.testing.assert_allclose(model.coef_, truth, atol=1e-4)
    np.testing.assert_allclose(model.predict(x), y, rtol=1e-6)
    assert model.intercept_ == pytest.approx(7, abs=1e-2)
    moved = MirrorRegressor(scale=1e-9).fit(x * 100 - 3, y * 1e6 + 1)
    np.testing.assert_allclose(moved.coef_, model.coef_ * 1e4, rtol=1e-5, atol=1e-3)


def test_interpolation_is_the_least_potential() -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(5, 12)), rng.normal(size=5)
    model = MirrorRegressor(scale=0.02, cut=0.0, fit_intercept=False, scale_features=False)
    got = model.fit(z, y).coef_
    unit = np.sqrt(np.mean(y**2))
    np.testing.assert_allclose(got, unit * least_potential(z, y / unit, 0.02).x, atol=1e-7)


def test_penalised_fit_tends_to_lasso() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 20))
    y = 2 * x[:, 0] - x[:, 1] + 0.5 * rng.normal(size=50)
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    want = Lasso(alpha=0.1, tol=1e-12).fit(x, y).coef_
    distance = [
        np.abs(MirrorRegressor(scale=a, penalty=0.1, cut=0.0).fit(x, y).coef_ - want).max()
        for a in (1e-2, 1e-8, 1e-60)
    ]
    assert distance[0] > distance[1] > distance[2]
    assert distance[2] < 0.01


def test_unique_solution_whatever_the_scale() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 5))
    y = x @ rng.normal(size=5) + rng.normal(size=60)
    want = LinearRegression().fit(x, y)
    for a in (1.0, 1e-8):
        model = MirrorRegressor(scale=a, cut=0.0).fit(x, y)
        np.testing.assert_allclose(model.coef_, want.coef_, rtol=1e-6)
        assert model.intercept_ == pytest.approx(want.intercept_, rel=1e-6)


def test_inconsistent_data_give_a_least_squares_solution() -> None:
    x = np.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5], [0.0, 1.0, 3.0]])
    y = np.array([1.0, 3.0, 5.0])
    model = MirrorRegressor(scale=0.1, cut=0.0).fit(x, y)
    np.testing.assert_allclose(model.predict(x), [2.0, 2.0, 5.0], atol=1e-8)


def test_weights_count_as_repetitions(
    wide: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = wide
    y = y + np.random.default_rng(0).normal(size=40)
    counts = np.arange(40) % 3
    for penalty in (0.0, 0.05):
        model = MirrorRegressor(scale=1e-3, penalty=penalty, cut=0.0)
        weighted = model.fit(x, y, counts).coef_.copy()
        repeated = model.fit(np.repeat(x, counts, axis=0), np.repeat(y, counts)).coef_
        np.testing.assert_allclose(weighted, repeated, rtol=1e-4, atol=1e-6)


def test_constant_columns_get_nothing_and_do_no_harm(
    wide: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = wide
    plain = MirrorRegressor(scale=1e-6).fit(x, y).coef_
    padded = np.column_stack([x, np.full(40, 0.1), np.zeros(40), np.full(40, 1e9)])
    model = MirrorRegressor(scale=1e-6).fit(padded, y)
    assert not model.coef_[150:].any()
    # Not even the rounding of their mean is learnt from.
    assert not MirrorRegressor(scale=1e-6, cut=0.0).fit(padded, y).coef_[150:].any()
    np.testing.assert_allclose(model.coef_[:150], plain, atol=1e-6)


def test_constant_targets_are_the_intercept() -> None:
    x = np.random.default_rng(0).normal(size=(6, 10))
    for penalty in (0.0, 0.1):
        model = MirrorRegressor(penalty=penalty).fit(x, np.full(6, 4.0))
        assert not model.coef_.any() and model.intercept_ == 4.0


def test_cut_makes_exact_zeros_and_still_interpolates(
    wide: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = wide
    all_of_them = MirrorRegressor(scale=1e-4, cut=0.0).fit(x, y)
    some = MirrorRegressor(scale=1e-4, cut=1e-2).fit(x, y)
    assert (all_of_them.coef_ != 0).all()
    assert (some.coef_ == 0).sum() > 50
    np.testing.assert_allclose(some.predict(x), y, rtol=1e-6)


def test_path_over_scales_and_over_budgets(
    wide: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = wide
    model = MirrorRegressor(cut=0.0)
    scales, coefs = model.path(x, y, budgets=[0.0, 1.0, 2.0])
    np.testing.assert_allclose(scales, 0.5 * np.exp([0.0, -4.0, -8.0]))
    assert coefs.shape == (150, 3)
    same = MirrorRegressor(scale=scales[1], cut=0.0).fit(x, y).coef_
    np.testing.assert_allclose(coefs[:, 1], same, rtol=1e-6, atol=1e-9)
    with pytest.raises(ArgumentError, match="exactly one"):
        model.path(x, y)
    with pytest.raises(ArgumentError, match=r"a=-1\.0"):
        model.path(x, y, scales=[-1.0])


@pytest.mark.parametrize(
    "options",
    [{"scale": 0.0}, {"scale": -1.0}, {"penalty": -0.1}, {"cut": 1.0}, {"tol": 0.0}],
)
def test_bad_options_are_refused_by_name(options: dict[str, float]) -> None:
    name = "a=" if "scale" in options else next(iter(options))
    with pytest.raises(ArgumentError, match=name):
        MirrorRegressor(**options).fit(np.eye(3), np.ones(3))


def test_bad_data_are_refused() -> None:
    x, y = np.eye(3), np.ones(3)
    with pytest.raises(ValueError, match="NaN"):
        MirrorRegressor().fit(np.where(x > 0, np.nan, x), y)
    with pytest.raises(ValueError, match="NaN"):
        MirrorRegressor().fit(x, [1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="zero"):
        MirrorRegressor().fit(x, y, np.zeros(3))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        MirrorRegressor().fit(x, y, [1.0, -1.0, 1.0])


def test_cross_validation_prefers_sparse_scales_on_sparse_truth() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 200))
    y = 2 * x[:, 3] - 3 * x[:, 8] + 0.3 * rng.normal(size=60)
    model = MirrorRegressorCV(cv=4, n_penalties=15).fit(x, y)
    assert model.scale_ <= 1e-2
    assert model.mse_path_.shape == (4, 15, 4)
    mean = model.mse_path_.mean(axis=2)
    at = (list(model.scales_).index(model.scale_), list(model.penalties_).index(model.penalty_))
    assert mean[at] == mean.min()
    fresh = rng.normal(size=(200, 200))
    assert model.score(fresh, 2 * fresh[:, 3] - 3 * fresh[:, 8]) > 0.97
    assert model.mse_cuts_.shape == (7, 4)
    assert model.mse_cuts_.mean(axis=1).min() == pytest.approx(
        model.mse_cuts_[list(model.cuts).index(model.cut_)].mean()
    )
    sparser = MirrorRegressorCV(cv=4, n_penalties=15, allowance=1.0).fit(x, y)
    assert sparser.cut_ >= model.cut_
    assert set(np.flatnonzero(sparser.coef_)) >= {3, 8}
    assert (sparser.coef_ != 0).sum() <= (model.coef_ != 0).sum()
    with pytest.raises(ArgumentError, match="cuts"):
        MirrorRegressorCV(cuts=(1.0,)).fit(x, y)
    with pytest.raises(ArgumentError, match="allowance"):
        MirrorRegressorCV(allowance=-1.0).fit(x, y)
    with pytest.raises(ArgumentError, match="scales"):
        MirrorRegressorCV(scales=()).fit(x, y)
    with pytest.raises(ArgumentError, match="n_penalties=0"):
        MirrorRegressorCV(n_penalties=0).fit(x, y)


def test_cut_spares_what_is_small_but_needed() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(60, 200))
    y = 2 * x[:, 3] - 3 * x[:, 8] + 0.5 * x[:, 20] + 0.1 * rng.normal(size=60)
    for allowance in (0.0, 1.0):
        model = MirrorRegressorCV(cv=4, n_penalties=15, allowance=allowance).fit(x, y)
        assert 0 < model.cut_ <= 0.1
        assert set(np.flatnonzero(model.coef_)) >= {3, 8, 20}
