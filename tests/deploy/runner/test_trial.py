"""What may run in regions, and what must not, because it would not be the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.deploy.runner.attached import planned_of
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.trial import with_program, with_regions
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


class Mixing(nn.Module):
    """Attention from example to example, between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(torch.sin(x).transpose(0, 1))[:, None]
        y = F.scaled_dot_product_attention(y, y, y)
        return torch.sin(self.b(y.flatten(1, 2)).transpose(0, 1))


class Fixed(nn.Module):
    """A network that knows its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.a(x.reshape(4, -1, 8)))


class Outer(nn.Module):
    """A mean over the batch that is torch's to take."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x)
        return self.b(y - y.mean(0, keepdim=True))


@pytest.mark.parametrize(
    ("model", "reason"), [(Mixing, "depend on each other"), (Fixed, "rejects")]
)
def test_regions_whose_examples_depend_on_each_other_are_refused(thin, model, reason):
    net, x = thin(model(), 0.6).requires_grad_(False), torch.randn(4, 5, 8)
    with pytest.raises(UnsupportedError, match=reason):
        with_regions(net, net, (x,), part=1, slow=())


class Alone(nn.Module):
    """A network that takes another way for one example alone."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.a(x)) if x.shape[0] > 1 else torch.cos(self.a(x))


class Squeezed(Alone):
    """A network whose outputs have no batch for one example."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.a(x)[:, None].squeeze())


class Changing(Alone):
    """A network that changes its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.a(x.view(-1, 8).relu_()))


class Empty(Alone):
    """A network that returns nothing."""

    def forward(self, x: torch.Tensor) -> tuple[()]:
        self.a(x)
        return ()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Alone, "outputs that differ"),
        (Squeezed, "depends on the batch size"),
        (Changing, "changes its buffers or inputs"),
        (Empty, "other than tensors"),
    ],
)
def test_what_would_not_be_the_same_is_refused(thin, model, reason):
    net, x = thin(model(), 0.6).requires_grad_(False), torch.randn(4, 8)
    with pytest.raises(UnsupportedError, match=reason):
        with_regions(net, net, (x,), part=1, slow=())
    if model in (Alone, Squeezed):
        assert planned_of(with_regions(net, net, (x,), part=2, slow=())).part == 2
        return
    with pytest.raises(UnsupportedError, match=reason):
        with_program(net, net, (x,), net(x.clone()))


@pytest.mark.parametrize("part", [1, 4])
def test_torch_sees_the_whole_batch(thin, part):
    net, x = thin(Outer(), 0.6).requires_grad_(False), torch.randn(4, 8)
    found = with_regions(net, net, (x,), part=part, slow=())
    for count in (4, 8, 12):
        more = torch.randn(count, 8)
        assert torch.allclose(found(more), net(more), atol=1e-5)


def test_inputs_that_are_no_tensors_have_neither_program_nor_regions(thin):
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = thin(nn.Linear(8, 8), 0.6)

        def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
            return self.inner(x) * factor

    fast = mm.compile(Scaled(), (torch.randn(2, 8), 2.0))
    assert "not run as one program: inputs that are no tensors" in fast.speed_report.notes
    assert "not run in regions: inputs that are no tensors [n, ...] on the CPU" in (
        fast.speed_report.notes
    )


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ((torch.randn(4, 8), torch.randn(3, 8)), "different batch sizes"),
        ((torch.randn(4, 8), 2.0), "no tensors"),
        ((torch.randn(0, 8),), "no tensors"),
        ((), "no tensors"),
    ],
)
def test_inputs_without_a_common_batch_are_refused(thin, inputs, reason):
    net = thin(Outer(), 0.6)
    with pytest.raises(UnsupportedError, match=reason):
        with_regions(net, net, inputs)
