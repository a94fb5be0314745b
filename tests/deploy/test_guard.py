"""One bad moment of the machine decides nothing: not for the compiled model, nor against it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.deploy import CompileOptions, compile, guard, speed_report
from mirrormask.deploy.timing import Timings

ROUNDS = 8
QUICK = CompileOptions(layer_rounds=7, net_rounds=ROUNDS)
CALM_WIN, CALM_LOSS = [0.5] * ROUNDS, [1.5] * ROUNDS
NOISY_WIN = [0.8] * 5 + [3.0] * 3
NOISY_LOSS = [1.2] * 5 + [0.4] * 3


@pytest.fixture
def measured(monkeypatch):
    """Return a function that sets the milliseconds of all but the dense net, by attempt."""

    def plan(*attempts: list[float]) -> list[list[float]]:
        left = list(attempts)

        def times(runs, *, rounds, block_ms, settle_ms):
            found = left.pop(0)
            return Timings(
                milliseconds={
                    name: (1.0,) * rounds if name == "dense" else tuple(found) for name in runs
                }
            )

        monkeypatch.setattr(guard, "interleave", times)
        return left

    return plan


@pytest.mark.parametrize(
    ("attempts", "faster", "left"),
    [
        ([CALM_WIN, CALM_LOSS], True, 1),
        ([CALM_LOSS, CALM_WIN], False, 1),
        ([NOISY_WIN, CALM_WIN, CALM_LOSS], True, 1),
        ([NOISY_WIN, CALM_LOSS, CALM_WIN], False, 1),
        ([NOISY_LOSS, CALM_WIN, CALM_LOSS], True, 1),
        ([NOISY_LOSS, CALM_LOSS, CALM_WIN], False, 1),
        ([NOISY_WIN, NOISY_LOSS, NOISY_WIN, CALM_WIN], False, 1),
    ],
)
def test_noise_is_measured_again(sparsify, measured, attempts, faster, left):
    model = sparsify(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)), 0.9)
    rest = measured(*attempts)
    report = speed_report(compile(model, torch.randn(4, 64), options=QUICK))
    assert report.faster is faster
    assert len(rest) == left
