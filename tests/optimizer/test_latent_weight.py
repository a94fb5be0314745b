"""Edits of a weight between steps are taken over; x in the model is always m * w."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.geometry import Euclidean, Factors, Geometry, Mirror
from mirrormask.pressure import Constant

GEOMETRIES = {
    "factors": Factors(),
    "spred": Factors(beta=0.0),
    "mirror": Mirror(),
    "euclidean": Euclidean(),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def fresh(like: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(like.shape, generator=generator).to(like.dtype)


def by_copy(layer: nn.Linear, value: torch.Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(value)


def by_data_copy(layer: nn.Linear, value: torch.Tensor) -> None:
    layer.weight.data.copy_(value)


def by_data(layer: nn.Linear, value: torch.Tensor) -> None:
    layer.weight.data = value.clone()


def by_load(layer: nn.Linear, value: torch.Tensor) -> None:
    layer.load_state_dict({"weight": value, "bias": layer.bias.detach().clone()})


def by_assigned_load(layer: nn.Linear, value: torch.Tensor) -> None:
    parameter = layer.weight
    parameter.set_(value.clone())


def by_init(layer: nn.Linear, value: torch.Tensor) -> None:
    layer.reset_parameters()
    with torch.no_grad():
        layer.weight.mul_(0).add_(value)


EDITS = [by_copy, by_data_copy, by_data, by_load, by_init, by_assigned_load]


def layer_and_optimizer(
    geometry: Geometry, dtype: torch.dtype, lr: float = 0.0, alpha: float = 0.0
) -> tuple[nn.Linear, mm.SparseOptimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(9, 6).to(dtype)
    base = torch.optim.SGD(layer.parameters(), lr=lr, momentum=0.9)
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=alpha))
    return layer, mm.sparsify(base, layer, sparsity=0.5, steps=50, method=recipe)


def step(layer: nn.Linear, optimizer: mm.SparseOptimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(4, 9, generator=generator).to(layer.weight.dtype)
    optimizer.zero_grad()
    layer(inputs).square().mean().backward()
    optimizer.step()


def units(tensor: torch.Tensor) -> float:
    return 8 * torch.finfo(tensor.dtype).eps


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_an_edit_is_where_the_next_step_starts(
    edit: Callable, dtype: torch.dtype, geometry: str
) -> None:
    # At learning rate 0 a step leaves the weight where it finds it.
    layer, optimizer = layer_and_optimizer(GEOMETRIES[geometry], dtype)
    step(layer, optimizer, 0)
    value = fresh(layer.weight)
    with torch.no_grad():
        edit(layer, value)
    step(layer, optimizer, 1)
    torch.testing.assert_close(
        layer.weight.detach(), value, rtol=units(value), atol=1e-7, check_dtype=True
    )
    weight = optimizer.weights[layer.weight]
    composed = GEOMETRIES[geometry].compose(weight.latents)
    assert torch.equal(composed.to(dtype), layer.weight)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert weight.dtype == wide  # latents stay wide whatever the weight is


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_an_edit_after_the_last_step_is_what_finalize_cuts(
    geometry: str, dtype: torch.dtype
) -> None:
    layer, optimizer = layer_and_optimizer(GEOMETRIES[geometry], dtype, lr=0.05)
    for seed in range(3):
        step(layer, optimizer, seed)
    value = fresh(layer.weight)  # such as an average of the weights
    with torch.no_grad():
        layer.weight.copy_(value)
    assert optimizer.finalize().zeros == 27
    kept = layer.weight != 0
    torch.testing.assert_close(layer.weight[kept], value[kept], rtol=units(value), atol=1e-7)
    assert value[kept].abs().min() >= value[~kept].abs().max()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_an_edited_run_goes_on_as_one_that_started_there(geometry: str) -> None:
    # Plain SGD has no memory, so only the weight may matter.
    def build() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = nn.Linear(9, 6)
        base = torch.optim.SGD(layer.parameters(), lr=0.1)
        recipe = mm.Recipe(geometry=GEOMETRIES[geometry])
        return layer, mm.sparsify(base, layer, sparsity=0.5, steps=50, method=recipe)

    edited, one = build()
    value = fresh(edited.weight)
    bias = edited.bias.detach().clone()
    step(edited, one, 0)
    with torch.no_grad():
        edited.weight.copy_(value)
        edited.bias.copy_(bias)
    started, _ = build()
    with torch.no_grad():
        started.weight.copy_(value)
    base = torch.optim.SGD(started.parameters(), lr=0.1)
    other = mm.sparsify(
        base, started, sparsity=0.5, steps=50, method=mm.Recipe(geometry=GEOMETRIES[geometry])
    )
    for seed in range(1, 6):
        step(edited, one, seed)
        step(started, other, seed)
    torch.testing.assert_close(edited.weight, started.weight, rtol=1e-6, atol=1e-7)


def test_only_edited_coordinates_are_split_anew() -> None:
    layer, optimizer = layer_and_optimizer(Factors(), torch.float32, lr=0.1, alpha=0.05)
    for seed in range(5):
        step(layer, optimizer, seed)
    weight = optimizer.weights[layer.weight]
    before = {name: latent.clone() for name, latent in weight.latents.items()}
    with torch.no_grad():
        layer.weight[2, 3] = 5.0
    weight.adopt_edits()
    elsewhere = torch.ones_like(layer.weight, dtype=torch.bool)
    elsewhere[2, 3] = False
    for name, latent in weight.latents.items():
        assert torch.equal(latent[elsewhere], before[name][elsewhere])
    m, w = weight.latents["m"][2, 3], weight.latents["w"][2, 3]
    assert float(m * w) == pytest.approx(5.0, rel=1e-6)
    assert float(m**2 - w**2) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_an_ema_swap_for_evaluation_leaves_no_trace(geometry: str, dtype: torch.dtype) -> None:
    plain, one = layer_and_optimizer(GEOMETRIES[geometry], dtype, lr=0.05, alpha=1e-3)
    swapped, two = layer_and_optimizer(GEOMETRIES[geometry], dtype, lr=0.05, alpha=1e-3)
    for seed in range(8):
        step(plain, one, seed)
        step(swapped, two, seed)
        own = swapped.weight.data
        swapped.weight.data = torch.zeros_like(own)  # evaluate the average here
        swapped.weight.data = own
    assert torch.equal(plain.weight, swapped.weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_x_in_the_model_is_always_composed_of_the_latents(
    geometry: str, dtype: torch.dtype
) -> None:
    layer, optimizer = layer_and_optimizer(GEOMETRIES[geometry], dtype, lr=0.1, alpha=1e-2)
    weight = optimizer.weights[layer.weight]

    def same() -> bool:
        return torch.equal(weight.weight().to(dtype), layer.weight)

    assert same()
    for seed in range(10):
        step(layer, optimizer, seed)
        assert same()
        if seed == 4:
            weight.rebalance()
            assert same()
        if seed == 6:
            layer.weight.grad = None
            with torch.no_grad():
                layer.weight.mul_(2)
            optimizer.step()
            assert same()
    optimizer.finalize()
    assert int((layer.weight == 0).sum()) >= 27


@pytest.mark.parametrize("geometry", [Factors(), Factors(beta=0.3), Mirror(), Euclidean()])
def test_rebalance_leaves_the_weight_and_restores_the_metric(geometry: Geometry) -> None:
    layer, optimizer = layer_and_optimizer(geometry, torch.float32, lr=0.1, alpha=0.2)
    for seed in range(10):
        step(layer, optimizer, seed)
    scale = optimizer.scales()["weight"]
    inputs = torch.randn(20, 9)
    before, outputs = layer.weight.detach().clone(), layer(inputs).detach()
    optimizer.weights[layer.weight].rebalance()
    torch.testing.assert_close(layer.weight.detach(), before, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(layer(inputs).detach(), outputs, rtol=1e-6, atol=1e-6)
    if isinstance(geometry, Factors):
        assert scale < geometry.beta / 2 * 0.9
        assert optimizer.scales()["weight"] == pytest.approx(geometry.beta / 2, rel=1e-5)
    if isinstance(geometry, Mirror):
        assert scale < geometry.a * 0.9
        assert optimizer.scales()["weight"] == geometry.a


@pytest.mark.parametrize("geometry", ["factors", "mirror"])
def test_narrow_weights_gather_moves_below_their_own_resolution(geometry: str) -> None:
    # bfloat16 near 1 cannot see 1e-4; float32 latents add up a hundred such steps.
    layer = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    base = torch.optim.SGD(layer.parameters(), lr=1e-4)
    optimizer = mm.sparsify(
        base, layer, sparsity=0.0, steps=400, method=mm.Recipe(geometry=GEOMETRIES[geometry])
    )
    for _ in range(400):
        layer.weight.grad = torch.ones_like(layer.weight)
        optimizer.step()
    assert float(layer.weight) < 0.93


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_odd_memory_layouts(geometry: str) -> None:
    def run(channels_last: str) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Conv2d(4, 6, 3)
        if channels_last == "yes":
            net = net.to(memory_format=torch.channels_last)
        base = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        recipe = mm.Recipe(geometry=GEOMETRIES[geometry], pressure=Constant(strength=1e-3))
        optimizer = mm.sparsify(base, net, sparsity=0.5, steps=5, method=recipe)
        inputs = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))
        for _ in range(5):
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            optimizer.step()
        assert optimizer.finalize().zeros == 108
        return net.weight.detach().contiguous()

    torch.testing.assert_close(run("yes"), run("no"), rtol=1e-5, atol=1e-6)


def test_latents_are_where_torch_looks_for_them() -> None:
    net = nn.Linear(4, 3)
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=3, method=mm.Recipe(geometry=Factors()))
    assert set(optimizer.state) == {net.weight}
    product = optimizer.state[net.weight]["m"] * optimizer.state[net.weight]["w"]
    assert torch.equal(product, net.weight)
    optimizer.finalize()
    assert not optimizer.state
