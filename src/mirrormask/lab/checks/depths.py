"""Claim 23: the imbalance of deep factors and of gated groups."""

from __future__ import annotations

import numpy as np

from mirrormask.lab.depth import deep_flow, gated_flow

TIMES = np.array([0.3, 1.0, 2.0])
STRENGTH = 0.4


def _decay(depth: int, rate: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.exp(-rate * STRENGTH * TIMES / depth)


def deep_imbalance_error(*, rate: float = 4.0) -> float:
    """Return the largest deviation of v_i² - v_j² from its start times exp(-4 lambda t / D)."""
    rng = np.random.default_rng(8)
    worst = 0.0
    for depth in (2, 3, 4):
        start = rng.normal(size=(depth, 5))
        path = deep_flow(lambda t, x: x - np.cos(t), start, STRENGTH, TIMES)
        apart = path[:, 1:] ** 2 - path[:, :1] ** 2
        want = (start[1:] ** 2 - start[:1] ** 2) * _decay(depth, rate)[:, None, None]
        worst = max(worst, float(np.abs(apart - want).max()))
    return worst


def gated_imbalance_error(*, rate: float = 4.0) -> float:
    """Return the largest deviation of |v|² - s² of a gated group from the same law."""
    rng = np.random.default_rng(9)
    worst = 0.0
    for depth in (2, 3, 4):
        group, gates = rng.normal(size=6), rng.normal(size=depth - 1)
        v, s = gated_flow(lambda t, x: x - np.cos(t), group, gates, STRENGTH, TIMES)
        apart = np.square(v).sum(axis=1)[:, None] - s**2
        want = (group @ group - gates**2) * _decay(depth, rate)[:, None]
        worst = max(worst, float(np.abs(apart - want).max()))
    return worst
