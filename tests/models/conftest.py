"""One short run on any kind of module, and what every kind has to do in it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import mirrormask as mm

STEPS = 12

Check = Callable[..., mm.SparsityReport]


@pytest.fixture(params=["pilot", "pilot-mirror", "l1-freeze"])
def method(request: pytest.FixtureRequest) -> str:
    """Factors, Mirror and proximal steps in turn."""
    return request.param


@pytest.fixture
def check(method: str) -> Check:
    """Train, and see that the start is the given one, the end is exact, and a resume the same.

    Args of what it returns:
        model: With weights of its own.
        loss: Of the model, given the number of a step.
        include, exclude, sparsity: As of ``sparsify``.
    """

    def run(
        model: nn.Module,
        loss: Callable[[nn.Module, int], Tensor],
        *,
        sparsity: float = 0.75,
        include: mm.selection.Patterns | None = None,
        exclude: mm.selection.Patterns | None = None,
    ) -> mm.SparsityReport:
        def wrap(net: nn.Module) -> mm.SparseOptimizer:
            # Adam's usual epsilon is zero in float16.
            base = torch.optim.AdamW(net.parameters(), lr=3e-3, eps=1e-6, weight_decay=0.0)
            return mm.sparsify(
                base,
                net,
                sparsity=sparsity,
                steps=STEPS,
                method=method,
                include=include,
                exclude=exclude,
                seed=0,
            )

        def train(net: nn.Module, optimizer: mm.SparseOptimizer, first: int, last: int) -> None:
            for step in range(first, last):
                optimizer.zero_grad()
                loss(net, step).backward()
                optimizer.step()

        fresh = copy.deepcopy(model)
        before = loss(model, 0).item()
        optimizer = wrap(model)
        assert loss(model, 0).item() == pytest.approx(before, rel=1e-4, abs=1e-6)
        train(model, optimizer, 0, STEPS // 3)
        file = io.BytesIO()
        torch.save((model.state_dict(), optimizer.state_dict()), file)
        file.seek(0)
        weights, state = torch.load(file, weights_only=True)
        fresh.load_state_dict(weights)
        resumed = wrap(fresh)
        resumed.load_state_dict(state)
        train(model, optimizer, STEPS // 3, STEPS)
        train(fresh, resumed, STEPS // 3, STEPS)
        report = optimizer.finalize()
        assert resumed.finalize() == report
        for (name, one), two in zip(
            model.state_dict().items(), fresh.state_dict().values(), strict=True
        ):
            assert torch.equal(one, two), name
            assert torch.isfinite(one).all(), name
        named = dict(model.named_parameters(remove_duplicate=False))
        assert report.zeros == report.asked_zeros
        assert report.zeros == sum(int((named[t.name] == 0).sum()) for t in report.tensors)
        assert torch.isfinite(loss(model, 0))
        return report

    return run
