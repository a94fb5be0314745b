"""Runs that go live in the middle end as the masked dense runs do."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.errors import ArgumentError, CheckpointError, LifecycleError
from mirrormask.kernels import kernel_status, kernels
from mirrormask.live import LiveConv1d, LiveConv2d, LiveLinear, go_live
from mirrormask.live import switch as switching
from mirrormask.optimizer.shared_checkpoint import load_checkpoint, save_checkpoint

needs_kernels = pytest.mark.skipif(kernels() is None, reason=kernel_status().reason)
STEPS = 40
BASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}


def linear_net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 48), nn.ReLU(), nn.LayerNorm(48), nn.Linear(48, 32), nn.ReLU(),
        nn.Linear(32, 5),
    )  # fmt: skip


def conv_net() -> nn.Module:
    """Convolutions of images, strided and in groups, and one of signals."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)),
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, groups=2, bias=False), nn.BatchNorm2d(24),
        nn.ReLU(), nn.Flatten(2), nn.Conv1d(24, 16, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(96, 5),
    )  # fmt: skip


NETS = {"linear": linear_net, "conv": conv_net}


class Run:
    """A small training run that may stop, go live and be saved between any two steps."""

    def __init__(
        self,
        method: str = "pilot",
        base: str = "sgd",
        net: str | nn.Module = "linear",
        steps: int = STEPS,
    ):
        torch.manual_seed(0)
        self.model = net if isinstance(net, nn.Module) else NETS[net]()
        inner = BASES[base](self.model.parameters())
        if net == "conv" and base != "sgd":
            # A channel's only live weight has no gradient before BatchNorm. What rounding makes of
            # that zero must not be divided by its own size.
            inner.param_groups[0]["eps"] = 1e-3
        self.optimizer = mm.sparsify(
            inner, self.model, sparsity=0.8, steps=steps, method=method, seed=1
        )
        generator = torch.Generator().manual_seed(2)
        self.x = torch.randn(200, 20, generator=generator)
        self.y = self.x[:, :5].argmax(1)

    def to(self, step: int) -> Run:
        """Train until so many steps are done."""
        while self.optimizer.steps_done < step:
            start = self.optimizer.steps_done * 16 % 184
            rows = slice(start, start + 16)
            loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self


def distance(left: nn.Module, right: nn.Module) -> float:
    """Return the largest difference of two models, relative to each tensor's largest entry."""
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in pairs if a.is_floating_point()
    )


def is_plain(model: nn.Module) -> bool:
    """Return whether no layer is live."""
    return not any(isinstance(m, LiveLinear | LiveConv1d | LiveConv2d) for m in model.modules())


@needs_kernels
@pytest.mark.filterwarnings("ignore:weight_decay")
@pytest.mark.parametrize("base", list(BASES))
@pytest.mark.parametrize(
    "method", ["pilot", "pilot-mirror", "pilot-factors", "pilot-paper", "gmp", "l1-freeze", "ham"]
)
@pytest.mark.parametrize("net", list(NETS))
def test_the_end_is_that_of_the_masked_dense_run(net, method, base):
    dense, live = Run(method, base, net).to(36), Run(method, base, net).to(36)
    if method == "pilot-paper":  # cuts in finalize only
        with pytest.raises(LifecycleError, match="may still change"):
            go_live(live.optimizer)
        return
    report = go_live(live.optimizer)
    assert report.live == tuple(live.optimizer.masks())
    assert len(report.live) == {"linear": 3, "conv": 4}[net]
    assert report.bytes_after < 0.6 * report.bytes_before
    assert live.optimizer.at_target
    assert repr(live.model).count("live=") == len(report.live)
    dense.to(STEPS), live.to(STEPS)
    masks = live.optimizer.masks()
    assert all(torch.equal(mask, dense.optimizer.masks()[name]) for name, mask in masks.items())
    assert distance(live.model, dense.model) < 1e-5
    left, right = dense.optimizer.finalize(), live.optimizer.finalize()
    assert left.zeros == right.zeros
    assert is_plain(live.model)
    assert distance(live.model, dense.model) < 1e-5


@needs_kernels
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_two_hundred_live_steps_of_a_conv_net_stay_with_the_dense_run(base):
    dense, live = (Run(base=base, net="conv", steps=500).to(300) for _ in range(2))
    go_live(live.optimizer)
    dense.to(500), live.to(500)
    assert distance(live.model, dense.model) < 1e-5


@needs_kernels
@pytest.mark.parametrize("net", list(NETS))
def test_state_dicts_are_those_of_the_dense_run_and_resume_bit_for_bit(net):
    live = Run(net=net).to(30)
    shapes = {name: tensor.shape for name, tensor in live.model.state_dict().items()}
    go_live(live.optimizer)
    live.to(33)
    saved = copy.deepcopy((live.model.state_dict(), live.optimizer.state_dict()))
    assert {name: tensor.shape for name, tensor in saved[0].items()} == shapes
    assert not is_plain(live.model)
    again, other = copy.deepcopy(saved), Run(net=net)
    other.model.load_state_dict(saved[0])
    other.optimizer.load_state_dict(saved[1])
    go_live(other.optimizer)
    live.to(STEPS), other.to(STEPS)
    assert distance(live.model, other.model) == 0.0
    # A live run takes its own state back, too.
    live.model.load_state_dict(again[0])
    live.optimizer.load_state_dict(again[1])
    assert not is_plain(live.model)
    live.to(STEPS)
    assert distance(live.model, other.model) == 0.0


