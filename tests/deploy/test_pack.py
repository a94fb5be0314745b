from __future__ import annotations

import collections
import os

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask.deploy import inspect, load, pack_file, save, unpack_file
from mirrormask.deploy.dtypes import TORCH_BY_NAME
from mirrormask.errors import ArgumentError, CheckpointError, DataError, OutputError

DTYPES = list(TORCH_BY_NAME.values())
SHAPES = [(), (0,), (1,), (3, 0, 2), (7,), (1, 1), (5, 13), (2, 3, 4, 5), (400,), (33, 31), (3000,)]


def sparse_bits(dtype, shape, sparsity, seed, specials, zeros):
    """A tensor of random bit patterns, most of them all zero, with NaNs, infinities, -0.0."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape, dtype=np.int64))
    raw = rng.integers(0, 256, (count, dtype.itemsize), dtype=np.uint8)
    if dtype is torch.bool:
        raw %= 2
    raw[rng.random(count) < sparsity] = 0
    tensor = torch.from_numpy(raw.reshape(-1)).view(dtype).reshape(shape)
    if dtype.is_floating_point and dtype.itemsize > 1 and count:
        flat = tensor.reshape(-1)
        if specials:
            values = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0], dtype=dtype)
            flat[: min(4, count)] = values[: min(4, count)]
        if zeros:
            flat[flat == 0] = -0.0
    return tensor


@pytest.mark.filterwarnings("ignore:ComplexHalf")
@settings(max_examples=600)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from(SHAPES),
    st.sampled_from([0.0, 0.3, 0.6, 0.9, 0.95, 0.99, 1.0]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["plain", "transposed", "strided", "offset"]),
)
def test_round_trip_keeps_every_bit(
    tmp_path, same_bits, dtype, shape, sparsity, seed, specials, zeros, layout
):
    tensor = sparse_bits(dtype, shape, sparsity, seed, specials, zeros)
    if layout == "transposed" and tensor.ndim >= 2:
        tensor = tensor.transpose(0, -1)
    elif layout == "strided" and tensor.ndim:
        tensor = tensor[::2]
    elif layout == "offset" and tensor.ndim:
        tensor = tensor[1:]
    path = tmp_path / "one.safetensors"
    report = save({"t": tensor}, path)
    found = load(path)["t"]
    assert same_bits(found, tensor)
    assert report.file_bytes == path.stat().st_size == inspect(path).file_bytes


def test_special_types_of_views_are_resolved(tmp_path, same_bits):
    z = torch.randn(5, 3, dtype=torch.complex64)
    state = {"conj": z.conj(), "imag": z.conj().imag, "plain": z}
    save(state, tmp_path / "a")
    found = load(tmp_path / "a")
    for name, tensor in state.items():
        assert same_bits(found[name], tensor.resolve_conj().resolve_neg().clone())


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.95, 0.99])
def test_the_file_is_ordinary_safetensors_and_small(tmp_path, sparsity, sparsify, same_bits):
    model = sparsify(nn.Linear(512, 512, bias=False), sparsity)
    path, dense = tmp_path / "packed", tmp_path / "dense"
    report = save(model, path)
    safetensors.torch.save_file(model.state_dict(), dense)
    ratio = dense.stat().st_size / path.stat().st_size
    least = {0.0: 1 / 1.005, 0.5: 1.85, 0.9: 8.4, 0.95: 16, 0.99: 72}[sparsity]
    assert ratio >= least
    assert report.rows[0].sparsity == pytest.approx(sparsity, abs=0.01)
    with safetensors.safe_open(path, "pt") as file:
        assert all(file.get_tensor(name).ndim for name in file.keys())  # noqa: SIM118
    assert same_bits(load(path)["weight"], model.weight)


def test_each_layout_is_chosen_where_it_is_smallest(tmp_path):
    generator = torch.Generator().manual_seed(0)
    scattered = torch.randn(200_000, generator=generator)
    scattered[torch.rand(200_000, generator=generator) < 0.95] = 0
    half = torch.randn(200_000, generator=generator)
    half[torch.rand(200_000, generator=generator) < 0.4] = 0
    even = torch.zeros(400_000)
    even[::200] = 1.0
    layouts = {
        row.name: row.layout
        for row in save(
            {
                "dense": torch.randn(1000),
                "half": half,
                "scattered": scattered,
                "even": even,
                "nothing": torch.zeros(5_000_000),
                "tiny": torch.zeros(4),
            },
            tmp_path / "a",
        ).rows
    }
    assert layouts == {
        "dense": "dense",
        "half": "bitmask",
        "scattered": "rice",
        "even": "gaps8",
        "nothing": "gaps8",
        "tiny": "dense",
    }


def test_negative_zeros_of_pruned_models_cost_a_bit_each_and_are_kept(tmp_path, same_bits):
    weight = torch.randn(500, 500)
    weight *= torch.rand(500, 500) >= 0.95
    assert int((torch.signbit(weight) & (weight == 0)).sum()) > 100_000
    kept = save({"w": weight}, tmp_path / "kept")
    assert kept.ratio > 10
    assert same_bits(load(tmp_path / "kept")["w"], weight)
    dropped = save({"w": weight}, tmp_path / "dropped", signed_zeros="drop")
    assert dropped.ratio > 15.5
    assert torch.equal(load(tmp_path / "dropped")["w"], weight)
    assert not torch.signbit(load(tmp_path / "dropped")["w"][weight == 0]).any()


@pytest.mark.parametrize("values", ["fp32", "fp16", "bf16", "int8"])
@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_lossy_values_keep_type_zeros_and_their_precision(tmp_path, sparsify, values, sparsity):
    model = sparsify(nn.Linear(300, 200), sparsity)
    save(model, tmp_path / "exact")
    report = save(model, tmp_path / "lossy", values=values)
    state = load(tmp_path / "lossy")
    assert torch.equal(state["bias"], model.bias)
    found, weight = state["weight"], model.weight.detach()
    assert found.dtype == weight.dtype
    assert bool((found[weight == 0] == 0).all())
    error = (found - weight).abs()
    row_max = weight.abs().amax(dim=1, keepdim=True)
    bound = {
        "fp32": 0.0 * row_max,
        "fp16": weight.abs() * 2**-11 + 2**-25,
        "bf16": weight.abs() * 2**-8,
        "int8": row_max / 254 * 1.0001,
    }[values]
    assert bool((error <= bound).all())
    if values != "fp32":
        assert report.file_bytes < 0.75 * (tmp_path / "exact").stat().st_size


def test_lossy_values_that_do_not_fit_are_refused(tmp_path):
    huge = torch.full((4, 4), 1e6)
    with pytest.raises(ArgumentError, match="too large for fp16"):
        save({"w": huge}, tmp_path / "a", values="fp16")
    with pytest.raises(ArgumentError, match="int8 cannot hold"):
        save({"w": huge / 0}, tmp_path / "a", values="int8")
    assert list(tmp_path.iterdir()) == []


def test_double_precision_may_be_stored_as_single(tmp_path):
    weight = torch.randn(50, 50, dtype=torch.float64)
    save({"w": weight, "b": weight[0]}, tmp_path / "a", values="fp32")
    state = load(tmp_path / "a")
    assert torch.equal(state["w"], weight.float().double())
    assert torch.equal(state["b"], weight[0])


def test_tied_tensors_are_stored_once_and_come_back_as_one(tmp_path):
    shared = torch.randn(100, 100)
    state = collections.OrderedDict(a=shared, b=torch.ones(2), c=shared, d=shared[:50])
    report = save(state, tmp_path / "tied")
    found = load(tmp_path / "tied")
    assert list(found) == ["a", "b", "c", "d"]
    assert found["a"] is found["c"]
    assert report.file_bytes < 61_500
    assert [row.layout for row in report.rows][2] == "tied to a"


def test_names_that_look_like_parts_do_not_collide(tmp_path):
    sparse = torch.zeros(1000)
    sparse[::50] = 1
    names = ["a", "a::index", "a::values", "__metadata__", "a::2", "ü.weight", "", "a::scale"]
    state = {name: sparse + number * (sparse != 0) for number, name in enumerate(names)}
    save(state, tmp_path / "a")
    found = load(tmp_path / "a")
    assert list(found) == names
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (3, "cannot be saved"),
        ({"a": [1.0]}, "not a tensor"),
        ({5: torch.ones(1)}, "no name"),
        ({"\ud800": torch.ones(1)}, "no name"),
        ({"a": torch.ones(2, 2).to_sparse()}, "to_dense"),
        ({"a": torch.ones(2, device="meta")}, "meta device"),
        ({"a": torch.ones(2, 2).to_mkldnn()}, "strided"),
        ({"a": nn.UninitializedParameter()}, "plain tensor"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, state, message):
    with pytest.raises(ArgumentError, match=message):
        save(state, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_are_named(tmp_path):
    with pytest.raises(ArgumentError, match="'fp8'"):
        save({}, tmp_path / "a", values="fp8")
    with pytest.raises(ArgumentError, match="'maybe'"):
        save({}, tmp_path / "a", signed_zeros="maybe")


def test_an_empty_state_dict_is_fine(tmp_path):
    save({}, tmp_path / "a")
    assert load(tmp_path / "a") == {}


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "model"
    save({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space"):
        save({"a": torch.zeros(5)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_or_read_are_named(tmp_path):
    for path in (tmp_path, tmp_path / "no" / "such" / "file", tmp_path / ("x" * 5000)):
        with pytest.raises(OutputError):
            save({"a": torch.ones(1)}, path)
        with pytest.raises(DataError):
            load(path)
    with pytest.raises(OutputError):
        save({}, tmp_path / "nul\0byte")


def test_a_symbolic_link_stays_one(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    save({"a": torch.ones(1)}, link)
    assert link.is_symlink()
    assert load(real)["a"] == 1


def test_files_are_packed_and_unpacked(tmp_path, sparsify, same_bits):
    model = sparsify(nn.Linear(200, 100), 0.9)
    plain, packed, back = (tmp_path / name for name in ("plain", "packed", "back"))
    safetensors.torch.save_file(model.state_dict(), plain)
    report = pack_file(plain, packed)
    assert report.file_bytes == packed.stat().st_size < plain.stat().st_size / 6
    unpack_file(packed, back)
    found = safetensors.torch.load_file(back)
    assert all(same_bits(found[name], tensor) for name, tensor in model.state_dict().items())
    with pytest.raises(CheckpointError, match="packed already"):
        pack_file(packed, back)
    with pytest.raises(CheckpointError, match="not a packed file"):
        unpack_file(plain, back)
    with pytest.raises(CheckpointError, match="not a packed file"):
        load(plain)


def test_types_without_a_plain_form_stay_packed(tmp_path):
    save({"z": torch.ones(2, dtype=torch.complex128)}, tmp_path / "a")
    with pytest.raises(ArgumentError, match="complex128"):
        unpack_file(tmp_path / "a", tmp_path / "b")
