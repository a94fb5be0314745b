"""Rewriting must not change what a model computes, and must find what can go."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mirrormask.deploy.dead_channels import remove_dead_channels
from mirrormask.deploy.fold import fold_batch_norms
from mirrormask.deploy.layouts import link_layouts
from mirrormask.deploy.model_graph import trace
from mirrormask.deploy.sparse_linear import SparseLinear


def lively(model):
    """Give norms statistics that are not the trivial ones."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval().requires_grad_(False)


def rewritten(model, x):
    expected = model(x)
    graph = trace(model)
    assert not isinstance(graph, str)
    for node in graph.graph.nodes:
        node.meta["ndim"] = x.ndim if x.ndim == 2 else 4
    counts = fold_batch_norms(graph), remove_dead_channels(graph)
    assert torch.allclose(model(x), expected, atol=1e-4, rtol=1e-4)
    return counts


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


def test_norms_fold_through_residual_blocks(sparsify):
    model = sparsify(lively(nn.Sequential(Residual(), nn.BatchNorm2d(4), Residual())), 0.5)
    zeros = model[0].conv1.weight == 0
    assert rewritten(model, torch.randn(2, 4, 8, 8))[0] == 4
    assert bool((model[0].conv1.weight[zeros] == 0).all())
    assert isinstance(model[1], nn.BatchNorm2d)


def test_norms_after_linear_layers_fold_only_on_rows():
    model = lively(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU()))
    assert rewritten(model, torch.randn(3, 5)) == (1, 0)
    sequence = lively(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(7)))
    graph = trace(sequence)
    for node in graph.graph.nodes:
        node.meta["ndim"] = 3
    assert fold_batch_norms(graph) == 0


class Shared(nn.Module):
    """One convolution, two norms: folding either would break the other."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.b(self.conv(self.a(self.conv(x))))


class Peeking(nn.Module):
    """A weight that the forward reads past its module."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.fc(x)) @ self.fc.weight


@pytest.mark.parametrize(
    ("build", "x"),
    [
        (Shared, torch.randn(2, 4, 5, 5)),
        (Peeking, torch.randn(2, 4)),
        (
            lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
            torch.randn(2, 4, 5, 5),
        ),
        (
            lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 2), nn.BatchNorm2d(4)),
            torch.randn(2, 4, 5, 5),
        ),
    ],
)
def test_what_cannot_be_folded_is_left_alone(build, x):
    model = build()
    if all(norm.track_running_stats for norm in model.modules() if hasattr(norm, "running_var")):
        lively(model)
    model.eval().requires_grad_(False)
    assert rewritten(model, x) == (0, 0)


def test_hooked_layers_are_left_alone():
    model = lively(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    assert rewritten(model, torch.randn(2, 4, 5, 5)) == (0, 0)


def test_unread_and_constant_channels_go_and_constants_move():
    model = (
        nn.Sequential(
            nn.Linear(6, 8),
            nn.GELU(),
            nn.Dropout(),
            nn.Linear(8, 5),
            nn.ReLU(),
            nn.Linear(5, 3, bias=False),
        )
        .eval()
        .requires_grad_(False)
    )
    model[0].weight[2] = 0.0
    model[0].bias[2] = 1.7
    model[3].weight[:, 5] = 0.0
    model[3].weight[4] = 0.0
    model[3].bias[4] = 2.0
    assert rewritten(model, torch.randn(9, 6)) == (0, 3)
    assert model[0].weight.shape == (6, 6)
    assert model[3].weight.shape == (4, 6)
    assert model[5].bias is not None


def test_removal_spreads_backwards():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    model.eval().requires_grad_(False)
    model[4].weight[:, :2] = 0.0
    model[2].weight[2:, :3] = 0.0
    assert rewritten(model, torch.randn(5, 4))[1] == 2 + 3


def test_a_constant_stays_where_padding_would_show_it():
    model = (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 3, 3, padding=1)
        )
        .eval()
        .requires_grad_(False)
    )
    model[0].weight[:2] = 0.0
    model[0].bias.copy_(torch.tensor([1.0, -1.0, -0.5, -0.7]))
    bias = model[0].bias.clone()
    assert rewritten(model, torch.randn(2, 2, 6, 6))[1] == 1
    assert torch.equal(model[0].bias, bias[[0, 2, 3]])
    circular = (
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"))
        .eval()
        .requires_grad_(False)
    )
    circular[0].weight[0] = 0.0
    assert rewritten(circular, torch.randn(2, 2, 6, 6))[1] == 1


