"""Products with one example, which kernels may do through windows of the inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from mirrormask.deploy.runner import plan
from mirrormask.kernels import kernel_status, kernels
from mirrormask.runtime import Program

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")

CASES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["portable", "avx2", "avx512"])
def library(request):
    """The kernels of one variant after the other."""
    library = kernels()
    if request.param not in library.variants:
        pytest.skip(f"no {request.param} here")
    best = library.variant
    library.variant = request.param
    yield library
    library.variant = best


@CASES
@given(
    rows=st.integers(1, 70),
    width=st.integers(1, 300),
    sparsity=st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]),
    bias=st.booleans(),
    threads=st.sampled_from([1, 3]),
)
def test_layers_of_any_size(agree, thin, rows, width, sparsity, bias, threads):
    net = nn.Sequential(nn.Linear(width, rows, bias=bias), nn.ReLU(), nn.Linear(rows, width))
    agree(thin(net, sparsity), torch.randn(1, width), threads=threads)


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_added_is_added_to_its_row(agree, thin, wrapped, relu):
    def add(held, x):
        y = x + held["b"](torch.relu(held["a"](x)))
        return torch.relu(y) if relu else y

    net = wrapped(add, a=nn.Linear(150, 90), b=nn.Linear(90, 150))
    agree(thin(net, 0.8), torch.randn(1, 150))


def test_rows_of_very_different_lengths(agree):
    layer = nn.Linear(400, 40)
    with torch.no_grad():
        layer.weight[1::3] = 0.0
        layer.weight[::3, 3:380] = 0.0
    agree(layer, torch.randn(1, 400))


def test_features_with_gaps_between_them(agree, thin):
    net = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 49, 50))
    agree(thin(net), torch.randn(1, 2, 7, 7))


@pytest.mark.parametrize("strange", [float("inf"), float("nan")])
def test_an_input_that_is_no_number_reaches_the_rows_that_read_it_and_no_others(
    library, thin, strange
):
    layer = thin(nn.Linear(300, 80), 0.9)
    x = torch.randn(1, 300)
    program = Program(plan(layer, (x,)), library)
    usual = program(x.numpy())
    for column in (0, 77, 299):
        odd = x.clone()
        odd[0, column] = strange
        found = program(odd.numpy())
        reads = (layer.weight[:, column] != 0).numpy()
        assert reads.any() and not np.isfinite(found[0, reads]).any()
        assert np.array_equal(found[0, ~reads], usual[0, ~reads])


def test_what_the_kernels_make_of_the_weights_is_counted(library, thin):
    x = torch.randn(1, 300)
    program = Program(plan(thin(nn.Linear(300, 80), 0.9), (x,)), library)
    given = sum(array.nbytes for array in program._arrays)
    assert (program.nbytes > given + 4 * 80 * 30) == (library.variant == "avx512")
