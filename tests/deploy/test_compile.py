from __future__ import annotations

import copy
import io
import json
from collections import Counter

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn.utils import prune

from mirrormask.deploy import CompileOptions, Plan, SparseLinear, compile, speed_report
from mirrormask.deploy.outputs import output_error
from mirrormask.errors import ArgumentError

QUICK = CompileOptions(layer_rounds=7, net_rounds=7)


@pytest.fixture
def wide(sparsify):
    return sparsify(nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1024)), 0.995)


def kinds(model):
    return Counter(type(module).__name__ for module in model.modules())


def test_a_sparse_model_becomes_faster_and_says_so(wide):
    before = copy.deepcopy(wide.state_dict())
    x = torch.randn(1, 1024)
    fast = compile(wide, x)
    report = speed_report(fast)
    assert report is fast.speed_report
    assert torch.allclose(fast(x), wide(x), atol=1e-5)
    assert kinds(fast)["SparseLinear"] == 2
    assert report.faster
    assert report.compiled_bytes < report.dense_bytes / 5
    assert report.max_error < 1e-5
    assert "faster than dense" in str(report)
    assert all(torch.equal(before[k], v) for k, v in wide.state_dict().items())
    assert wide.training
    assert not fast.training


def test_a_dense_model_is_handed_back_unchanged_with_the_reason(sparsify):
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    kept = compile(model, torch.randn(4, 64), options=QUICK)
    report = speed_report(kept)
    assert not report.faster
    assert report.verdict.startswith("not faster")
    assert report.max_error == 0.0
    assert kinds(kept) == kinds(model)
    assert {layer.reason for layer in report.layers} == {"only 0% zeros"}
    assert report.plan == Plan(choices={}, rewrite=False)


def test_layers_too_small_to_gain_stay_dense(sparsify):
    model = sparsify(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), 0.9)
    report = speed_report(compile(model, torch.randn(32, 8), options=QUICK))
    assert [layer.choice for layer in report.layers] == ["dense", "dense"]
    assert all("not faster" in layer.reason for layer in report.layers)


def test_the_guard_undoes_choices_that_do_not_pay(sparsify):
    model = sparsify(nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), 0.6)
    plan = Plan(choices={"0": "csr", "1": "csr"}, rewrite=False)
    report = speed_report(compile(model, torch.randn(64, 16), plan=plan))
    assert not report.faster
    assert report.compiled_ms == report.dense_ms


def test_a_plan_is_used_again_without_timing_the_layers(wide, monkeypatch):
    x = torch.randn(1, 1024)
    plan = Plan.from_json(speed_report(compile(wide, x)).plan.to_json())
    assert set(plan.choices) == {"0", "2"}
    assert set(plan.choices.values()) <= {"kernel", "csr"}

    def refuse(*args, **keywords):
        raise AssertionError("layers were timed")

    monkeypatch.setattr("mirrormask.deploy.compiling.measure_layers", refuse)
    again = compile(wide, x, plan=plan)
    assert kinds(again)["SparseLinear"] == 2
    assert torch.allclose(again(x), wide(x), atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(choices={"7": "csr"}, rewrite=False), r"\['7'\], which the model does not have"),
        (Plan(choices={"0": "shifts"}, rewrite=False), "cannot have"),
    ],
)
def test_a_plan_of_another_model_is_refused(wide, plan, message):
    with pytest.raises(ArgumentError, match=message):
        compile(wide, torch.randn(1, 1024), plan=plan)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"version": 2}',
        '{"version": 1, "choices": [], "rewrite": true}',
        '{"version": 1, "choices": {"a": "fast"}, "rewrite": true}',
        '{"version": 1, "choices": {"a": []}, "rewrite": true}',
        "[" * 100_000,
    ],
)
def test_damaged_plans_are_refused(text):
    with pytest.raises(ArgumentError):
        Plan.from_json(text)