def test_images_are_followed_through_pooling_into_rows():
    model = (
        nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 9, 4)
        )
        .eval()
        .requires_grad_(False)
    )
    model[0].weight[1] = 0.0
    model[0].bias[1] = 0.8
    model[4].weight[:, 9 * 3 : 9 * 4] = 0.0
    assert rewritten(model, torch.randn(3, 2, 8, 8))[1] == 2
    assert model[4].weight.shape == (4, 36)


def test_a_layer_never_loses_its_last_channel():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval().requires_grad_(False)
    model[2].weight.zero_()
    rewritten(model, torch.randn(2, 3))
    assert model[0].weight.shape == (1, 3)


def test_branches_and_groups_are_not_touched():
    class Branch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            y = torch.relu(self.a(x))
            return self.b(y) + self.c(y)

    branch = Branch().eval().requires_grad_(False)
    branch.b.weight[:, 0] = 0.0
    assert rewritten(branch, torch.randn(2, 4)) == (0, 0)
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
    grouped.eval().requires_grad_(False)[0].weight[0] = 0.0
    assert rewritten(grouped, torch.randn(2, 4, 3, 3)) == (0, 0)


def test_layouts_are_linked_only_between_sparse_layers():
    def layer(i, o):
        return SparseLinear.from_linear(nn.Linear(i, o))

    model = nn.Sequential(layer(8, 8), nn.GELU(), layer(8, 8), nn.LayerNorm(8), layer(8, 4))
    x = torch.randn(5, 8)
    expected = model(x)
    assert link_layouts(model) == 1
    assert [m.output_layout for m in model if isinstance(m, SparseLinear)] == [
        "columns",
        "rows",
        "rows",
    ]
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_untraceable_models_say_why():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    assert "cannot be traced" in trace(Branching())


class Projections(nn.Module):
    """Three layers that read one tensor, as attention does."""

    def __init__(self, *, peeks):
        super().__init__()
        self.q, self.k, self.v = (SparseLinear.from_linear(nn.Linear(8, 8)) for _ in range(3))
        self.peeks, self.act = peeks, nn.ReLU(inplace=True)

    def forward(self, x):
        y = x * 2
        q = self.q(y)
        if self.peeks == "method":
            y.add_(1)
        if self.peeks == "module":
            self.act(y)
        return q + self.k(y) * self.v(y)


def test_the_columns_of_a_common_input_are_made_once():
    for peeks, links in (("", 2), ("method", 0), ("module", 0)):
        model = Projections(peeks=peeks)
        inputs = [torch.randn(5, 8), torch.randn(3, 8), torch.randn(1, 8), torch.randn(2, 4, 8)]
        expected = [model(x) for x in inputs]
        assert link_layouts(model) == links
        for twin in (model, copy.deepcopy(model)):
            for x, right in zip(inputs, expected, strict=True):
                assert torch.allclose(twin(x), right, atol=1e-5)
            assert twin.q.shared is twin.v.shared
            assert not links or twin.q.shared._held is None


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (SparseLinear.from_linear(nn.Linear(8, 8)) for _ in range(2))

    def forward(self, x):
        x = x + self.a(x)
        return self.b(x) + x


def test_a_residual_sum_takes_columns_and_gives_rows():
    model = Stream()
    for x in (torch.randn(6, 8), torch.randn(1, 6, 8), torch.randn(2, 3, 8)):
        expected = Stream.forward(copy.deepcopy(model), x)
        link_layouts(model)
        assert (model.a.output_layout, model.b.output_layout) == ("columns", "rows")
        assert torch.allclose(model(x), expected, atol=1e-5)
        assert model(x).is_contiguous()
        assert (x + model.a(x)).is_contiguous()
