"""Weights narrower than float32, whose latents are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import LifecycleError


def loss(net: nn.Module, step: int) -> Tensor:
    x = torch.randn(16, 12, generator=torch.Generator().manual_seed(step))
    scores = net(x.to(net[0].weight.dtype)).float()
    return F.mse_loss(scores, x.roll(1, 1)[:, :5])


def build(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision(check, dtype: torch.dtype) -> None:
    net = build(dtype)
    check(net, loss)
    assert all(parameter.dtype == dtype for parameter in net.parameters())


def test_steps_below_the_spacing_of_bf16_add_up(method: str) -> None:
    """At 1e-4 a step, a bf16 weight near 1 would never move; its latents do."""
    wanted = None
    for latent in ("float32", "bfloat16"):
        net = nn.Linear(4, 4, bias=False).bfloat16()
        nn.init.ones_(net.weight)
        base: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), lr=1e-4)
        if latent == "float32":
            base = mm.sparsify(base, net, sparsity=0.0, steps=200, method=method)
            kept = next(iter(base.weights.values()))
            assert all(tensor.dtype == torch.float32 for tensor in kept.latents.values())
        for _ in range(200):
            base.zero_grad()
            net(torch.eye(4, dtype=torch.bfloat16)).sum().backward()
            base.step()
        if latent == "float32":
            wanted = net.weight.float().mean().item()
        else:
            assert net.weight.float().mean().item() == 1.0
    assert wanted is not None
    assert 0.9 < wanted < 0.985


@pytest.mark.parametrize("kept", [4, 8])
def test_kept_weights_that_float16_cannot_hold_do_not_count_as_zeros(
    method: str, kept: int
) -> None:
    net = nn.Linear(4, 4, bias=False).half()
    values = torch.zeros(16, dtype=torch.float16)
    values[: kept - 1] = torch.linspace(0.1, 1, kept - 1).half()
    values[kept - 1] = 6e-8  # the smallest that float16 has
    net.weight.data = values.view(4, 4)
    base = torch.optim.SGD(net.parameters(), lr=1e-3)
    recipe = mm.Recipe(geometry=mm.METHODS[method].recipe.geometry)
    optimizer = mm.sparsify(base, net, sparsity=1 - kept / 16, steps=3, method=recipe)
    # Half of what float16 can hold, still there in the latents.
    for latents in [weight.latents for weight in optimizer.weights.values()]:
        latents["w" if "w" in latents else "x"].view(-1)[kept - 1] *= 0.3
    net.weight.data.view(-1)[kept - 1] = 0
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 16 - kept


@pytest.mark.parametrize("how", ["half", "bfloat16", "double"])
def test_a_model_converted_after_sparsify_is_refused(method: str, how: str) -> None:
    net = build(torch.float32)
    optimizer = mm.sparsify(
        torch.optim.SGD(net.parameters(), lr=0.1), net, sparsity=0.5, steps=3, method=method
    )
    getattr(net, how)()
    with pytest.raises(LifecycleError, match=r"'0.weight' was float32 \(20, 12\) and became"):
        optimizer.step()
    with pytest.raises(LifecycleError, match="convert the model first"):
        optimizer.finalize()
