"""Sparse layers against the dense layers that they stand for."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask.deploy import SparseConv1d, SparseConv2d, SparseEmbedding, SparseLinear
from mirrormask.deploy.csr import check_csr
from mirrormask.deploy.decode import CsrArrays
from mirrormask.deploy.sparse_linear import csr_of_matrix
from mirrormask.errors import ArgumentError, CheckpointError


def close(found, expected):
    tolerance = 1e-9 if expected.dtype == torch.float64 else 2e-5
    return (
        found.shape == expected.shape
        and found.dtype == expected.dtype
        and torch.allclose(found, expected, atol=tolerance, rtol=tolerance)
    )


@settings(max_examples=150)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(), (1,), (2,), (3,), (9,), (0,), (2, 5), (1, 1, 3)]),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.booleans(),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["rows", "columns"]),
    st.sampled_from(["kernel", "torch"]),
    st.booleans(),
)
def test_linear(sparsify, width, out, batch, sparsity, bias, dtype, layout, engine, relu):
    dense = sparsify(nn.Linear(width, out, bias=bias, dtype=dtype), sparsity)
    layer = SparseLinear.from_linear(dense)
    layer.output_layout, layer.engine, layer.relu = layout, engine, relu
    x = torch.randn(*batch, width, dtype=dtype)
    assert close(layer(x), dense(x).relu() if relu else dense(x))
    if relu:
        assert close(layer.to_dense()(x), dense(x).relu())
        return
    assert layer.nonzeros == int(torch.count_nonzero(dense.weight))
    assert torch.equal(layer.to_dense().weight, dense.weight)
    if layout == "rows":
        assert layer(x).is_contiguous()


@st.composite
def convolutions(draw):
    dims = draw(st.sampled_from([1, 2]))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    stride = draw(st.tuples(*[st.integers(1, 3)] * dims))
    modes = ["zeros", "reflect", "circular", "replicate"]
    padding = draw(st.tuples(*[st.integers(0, 2)] * dims))
    if max(stride) == 1 and draw(st.booleans()):
        padding = draw(st.sampled_from(["same", "valid"]))
    conv = (nn.Conv1d if dims == 1 else nn.Conv2d)(
        4 * draw(st.integers(1, 2)),
        4 * draw(st.integers(1, 3)),
        draw(st.tuples(*[st.integers(1, 4)] * dims)),
        stride=stride,
        padding=padding,
        dilation=draw(st.tuples(*[st.integers(1, 2)] * dims)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(modes)),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
    )
    sizes = draw(st.tuples(*[st.integers(8, 13)] * dims))
    batch = draw(st.sampled_from([(), (1,), (3,)]))
    return conv, torch.randn(*batch, conv.in_channels, *sizes, dtype=conv.weight.dtype)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(max_examples=300)
@given(
    convolutions(),
    st.sampled_from(["kernel", "kernel", "shifts", "columns"]),
    st.sampled_from([0.0, 0.8, 1.0]),
    st.booleans(),
)
def test_convolutions(sparsify, case, form, sparsity, relu):
    conv, x = case
    sparsify(conv, sparsity)
    kind = SparseConv1d if isinstance(conv, nn.Conv1d) else SparseConv2d
    layer = kind.from_conv(conv, form)
    layer.relu = relu
    expected = conv(x).relu() if relu else conv(x)
    assert close(layer(x), expected)
    assert layer(x).is_contiguous()
    assert close(
        layer.to_dense()(x[None] if x.ndim == len(conv.kernel_size) + 1 else x).reshape(
            expected.shape
        ),
        expected,
    )


def test_images_larger_than_a_block_are_split(monkeypatch, sparsify):
    conv = sparsify(nn.Conv2d(8, 8, 3, padding=1, stride=2), 0.8)
    x = torch.randn(7, 8, 30, 30)
    monkeypatch.setattr("mirrormask.deploy.conv_product._BLOCK_FLOATS", 2 * 8 * 32 * 32)
    assert close(SparseConv2d.from_conv(conv, "shifts")(x), conv(x))


def test_embedding(sparsify):
    table = sparsify(nn.Embedding(30, 12), 0.8)
    layer = SparseEmbedding.from_embedding(table)
    for tokens in (
        torch.tensor(3),
        torch.randint(30, (4, 5)),
        torch.empty(0, 2, dtype=torch.int32),
    ):
        assert torch.equal(layer(tokens), table(tokens))
    assert torch.equal(layer.to_dense().weight, table.weight)
    for bad in (30, -1):
        with pytest.raises(ArgumentError, match=r"outside 0\.\.29"):
            layer(torch.tensor([0, bad]))
    with pytest.raises(ArgumentError, match="max_norm"):
        SparseEmbedding.from_embedding(nn.Embedding(3, 2, max_norm=1.0))


@pytest.fixture
def net(sparsify):
    return nn.Sequential(
        SparseEmbedding.from_embedding(sparsify(nn.Embedding(20, 16), 0.5)),
        SparseConv1d.from_conv(sparsify(nn.Conv1d(6, 8, 3, padding=1), 0.8)),
        nn.ReLU(),
        nn.Flatten(),
        SparseLinear.from_linear(sparsify(nn.Linear(128, 10), 0.9)),
    ).eval()


@pytest.fixture
def tokens():
    return torch.randint(20, (3, 6))


def test_copies_pickles_and_state_dicts(net, tokens, sparsify):
    expected = net(tokens)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(tokens), expected)
        assert twin[4].values is not net[4].values
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    other = nn.Sequential(
        SparseEmbedding.from_embedding(sparsify(nn.Embedding(20, 16), 0.1, seed=5)),
        SparseConv1d.from_conv(sparsify(nn.Conv1d(6, 8, 3, padding=1), 0.2, seed=5)),
        nn.ReLU(),
        nn.Flatten(),
        SparseLinear.from_linear(sparsify(nn.Linear(128, 10), 0.3, seed=5)),
    )
    other(tokens)
    other.load_state_dict(state)
    assert torch.equal(other(tokens), expected)
    other.double()
    assert other(tokens).dtype == torch.float64
    assert not list(net.parameters())


def test_a_state_dict_that_would_read_past_the_end_is_refused(net):
    state = net.state_dict()
    state["4.columns"] = state["4.columns"] + 100
    with pytest.raises(CheckpointError, match="column is outside"):
        net.load_state_dict(state)


def test_compile_and_export_see_one_operator_a_layer(net, tokens):
    expected = net(tokens)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(tokens), expected, atol=1e-6)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(net, (tokens,), dynamic_shapes=({0: batch},))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    for op in ("sparse_embedding", "sparse_conv2d", "sparse_linear"):
        assert sum(op in name for name in names) == 1
    other = torch.randint(20, (5, 6))
    assert torch.allclose(program.module()(other), net(other), atol=1e-6)


def test_operators_pass_torchs_own_checks(net):
    layer = net[4]
    args = (torch.randn(4, 128), layer.row_starts, layer.columns, layer.values, layer.bias)
    torch.library.opcheck(torch.ops.mirrormask.sparse_linear, args)
    table = net[0]
    args = (torch.randint(20, (3,)), table.row_starts, table.columns, table.values, 16)
    torch.library.opcheck(torch.ops.mirrormask.sparse_embedding, args)
    conv = net[1]
    torch.library.opcheck(
        torch.ops.mirrormask.sparse_conv2d,
        (torch.randn(2, 6, 1, 9), conv.row_starts, conv.columns, conv.values, conv.bias),
        {
            "form": conv.form,
            "sizes": conv.geometry.numbers(),
            "padding_mode": conv.geometry.padding_mode,
        },
    )


def csr(starts, columns, values, shape=(2, 3)):
    return CsrArrays(
        row_starts=torch.tensor(starts, dtype=torch.int32),
        columns=torch.tensor(columns, dtype=torch.int32),
        values=torch.tensor(values),
        shape=shape,
    )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (csr([0, 1], [0], [1.0]), "do not fit"),
        (csr([0, 1, 2], [0, 1], [1.0]), "do not fit"),
        (csr([0, 1, 3], [0, 1], [1.0, 2.0]), "cover"),
        (csr([1, 1, 2], [0, 1], [1.0, 2.0]), "cover"),
        (csr([0, 3, 2], [0, 1], [1.0, 2.0]), "decrease"),
        (csr([0, 1, 2], [0, 3], [1.0, 2.0]), "outside"),
        (csr([0, 1, 2], [-1, 0], [1.0, 2.0]), "outside"),
        (csr([0, 2, 2], [1, 0], [1.0, 2.0]), "order"),
        (csr([0, 2, 2], [1, 1], [1.0, 2.0]), "order"),
        (csr([0, 1, 2], [0, 1], [1, 2]), "not float32"),
    ],
)
def test_arrays_that_are_no_matrix_are_refused(arrays, message):
    with pytest.raises(ArgumentError, match=message):
        SparseLinear(arrays)


def test_int64_indices_are_refused():
    arrays = csr([0, 1, 2], [0, 1], [1.0, 2.0])
    with pytest.raises(ArgumentError, match="int32"):
        check_csr((arrays.row_starts.long(), arrays.columns, arrays.values), arrays.shape)


def test_inputs_and_weights_that_do_not_fit_are_named(net):
    with pytest.raises(ArgumentError, match="7 features, this layer takes 128"):
        net[4](torch.randn(2, 7))
    with pytest.raises(ArgumentError, match="6 channels"):
        net[1](torch.randn(2, 5, 9))
    with pytest.raises(ArgumentError, match="6 channels"):
        net[1](torch.randn(5))
    with pytest.raises(ArgumentError, match="bfloat16"):
        SparseLinear.from_linear(nn.Linear(3, 2, dtype=torch.bfloat16))
    with pytest.raises(ArgumentError, match="smaller than the kernel"):
        SparseConv2d.from_conv(nn.Conv2d(1, 1, 5))(torch.randn(1, 1, 3, 3))
    with pytest.raises(ArgumentError, match="form='rows'"):
        SparseConv2d.from_conv(nn.Conv2d(1, 1, 5), "rows")
    with pytest.raises(ArgumentError, match="bias of shape"):
        SparseLinear(csr([0, 1, 2], [0, 1], [1.0, 2.0]), torch.ones(3))
    conv = net[1]
    kernel = csr_of_matrix(conv.dense_matrix())
    with pytest.raises(ArgumentError, match="bias of shape"):
        SparseConv2d(kernel, torch.zeros(1), "kernel", conv.geometry)


def test_no_gradient_flows_and_none_is_asked_for(net):
    x = torch.randn(2, 128, requires_grad=True)
    assert not net[4](x).requires_grad
    assert not net[1](torch.randn(2, 6, 9, requires_grad=True)).requires_grad
