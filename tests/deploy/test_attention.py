from __future__ import annotations

import pytest
import torch
from torch import nn

from mirrormask.deploy import compile, speed_report
from mirrormask.deploy.attention import OpenAttention, open_attention


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_open_attention_is_torchs_attention(batch_first, bias):
    closed = nn.MultiheadAttention(24, 4, batch_first=batch_first, bias=bias).eval()
    if bias:
        nn.init.normal_(closed.in_proj_bias)
    opened = OpenAttention(closed)
    q = torch.randn(3, 3, 24)
    kv = torch.randn(3, 3, 24)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    padding = torch.tensor([[False, False, True]] * 3)
    per_head = torch.randn(12, 3, 3)
    for args, keywords in (
        ((q, q, q), {}),
        ((q, kv, kv), {"key_padding_mask": padding}),
        ((q, q, q), {"attn_mask": causal, "is_causal": True, "need_weights": False}),
        ((q, q, q), {"attn_mask": causal < 0, "key_padding_mask": padding}),
        ((q, q, q), {"attn_mask": per_head, "average_attn_weights": False}),
        ((q[0], kv[0], kv[0]), {}),
        ((q[0], kv[0], kv[0]), {"need_weights": False}),
    ):
        expected, found = closed(*args, **keywords), opened(*args, **keywords)
        assert torch.allclose(found[0], expected[0], atol=1e-5)
        assert (found[1] is None) == (expected[1] is None)
        if expected[1] is not None:
            assert torch.allclose(found[1], expected[1], atol=1e-5)


def test_transformer_layers_leave_their_fused_path_only_where_it_pays(sparsify):
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, activation="gelu")
    model = sparsify(nn.TransformerEncoder(layer, 1), 0.98).eval()
    x = torch.randn(1, 8, 256)
    fast = compile(model, x)
    report = speed_report(fast)
    assert len(report.layers) == 6
    with torch.inference_mode():
        assert torch.allclose(fast(x), model(x), atol=1e-4)
        mask = torch.zeros(1, 8, dtype=torch.bool)
        mask[0, -3:] = True
        found, expected = (net(x, src_key_padding_mask=mask) for net in (fast, model))
        assert torch.allclose(found[:, :5], expected[:, :5], atol=1e-4)
    dense = nn.TransformerEncoder(layer, 1).eval()
    assert open_attention(dense, min_sparsity=0.5) == 0


def test_sparse_layers_round_a_dense_attention_leave_the_fused_path_too(sparsify):
    model = nn.TransformerEncoderLayer(256, 4, 2048, batch_first=True).eval()
    for layer in (model.linear1, model.linear2):
        sparsify(layer, 0.99)
    x = torch.randn(1, 1, 256)
    fast = compile(model, x)
    report = speed_report(fast)
    assert {layer.choice for layer in report.layers} <= {"csr", "kernel"}
    assert not any("undone" in note or "failed" in note for note in report.notes)
    with torch.inference_mode():
        assert torch.allclose(fast(x), model(x), atol=1e-4)
