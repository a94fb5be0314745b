"""The main path on a GPU: no step waits for it, and what comes out is exact and the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import LifecycleError
from mirrormask.geometry import Euclidean, Factors, Mirror
from mirrormask.masking import GradualCubic, ProjectAndFreeze
from mirrormask.optimizer.feedback import Feedback
from mirrormask.pressure import Constant, SeekTarget

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

STEPS = 20
FREEZE = ProjectAndFreeze(at=0.5)

RECIPES = {
    "factors": mm.Recipe(
        geometry=Factors(), pressure=SeekTarget(), masking=FREEZE, rebalance=(0.5,)
    ),
    "mirror": mm.Recipe(geometry=Mirror(), pressure=SeekTarget(), masking=FREEZE, rebalance=(0.5,)),
    "mirror-noise": mm.Recipe(
        geometry=Mirror(noise="second-moment"), pressure=Constant(strength=1e-3)
    ),
    "pilot": mm.METHODS["pilot"].recipe,
    "gradual": mm.Recipe(masking=GradualCubic(begin=0.1, end=0.7, cuts=5)),
    "erk": mm.Recipe(
        geometry=Euclidean(),
        pressure=Constant(strength=1e-4, application="proximal"),
        masking=ProjectAndFreeze(at=0.5, scope="erk"),
    ),
}

BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0, foreach=True),
    "fused": lambda p: torch.optim.Adam(p, lr=1e-3, fused=True),
}


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def build(device: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)).to(device, dtype)


def run(
    net: nn.Module, base: torch.optim.Optimizer, recipe: mm.Recipe, device: str
) -> mm.SparsityReport:
    optimizer = mm.sparsify(base, net, sparsity=0.9, steps=STEPS, method=recipe)
    inputs = torch.randn(STEPS, 32, 64, generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(device, next(net.parameters()).dtype)
    for step in range(STEPS):
        optimizer.zero_grad()
        F.mse_loss(net(inputs[step]), inputs[step, :, :10].abs()).backward()
        if device == "cuda":
            with waiting_is_an_error():
                optimizer.step()
        else:
            optimizer.step()
    return optimizer.finalize()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", RECIPES)
def test_no_step_waits_for_the_device_and_the_count_is_exact(
    name: str, base: str, dtype: torch.dtype
) -> None:
    net = build("cuda", dtype)
    report = run(net, BASES[base](net.parameters()), RECIPES[name], "cuda")
    assert report.zeros == report.asked_zeros == 8525
    again = build("cuda", dtype)
    assert run(again, BASES[base](again.parameters()), RECIPES[name], "cuda") == report


@pytest.mark.parametrize("name", ["factors", "mirror", "gradual"])
def test_it_agrees_with_the_cpu(name: str) -> None:
    there, here = build("cuda").double(), build("cpu").double()
    first = run(there, BASES["sgd"](there.parameters()), RECIPES[name], "cuda")
    second = run(here, BASES["sgd"](here.parameters()), RECIPES[name], "cpu")
    assert first == second
    for one, two in zip(there.parameters(), here.parameters(), strict=True):
        torch.testing.assert_close(one.cpu(), two, rtol=1e-6, atol=1e-9)


def test_an_edit_on_the_device_is_taken_over() -> None:
    net = build("cuda")
    base = torch.optim.SGD(net.parameters(), lr=0.0)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=5, method=mm.Recipe(geometry=Factors()))
    value = torch.randn_like(net[0].weight)
    net[0].weight.data.copy_(value)
    net(torch.ones(2, 64, device="cuda")).sum().backward()
    optimizer.step()
    torch.testing.assert_close(net[0].weight.detach(), value, rtol=1e-6, atol=1e-7)


def test_a_measurement_is_whole_however_far_ahead_the_host_is() -> None:
    feedback = Feedback()
    busy = torch.randn(4096, 4096, device="cuda")
    for _ in range(20):
        busy = busy @ busy / 64
    feedback.send(torch.stack((busy.new_tensor(3.0), 0 * busy.nan_to_num().clamp(-1, 1).sum())))
    assert feedback.receive() == [3.0, 0.0]


def test_a_model_moved_after_sparsify_is_refused() -> None:
    net = nn.Linear(4, 3)
    base = torch.optim.SGD(net.parameters(), lr=0.1)
    recipe = mm.Recipe(geometry=Factors())
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=3, method=recipe)
    net.to("cuda")
    with pytest.raises(LifecycleError, match=r"moved from cpu to cuda.*move the model"):
        optimizer.step()


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", ["factors", "mirror"])
def test_float16_autocast_with_a_gradient_scaler(name: str, base: str) -> None:
    net = build("cuda")
    optimizer = mm.sparsify(
        BASES[base](net.parameters()), net, sparsity=0.9, steps=STEPS, method=RECIPES[name]
    )
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=5)
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(1)).cuda()
    batches = 0
    while optimizer.steps_done < STEPS:
        assert batches < 4 * STEPS
        optimizer.zero_grad()
        for half in x.chunk(2):
            with torch.autocast("cuda", dtype=torch.float16):
                loss = F.mse_loss(net(half), half[:, :10]) / 2
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        batches += 1
    assert batches > STEPS  # the first scales were too large, and those steps were skipped
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_recurrent_layers_compute_with_the_weights_written_in_place() -> None:
    torch.manual_seed(0)
    net = nn.LSTM(16, 32, num_layers=2, batch_first=True).cuda()
    base = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.0)
    optimizer = mm.sparsify(base, net, sparsity=0.8, steps=STEPS)
    x = torch.randn(4, 6, 16, generator=torch.Generator().manual_seed(1)).cuda()
    for _ in range(STEPS):
        optimizer.zero_grad()
        net(x)[0].square().mean().backward()
        optimizer.step()
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros
    again = nn.LSTM(16, 32, num_layers=2, batch_first=True).cuda()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(net(x)[0], again(x)[0])
