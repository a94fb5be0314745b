"""The vectorised descent against one written as plain loops, and its rivals against LASSO."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import Lasso

from mirrormask.errors import ArgumentError
from mirrormask.lab.problems import Problems, sparse_problems
from mirrormask.lab.regression import Run, descend
from mirrormask.lab.schedules import Constant, Geometric, Quadratic, step_strengths

LR, STEPS = 2e-3, 300


def plain(z: np.ndarray, y: np.ndarray, x0: np.ndarray, run: Run) -> np.ndarray:
    """Return the end of one run on one problem, written from the formulas."""
    x = x0.copy()
    if run.method in ("factors", "mask-l1"):
        if run.start == "equal":
            m = np.sqrt(np.abs(x0))
            w = m.copy()
        elif run.start == "spred":
            m = np.sqrt(np.abs(x0))
            w = np.sign(x0) * m
        else:
            m = np.sqrt((np.sqrt(4 * x0**2 + run.beta**2) + run.beta) / 2)
            w = x0 / m
        x = m * w
    ahead, pace = x.copy(), 1.0
    for alpha in step_strengths(run.schedule, STEPS, LR):
        g = z.T @ (z @ x - y)
        if run.method == "factors":
            m, w = (
                m - LR * (g * w + 2 * alpha * m),
                w - LR * (g * m + 2 * alpha * w),
            )
            x = m * w
        elif run.method == "mask-l1":
            m, w = m - LR * (g * w + 2 * alpha * np.sign(m)), w - LR * g * m
            x = m * w
        elif run.method == "subgradient":
            x = x - LR * (g + 2 * alpha * np.sign(x))
        else:
            moved = ahead - LR * z.T @ (z @ ahead - y)
            moved = np.sign(moved) * np.maximum(np.abs(moved) - 2 * LR * alpha, 0)
            following = (1 + math.sqrt(1 + 4 * pace**2)) / 2
            fast = run.method == "fista"
            ahead = moved + ((pace - 1) / following * (moved - x) if fast else 0.0)
            x, pace = moved, following
    return x


SCHEDULE = Geometric(strength=2.0, unit=0.1, ratio=0.8)
RUNS = [
    Run(name="balanced", schedule=SCHEDULE),
    Run(name="small beta", schedule=Quadratic(strength=1.0), beta=0.1),
    Run(name="spred", schedule=Constant(strength=0.5), start="spred"),
    Run(name="equal", schedule=SCHEDULE, start="equal"),
    Run(name="mask", schedule=SCHEDULE, method="mask-l1"),
    Run(name="subgradient", schedule=SCHEDULE, method="subgradient"),
    Run(name="ista", schedule=SCHEDULE, method="ista"),
    Run(name="fista", schedule=Constant(strength=1.0), method="fista"),
]


def test_all_runs_at_once_equal_each_run_alone(problems: Problems) -> None:
    trace = descend(problems, RUNS, steps=STEPS, lr=LR, records=7)
    for j, run in enumerate(RUNS):
        for seed in range(problems.seeds):
            want = plain(problems.z[seed], problems.y[seed], problems.x0[seed], run)
            np.testing.assert_allclose(trace.x[seed, j], want, rtol=1e-9, atol=1e-12)
            error = np.linalg.norm(want - problems.truth[seed])
            assert trace.final(run.name)[seed] == pytest.approx(error, rel=1e-9)
            loss = 0.5 * np.square(problems.z[seed] @ want - problems.y[seed]).sum()
            assert trace.loss[-1, seed, j] == pytest.approx(loss, rel=1e-7, abs=1e-20)


def test_the_first_record_is_the_start(problems: Problems) -> None:
    trace = descend(problems, RUNS, steps=STEPS, lr=LR, records=7)
    assert trace.steps[0] == 0 and trace.steps[-1] == STEPS
    start = np.linalg.norm(problems.x0 - problems.truth, axis=1)
    np.testing.assert_allclose(trace.error[0, :, trace.names.index("ista")], start, rtol=1e-12)
    np.testing.assert_allclose(trace.error[0, :, trace.names.index("balanced")], start, rtol=1e-12)
    frozen = np.linalg.norm(np.abs(problems.x0) - problems.truth, axis=1)
    np.testing.assert_allclose(trace.error[0, :, trace.names.index("equal")], frozen, rtol=1e-12)


def test_proximal_rivals_end_at_lasso(problems: Problems) -> None:
    runs = [
        Run(name=method, schedule=Constant(strength=0.4), method=method)  # type: ignore[arg-type]
        for method in ("ista", "fista")
    ]
    trace = descend(problems, runs, steps=20_000, lr=0.01, records=1)
    for seed in range(problems.seeds):
        z, y = problems.z[seed], problems.y[seed]
        lasso = Lasso(alpha=0.8 / len(y), fit_intercept=False, tol=1e-14, max_iter=10**6)
        want = lasso.fit(z, y).coef_
        for j in range(2):
            np.testing.assert_allclose(trace.x[seed, j], want, atol=1e-6)


def test_equal_factors_never_go_below_zero(problems: Problems) -> None:
    trace = descend(problems, RUNS, steps=STEPS, lr=LR)
    assert (trace.x[:, trace.names.index("equal")] >= 0).all()


def test_batches_are_seeded_and_unbiased(problems: Problems) -> None:
    runs = RUNS[:1]
    first = descend(problems, runs, steps=STEPS, lr=LR, batch=5, seed=3)
    again = descend(problems, runs, steps=STEPS, lr=LR, batch=5, seed=3)
    other = descend(problems, runs, steps=STEPS, lr=LR, batch=5, seed=4)
    np.testing.assert_array_equal(first.x, again.x)
    assert np.abs(first.x - other.x).max() > 1e-6
    # One step from the same start, averaged over many batches, is the step of the whole gradient.
    small = {"steps": 1, "lr": 1e-6, "records": 1}
    mean = np.mean(
        [descend(problems, runs, batch=5, seed=s, **small).x for s in range(800)], axis=0
    )
    start = problems.x0[:, None, :]
    whole = descend(problems, runs, **small).x
    assert np.linalg.norm(mean - whole) < 0.1 * np.linalg.norm(whole - start)


def test_seeds_do_not_depend_on_their_number() -> None:
    many, one = sparse_problems(seeds=3), sparse_problems(seeds=1, first_seed=2)
    np.testing.assert_array_equal(many.z[2], one.z[0])
    assert ((many.truth != 0).sum(axis=1) == 5).all()
    np.testing.assert_allclose(np.einsum("sdn,sn->sd", many.z, many.truth), many.y)


def test_bad_arguments_are_refused_by_name(problems: Problems) -> None:
    with pytest.raises(ArgumentError, match="cannot be told apart"):
        descend(problems, [RUNS[0], RUNS[0]], steps=1)
    with pytest.raises(ArgumentError, match="batch=0"):
        descend(problems, RUNS, steps=1, batch=0)
    with pytest.raises(ArgumentError, match="steps=0"):
        descend(problems, RUNS, steps=0)
    with pytest.raises(ArgumentError, match="method='newton'"):
        Run(name="x", schedule=SCHEDULE, method="newton")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"beta=0\.0"):
        Run(name="x", schedule=SCHEDULE, beta=0.0)
    with pytest.raises(ArgumentError, match="nonzeros=200"):
        sparse_problems(nonzeros=200)