@needs_kernels
@pytest.mark.parametrize("net", list(NETS))
def test_a_state_with_other_masks_leaves_the_layers_dense(net):
    live, early = Run(net=net).to(30), Run(net=net).to(10)
    go_live(live.optimizer)
    with pytest.raises(CheckpointError, match="where this layer has none"):
        live.model.load_state_dict(early.model.state_dict())
    live.optimizer.load_state_dict(copy.deepcopy(early.optimizer.state_dict()))
    assert is_plain(live.model)
    live.model.load_state_dict(early.model.state_dict())
    live.to(STEPS), early.to(STEPS)
    assert distance(live.model, early.model) == 0.0


@needs_kernels
@pytest.mark.parametrize("net", list(NETS))
def test_distributed_checkpoints_hold_whole_tensors(tmp_path, net):
    live = Run(net=net).to(30)
    go_live(live.optimizer)
    live.to(32)
    save_checkpoint(tmp_path, live.model, live.optimizer)
    other = Run(net=net)
    assert load_checkpoint(tmp_path, other.model, other.optimizer) is not None
    go_live(other.optimizer)
    live.to(STEPS), other.to(STEPS)
    assert distance(live.model, other.model) == 0.0


@needs_kernels
def test_each_layer_is_timed_and_may_stay_as_it_is(monkeypatch):
    run = Run().to(30)
    run.model.train()
    trials = iter([2.0, 1.01, 3.0])

    def fake(layer, product, given):
        assert given.shape == (16, layer.in_features)
        assert given.requires_grad == (layer.in_features != 20)
        gain = next(trials)
        return switching.LayerTrial(dense_ms=gain, live_ms=1.0, gain=gain, reason=f"{gain}x")

    monkeypatch.setattr(switching, "try_layer", fake)
    report = go_live(run.optimizer, run.x[:16])
    assert run.model.training
    assert report.live == ("0.weight", "5.weight")
    assert [type(run.model[i]) is nn.Linear for i in (0, 3, 5)] == [False, True, False]
    assert "2 of 3 live" in str(report)
    run.to(STEPS).optimizer.finalize()
    assert run.model(run.x).shape == (200, 5)


@needs_kernels
@pytest.mark.parametrize("net", list(NETS))
def test_real_timings_are_reported(net):
    run = Run(net=net).to(30)
    for layer in go_live(run.optimizer, run.x[:16]).layers:
        assert layer.dense_ms > 0
        assert layer.live_ms > 0
        assert layer.reason.endswith(("x", "x)"))


@needs_kernels
def test_other_layers_stay_as_they_are_and_say_why():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.turned = nn.ConvTranspose1d(1, 4, 3, padding=1)
            self.ring = nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular")
            self.one = nn.Linear(80, 80)
            self.two = nn.Linear(80, 80)
            self.two.weight = self.one.weight
            self.unused = nn.Linear(30, 20)
            self.last = nn.Linear(80, 5)

        def forward(self, x):
            y = self.ring(self.turned(x[:, None])).flatten(1).relu()
            return self.last(self.two(self.one(y).relu()).relu())

    run = Run(net=Net()).to(30)
    report = go_live(run.optimizer, run.x[:16])
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["turned.weight"] == "no nn.Linear or nn.Conv1d or nn.Conv2d"
    assert reasons["ring.weight"] == "padding mode 'circular': the kernels pad with zeros"
    assert reasons["one.weight"] == "shared by several layers"
    assert reasons["unused.weight"] == "not called with this input"
    run.to(STEPS).optimizer.finalize()


@needs_kernels
@pytest.mark.parametrize("net", list(NETS))
def test_copies_of_a_live_model_and_torch_compile_work(net):
    live = Run(net=net).to(30)
    go_live(live.optimizer)
    live.model.eval()
    again = pickle.loads(pickle.dumps(copy.deepcopy(live.model)))
    assert torch.equal(again(live.x), live.model(live.x))
    average = torch.optim.swa_utils.AveragedModel(live.model)
    average.update_parameters(live.model)
    assert torch.allclose(average(live.x), live.model(live.x), atol=1e-6)
    compiled = torch.compile(live.model, backend="eager")
    assert torch.allclose(compiled(live.x), live.model(live.x), atol=1e-6)


def test_what_cannot_go_live_is_refused(monkeypatch):
    run = Run().to(10)
    with pytest.raises(LifecycleError, match=r"After 10 of 40 steps the mask .* may still change"):
        go_live(run.optimizer)
    with pytest.raises(ArgumentError, match="is SGD"):
        go_live(torch.optim.SGD(run.model.parameters(), lr=0.1))
    run.to(30)
    with pytest.raises(ArgumentError, match="does not run on the example"):
        go_live(run.optimizer, torch.randn(3, 7))
    if kernels() is not None:
        go_live(run.optimizer)
        with pytest.raises(LifecycleError, match="already"):
            go_live(run.optimizer)
    run.to(STEPS).optimizer.finalize()
    with pytest.raises(LifecycleError, match="finalised"):
        go_live(run.optimizer)


def test_without_kernels_nothing_goes_live_and_training_goes_on(without_kernels):
    run = Run().to(30)
    report = go_live(run.optimizer)
    assert report.live == ()
    assert "switched off" in report.layers[0].reason
    run.to(STEPS).optimizer.finalize()
