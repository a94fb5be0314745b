"""The transformer sees the past alone, and each part of it is what its paper says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.study.transformer import Block, Transformer


def test_scores_depend_on_no_later_token():
    torch.manual_seed(0)
    model = Transformer(vocabulary=11, context=12).double()
    tokens = torch.randint(0, 11, (3, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 11
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :7], before[:, :7], rtol=0, atol=1e-14)
    assert all((after[:, place] != before[:, place]).any() for place in range(7, 12))


def test_a_block_is_causal_attention_and_an_mlp_written_plainly():
    torch.manual_seed(0)
    block = Block(8, heads=2).double()
    x = inputs = torch.randn(2, 5, 8, dtype=torch.float64)
    y = nn.functional.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias)
    q, k, v = (y @ block.qkv.weight.T + block.qkv.bias).split(8, dim=-1)
    attended = torch.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            scores = (k[:, : t + 1, head] * q[:, t, None, head]).sum(-1) / 4**0.5
            weights = scores.exp() / scores.exp().sum(1, keepdim=True)
            attended[:, t, head] = (weights[..., None] * v[:, : t + 1, head]).sum(1)
    x = x + attended @ block.mix.weight.T + block.mix.bias
    y = nn.functional.layer_norm(x, (8,), block.norm2.weight, block.norm2.bias)
    y = y @ block.widen.weight.T + block.widen.bias
    y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
    expected = x + y @ block.narrow.weight.T + block.narrow.bias
    torch.testing.assert_close(block(inputs), expected)


@pytest.mark.parametrize("tied", [False, True])
def test_the_start_is_small_and_smaller_where_a_branch_ends(tied):
    torch.manual_seed(0)
    model = Transformer(vocabulary=96, context=64, tied=tied)
    assert (model.head.weight is model.token.weight) == tied
    for name, p in model.named_parameters():
        if p.ndim == 1:
            continue
        expected = 0.01 if name.endswith(("mix.weight", "narrow.weight")) else 0.02
        assert p.detach().std() == pytest.approx(expected, rel=5 / (2 * p.numel()) ** 0.5), name
