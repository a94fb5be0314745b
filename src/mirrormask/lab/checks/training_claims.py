"""Claims 20-24: the optimizer, deep factors, the controller."""

from __future__ import annotations

from functools import partial

from mirrormask.lab.checks import depths, training
from mirrormask.lab.checks.check import Check

CHECKS: tuple[Check, ...] = (
    Check(
        number="20a",
        statement="a rebalance leaves the outputs of a network unchanged (relative, float32)",
        oracle="outputs before and after",
        sense="at most",
        tolerance=1e-6,
        measure=training.rebalance_error,
        alteration="weights off by 1e-3",
        altered=partial(training.rebalance_error, share=1.001),
    ),
    Check(
        number="20b",
        statement="and brings m² − w² back to beta (float32)",
        oracle="beta",
        sense="at most",
        tolerance=1e-6,
        measure=training.rebalanced_balance_error,
        alteration="no rebalance",
        altered=partial(training.rebalanced_balance_error, rebalances=0),
    ),
    Check(
        number="21",
        statement="the weight in the model is m⊙w after every step, bit for bit",
        oracle="counted differences",
        sense="at most",
        tolerance=0.0,
        measure=training.product_mismatches,
        alteration="m moved by 1e-3",
        altered=partial(training.product_mismatches, drift=1e-3),
    ),
    Check(
        number="22",
        statement="momentum mu multiplies the budget by 1/(1 − mu), if lr·alpha ≪ (1 − mu)²",
        oracle="fall of the balance, 4 momenta",
        sense="at most",
        tolerance=0.02,
        measure=training.momentum_budget_error,
        alteration="no gain",
        altered=partial(training.momentum_budget_error, gain=0.0),
    ),
    Check(
        number="23a",
        statement="D factors: differences of squares decay as exp(−4·lambda·t/D), D = 2, 3, 4",
        oracle="SciPy's DOP853",
        sense="at most",
        tolerance=1e-10,
        measure=depths.deep_imbalance_error,
        alteration="exponent 2",
        altered=partial(depths.deep_imbalance_error, rate=2.0),
    ),
    Check(
        number="23b",
        statement="gated groups: |v|² − s² decays by the same law",
        oracle="SciPy's DOP853",
        sense="at most",
        tolerance=1e-10,
        measure=depths.gated_imbalance_error,
        alteration="exponent 2",
        altered=partial(depths.gated_imbalance_error, rate=2.0),
    ),
    Check(
        number="24",
        statement="Algorithm 1: peak ≤ alpha_init·delta^(T/2), last ≤ alpha_init (largest ratio)",
        oracle="all sequences of up to 12 epochs",
        sense="at most",
        tolerance=1.0,
        measure=training.algorithm1_excess,
        alteration="rises during the whole run",
        altered=partial(training.algorithm1_excess, rising_part=1.0),
    ),
)
