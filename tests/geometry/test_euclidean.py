from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mirrormask.geometry import Euclidean

VALUES = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e3, 1e3))


@given(x=VALUES, amount=st.floats(0, 10))
def test_shrink_minimises_the_proximal_objective(x: np.ndarray, amount: float) -> None:
    geometry = Euclidean()
    latents = geometry.split(torch.from_numpy(x))
    geometry.shrink(latents, amount)
    got = geometry.compose(latents).numpy()

    def objective(u: np.ndarray) -> np.ndarray:
        return 0.5 * (u - x) ** 2 + amount * np.abs(u)

    best = objective(got)
    for other in (got + 1e-3, got - 1e-3, np.zeros_like(x), x):
        assert (objective(other) >= best - 1e-9 * (1 + np.abs(x))).all()


def test_split_copies_and_decay_is_an_l2_penalty() -> None:
    x = torch.tensor([1.0, -3.0])
    geometry = Euclidean()
    latents = geometry.split(x)
    geometry.decay(latents, 0.1)
    torch.testing.assert_close(geometry.compose(latents), x * 0.8)
    assert x.tolist() == [1.0, -3.0]
    assert geometry.scale(latents) == float("inf")


def test_gradient_and_output_pass_through() -> None:
    x = torch.randn(5)
    geometry = Euclidean()
    latents = geometry.split(x)
    grad = torch.randn(5)
    assert torch.equal(geometry.pull_back(latents, grad)["x"], grad)
    out = torch.empty(5, dtype=torch.bfloat16)
    assert geometry.compose(latents, out=out) is out
    assert torch.equal(out, x.bfloat16())
