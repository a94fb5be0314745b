"""Attention in all its forms: packed and separate projections, added biases, plain SDPA."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mirrormask.study.transformer import Transformer


def batch(step: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


def test_packed_projections(check) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def loss(net: nn.Module, step: int) -> Tensor:
        x = batch(step, 8, 5, 16)
        return F.mse_loss(net(x, x, x)[0], x.roll(1, 1))

    report = check(attention, loss)
    assert [t.name for t in report.tensors] == ["in_proj_weight", "out_proj.weight"]
    # The fast path of inference reads the same weights.
    x = batch(0, 8, 5, 16)
    slow = attention.train()(x, x, x)[0]
    with torch.inference_mode():
        fast = attention.eval()(x, x, x)[0]
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


def test_separate_projections_with_biases_of_three_dimensions(check) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, kdim=8, vdim=12, add_bias_kv=True, batch_first=True)
    assert attention.bias_k.shape == (1, 1, 16)

    def loss(net: nn.Module, step: int) -> Tensor:
        q, k, v = (batch(step, 8, 5, width) for width in (16, 8, 12))
        return F.mse_loss(net(q, k, v)[0], q)

    report = check(attention, loss)
    names = ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    assert [t.name for t in report.tensors] == names


def test_scaled_dot_product_attention_with_a_tied_head_named(check) -> None:
    torch.manual_seed(0)
    net = Transformer(20, 6, width=16, heads=2, layers=1, tied=True)

    def loss(net: nn.Module, step: int) -> Tensor:
        tokens = torch.randint(20, (8, 6), generator=torch.Generator().manual_seed(step))
        return F.cross_entropy(net(tokens).flatten(0, 1), tokens.roll(1, 1).flatten())

    report = check(net, loss, include=["token", "blocks"])
    assert net.head.weight is net.token.weight
    assert report.tensors[0].name == "token.weight"
    assert report.weights == 20 * 16 + 12 * 16 * 16  # the tied tensor once
    assert (net.head.weight == 0).any()