class Keywords(nn.Module):
    """Control flow that no tracer follows, keyword arguments, and a mapping for output."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1024, 1024)

    def forward(self, *, x, scale=None):
        if x.sum() > 1e9:
            return {"y": x}
        return {"y": self.fc(x), "extra": (x, [scale])}


def test_models_without_a_graph_are_compiled_layer_by_layer(sparsify):
    model = sparsify(Keywords(), 0.995)
    example = {"x": torch.randn(1, 1024), "scale": torch.ones(1)}
    fast = compile(model, example)
    report = speed_report(fast)
    assert any("cannot be traced" in note for note in report.notes)
    assert [layer.choice for layer in report.layers] in (["csr"], ["kernel"])
    assert output_error(fast(**example), model.eval()(**example)) < 1e-5


def test_norms_and_dead_channels_make_a_dense_model_smaller(sparsify):
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()
    with torch.no_grad():
        model[3].weight[:, 8:] = 0
    x = torch.randn(4, 3, 24, 24)
    report = speed_report(compile(model, x))
    assert "folded 2 BatchNorms, removed 24 dead channels" in report.notes
    if report.faster:
        assert report.compiled_bytes < report.dense_bytes / 2


def test_tied_weights_and_repeated_layers_stay_right(sparsify):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(300, 256)
            self.mix = nn.Linear(256, 256)
            self.head = nn.Linear(256, 300, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            x = self.embed(tokens)
            return self.head(self.mix(torch.relu(self.mix(x))))

    model = sparsify(Tied(), 0.98).eval()
    tokens = torch.randint(300, (1, 1))
    fast = compile(model, tokens)
    assert torch.allclose(fast(tokens), model(tokens), atol=1e-4)
    other = torch.randint(300, (2, 5))
    assert torch.allclose(fast(other), model(other), atol=1e-4)


def test_hooked_pruned_and_half_layers_are_left_dense_with_a_reason(sparsify):
    model = sparsify(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), 0.9)
    prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ArgumentError, match="make pruning permanent"):
        compile(model, torch.randn(2, 64))
    with torch.no_grad():
        model(torch.randn(2, 64))
    nn.utils.parametrizations.weight_norm(model[1])
    report = speed_report(compile(model, torch.randn(2, 64), options=QUICK))
    assert all("hooks or param" in layer.reason for layer in report.layers)
    half = sparsify(nn.Sequential(nn.Linear(64, 64)), 0.9).bfloat16()
    report = speed_report(compile(half, torch.randn(2, 64, dtype=torch.bfloat16), options=QUICK))
    assert "bfloat16" in report.layers[0].reason


def test_a_random_model_is_kept_dense_because_outputs_cannot_be_compared(sparsify):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1024, 1024)

        def forward(self, x):
            return self.fc(x) + torch.rand(1)

    report = speed_report(compile(sparsify(Noisy(), 0.995), torch.randn(1, 1024), options=QUICK))
    assert not report.faster
    assert any("undone" in note for note in report.notes)


def test_what_cannot_be_compiled_is_named(wide):
    for model, example, message in (
        ("net", torch.ones(1), "is no model"),
        (wide, 3, "give a tensor, a tuple or a mapping"),
        (wide, torch.randn(1, 5), "does not run on the example"),
        (wide, (torch.randn(1, 1024), 3), "does not run on the example"),
        (nn.Linear(3, 3, device="meta"), torch.randn(1, 3), "on meta"),
    ):
        with pytest.raises(ArgumentError, match=message):
            compile(model, example)
    with pytest.raises(ArgumentError, match="no speed report"):
        speed_report(wide)
    for bad in ({"tolerance": 0.0}, {"min_sparsity": 1.5}, {"net_rounds": 3}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            CompileOptions(**bad)


def test_reports_become_tables_and_json(wide):
    report = speed_report(compile(wide, torch.randn(1, 1024), options=QUICK))
    assert json.loads(json.dumps(report.to_dict()))["layers"][0]["name"] == "0"
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(report.table())
    text = console.export_text()
    assert report.layers[0].choice in text
    assert report.verdict[:20] in text


def test_compiled_models_can_be_copied_and_compiled_by_torch(wide):
    x = torch.randn(3, 1024)
    fast = compile(wide, x)
    twin = copy.deepcopy(fast)
    assert torch.equal(twin(x), fast(x))
    assert isinstance(twin[0], SparseLinear)
    assert torch.allclose(torch.compile(fast, backend="aot_eager")(x), fast(x), atol=1e-5)


def test_a_declined_model_shares_the_weights_and_leaves_their_flags_alone():
    model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
    kept = compile(model, torch.randn(4, 64), options=CompileOptions(net_rounds=7))
    if not speed_report(kept).faster:
        assert kept[0].weight.data_ptr() == model[0].weight.data_ptr()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in kept.parameters())


def test_a_model_that_looks_at_its_weights_stays_dense_and_works(sparsify):
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1024, 1024)

        def forward(self, x):
            if x.abs().sum() < 0:
                return x
            return self.fc(x) + self.fc.weight.mean()

    model = sparsify(Looking(), 0.995)
    x = torch.randn(1, 1024)
    kept = compile(model, x, options=QUICK)
    assert not speed_report(kept).faster
    assert any("AttributeError" in note for note in speed_report(kept).notes)
    assert torch.equal(kept(x), model.eval()(x))
