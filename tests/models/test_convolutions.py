"""Convolutions: depthwise, grouped, transposed; and where structured zeros find their outputs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean
from mirrormask.masking import AtEnd, NofM, Pattern, Rows

KINDS: dict[str, Callable[[], nn.Module]] = {
    "depthwise": lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8),
    "depthwise, multiplied": lambda: nn.Conv1d(8, 16, 3, padding=1, groups=8),
    "grouped": lambda: nn.Conv2d(8, 12, 3, padding=1, groups=4),
    "transposed": lambda: nn.ConvTranspose2d(8, 12, 3, padding=1),
    "transposed, grouped": lambda: nn.ConvTranspose1d(8, 12, 4, stride=2, groups=2),
    "transposed, 3d": lambda: nn.ConvTranspose3d(8, 4, 2, stride=2),
}


def images(layer: nn.Module, step: int) -> Tensor:
    size = [4, 8] + [5] * (layer.weight.ndim - 2)
    return torch.randn(size, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind(check, kind: str) -> None:
    torch.manual_seed(0)
    net = KINDS[kind]()

    def loss(net: nn.Module, step: int) -> Tensor:
        scores = net(images(net, step))
        return F.mse_loss(scores, torch.ones_like(scores).cumsum(-1) / 5)

    assert check(net, loss).weights == net.weight.numel()


def cut(layer: nn.Module, pattern: Pattern, sparsity: float) -> nn.Module:
    recipe = mm.Recipe(geometry=Euclidean(), masking=AtEnd(pattern=pattern))
    base = torch.optim.SGD(layer.parameters(), lr=0.1)
    mm.sparsify(base, layer, sparsity=sparsity, steps=1, method=recipe).finalize()
    return layer


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_output_channels(kind: str) -> None:
    torch.manual_seed(0)
    layer = KINDS[kind]()
    x, zero = images(layer, 0), torch.zeros_like(layer.bias)
    cut(layer, Rows(), 0.5)
    layer.bias.data = zero
    silent = layer(x).abs().amax(dim=[0, *range(2, x.ndim)]) == 0
    # Told by the output alone: half of the channels say nothing, whatever comes in.
    assert int(silent.sum()) == layer.out_channels // 2


@pytest.mark.parametrize(("groups", "n", "m"), [(1, 2, 4), (2, 1, 4), (2, 1, 2)])
def test_n_of_m_counts_inputs_of_a_transposed_convolution(groups: int, n: int, m: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 6, 3, groups=groups, bias=False)
    cut(layer, NofM(n, m), 1 - n / m)
    # Each output channel, probed at one place of the kernel: which inputs reach it?
    for place in ((0, 0), (1, 2)):
        reach = torch.stack(
            [
                layer(torch.eye(8)[i].view(1, 8, 1, 1))[0, :, place[0], place[1]] != 0
                for i in range(8)
            ]
        )
        inputs = 8 // groups
        for channel in range(6):
            group = channel // (6 // groups)
            own = reach[group * inputs : (group + 1) * inputs, channel]
            assert own.view(-1, m).sum(1).tolist() == [n] * (inputs // m)


def test_n_of_m_refuses_inputs_of_a_transposed_convolution_that_do_not_fit() -> None:
    layer = nn.ConvTranspose2d(6, 8, 3)
    with pytest.raises(ArgumentError, match=r"'weight' has an input dimension of 6"):
        cut(layer, NofM(2, 4), 0.5)


def test_the_linear_layer_of_gpt2_is_stored_inputs_first() -> None:
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    torch.manual_seed(0)
    layer = pytorch_utils.Conv1D(6, 8)  # 8 inputs, 6 outputs
    cut(layer, Rows(), 0.5)
    assert int((layer(torch.randn(5, 8)) == 0).all(0).sum()) == 3
    layer = cut(pytorch_utils.Conv1D(6, 8), NofM(2, 4), 0.5)
    assert ((layer.weight != 0).view(2, 4, 6).sum(1) == 2).all()
