"""A compiled model runs as a program where it may, and layer by layer everywhere else."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.deploy import export_model
from mirrormask.deploy.guard import CompileJob
from mirrormask.deploy.runner.attached import program_of
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.trial import with_program
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")


@pytest.fixture
def net(thin):
    net = nn.Sequential(nn.Linear(300, 400), nn.ReLU(), nn.Dropout(0.5), nn.Linear(400, 200))
    return thin(net, 0.97)


@pytest.fixture
def program(net):
    x = torch.randn(4, 300)
    return with_program(net, net, (x,), net(x), part=2)


def ran(model, monkeypatch):
    """Return a list that grows with every run of the model's program."""
    program = program_of(model).program
    calls, run = [], program.run
    monkeypatch.setattr(program, "run", lambda *a, **k: (calls.append(1), run(*a, **k)))
    return calls


def test_compile_chooses_the_program_and_says_so(net, programs_win):
    fast = mm.compile(net, torch.randn(4, 300))
    report = fast.speed_report
    # One example alone needs no copy into a layout for several.
    steps = {1: 3, 4: 4}[report.plan.part]
    assert f"as one program of {steps} steps" in report.verdict
    again = mm.compile(
        net, torch.randn(4, 300), plan=type(report.plan).from_json(report.plan.to_json())
    )
    assert again.speed_report.faster
    assert again.speed_report.plan == report.plan
    assert program_of(again).description.part == report.plan.part
    x = torch.randn(4, 300)
    assert torch.allclose(fast(x), net(x), atol=1e-5)
    assert type(fast) is nn.Sequential


def test_other_inputs_take_the_layers(net, program, monkeypatch):
    calls = ran(program, monkeypatch)
    x = torch.randn(4, 300)
    assert torch.allclose(program(x), net(x), atol=1e-5) and len(calls) == 1
    assert torch.allclose(program(x[:2]), net(x[:2]), atol=1e-5) and len(calls) == 2
    assert torch.allclose(program(x[:3]), net(x[:3]), atol=1e-5)
    assert torch.allclose(program(x[0]), net(x[0]), atol=1e-5)
    assert torch.allclose(program(input=x), net(x), atol=1e-5)
    assert torch.allclose(program(x.t().contiguous().t()), net(x), atol=1e-5)
    assert len(calls) == 3
    with pytest.raises(RuntimeError):
        program(x.double())
    with pytest.raises(RuntimeError):
        program(torch.randn(4, 299))
    program.train()
    program(x)
    assert len(calls) == 3


def test_gradients_reach_the_input(program, monkeypatch):
    calls = ran(program, monkeypatch)
    x = torch.randn(4, 300, requires_grad=True)
    program(x).sum().backward()
    assert x.grad is not None and not calls
    with torch.no_grad():
        program(x)
    assert calls


def test_torchs_defaults_for_new_tensors_do_not_matter(net, program):
    x = torch.randn(4, 300)
    expected = net(x)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = program(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_loaded_state_is_used(net, program):
    x = torch.randn(4, 300)
    state = {name: tensor * 2 for name, tensor in program.state_dict().items()}
    program.load_state_dict(state)
    assert program_of(program) is None
    net.load_state_dict(state)
    assert torch.allclose(program(x), net(x), atol=1e-5)


def test_copies_pickles_and_exports(net, program, tmp_path):
    x = torch.randn(4, 300)
    expected = program(x)
    for again in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert program_of(again)._model is again
        assert torch.equal(again(x), expected)
    exported = torch.export.export(program, (x,)).module()
    assert torch.allclose(exported(x), expected, atol=1e-5)
    assert export_model(program, x, tmp_path / "net.pt2").max_error < 1e-4
    assert program_of(program) is not None


def test_a_model_without_a_program_is_compiled_all_the_same(thin):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(600, 600)

        def forward(self, x):
            return torch.sin(self.a(x))

    fast = mm.compile(thin(Odd(), 0.99), torch.randn(1, 600))
    assert "not run as one program: the operator sin" in fast.speed_report.notes
    assert fast.speed_report.plan.part == 0


class Mixing(nn.Module):
    """Outputs that know the whole batch."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(30, 30)

    def forward(self, x):
        return self.a(x).mean(0, keepdim=True) + self.a(x)


class Turned(nn.Module):
    """A batch that is taken for features."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x):
        return self.a(x.t())


@pytest.mark.parametrize(("model", "shape"), [(Mixing, (1, 30)), (Turned, (6, 6))])
def test_examples_that_depend_on_each_other_have_no_program(thin, model, shape):
    net, x = thin(model(), 0.5), torch.randn(shape)
    with pytest.raises(UnsupportedError, match=r"depend on each other|rejects"):
        with_program(net, net, (x,), net(x))


def test_an_encoder_layer_runs_as_a_program(thin, programs_win):
    net = thin(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 0.9)
    x = torch.randn(2, 5, 64)
    fast = mm.compile(net, x)
    assert "as one program" in fast.speed_report.verdict
    assert torch.allclose(fast(x), net(x), atol=1e-5)
    y = torch.randn(6, 5, 64)
    assert torch.allclose(fast(y), net(y), atol=1e-5)


def test_dense_models_are_not_even_tried(monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr("mirrormask.deploy.guard.with_program", never)
    mm.compile(nn.Linear(64, 64), torch.randn(1, 64))


def test_a_wrong_program_is_thrown_away(net, program):
    description = program_of(program).description
    description.constants[:] *= 1.5
    job = CompileJob(
        dense=net,
        rewritten=net,
        inputs=(torch.randn(4, 300),),
        keywords={},
        expected=None,
        notes=[],
    )
    job.expected = job.run(net)
    assert job.error(program) > 1e-4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda net: net[0].register_forward_hook(lambda *_: None), "hooks"),
        (lambda net: nn.utils.parametrizations.weight_norm(net[0]), "hooks or parametrizations"),
    ],
)
def test_modules_with_code_around_them_have_no_program(net, change, reason):
    change(net)
    x = torch.randn(4, 300)
    with pytest.raises(UnsupportedError, match=reason):
        with_program(net, net, (x,), net(x))
