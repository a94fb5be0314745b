"""Models have the published sizes, take the announced images, and start as the paper's did."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mirrormask.errors import ArgumentError
from mirrormask.study.data import DATASETS, load
from mirrormask.study.models import MODELS, build, build_for, check_fit

KINDS = {"grey28": (1, 28, 10), "colour32": (3, 32, 10), "digits": (1, 8, 10), "odd": (2, 21, 7)}

# The large networks for GPUs have tests of their own.
LARGE = ("resnet18-cifar", "resnet50")
OF_IMAGES = [n for n, record in MODELS.items() if record.kind == "images" and n not in LARGE]
KAIMING = [name for name, record in MODELS.items() if not record.own_start and name not in LARGE]


def make(name: str, kind: str = "grey28") -> nn.Module:
    channels, size, classes = KINDS[kind]
    return build(name, in_channels=channels, image_size=size, num_classes=classes)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "kind", "parameters"),
    [
        ("mlp", "grey28", 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),  # LeNet-300-100
        ("mlp-3x1024", "grey28", 784 * 1024 + 2 * 1024**2 + 3 * 1024 + 1024 * 10 + 10),
        ("resnet20", "colour32", 272_474),
        ("resnet20", "grey28", 272_474 - 2 * 9 * 16),
        ("cnn", "grey28", 199_402),
        ("cnn-small", "grey28", 9 * (16 + 16 * 32 + 32 * 64) + 2 * 112 + 1024 * 10 + 10),
    ],
)
def test_parameter_counts(name, kind, parameters):
    assert count(make(name, kind)) == parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_model_takes_every_kind_of_image_and_every_weight_learns(name, kind):
    channels, size, classes = KINDS[kind]
    torch.manual_seed(0)
    model = make(name, kind)
    scores = model(torch.randn(4, channels, size, size))
    assert scores.shape == (4, classes)
    scores.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("name", KAIMING)
def test_weights_start_kaiming_normal_and_biases_at_zero(name):
    torch.manual_seed(0)
    for module in make(name).modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            weight = module.weight.detach()
            n, fan_in = weight.numel(), weight[0].numel()
            # A deviation estimated from n normal draws is off by 1/sqrt(2n) of itself.
            assert weight.std() * (fan_in / 2) ** 0.5 == pytest.approx(1, abs=5 / (2 * n) ** 0.5)
            assert weight.mean() * (fan_in / 2) ** 0.5 == pytest.approx(0, abs=5 / n**0.5)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("name", [*KAIMING, "transformer"])
def test_the_start_is_fixed_by_the_global_seed(name):
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([p.detach().flatten() for p in make(name).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_resnet20_has_twenty_weighted_layers_and_halves_twice():
    model = make("resnet20", "colour32")
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    projections = [m for m in weighted if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(weighted) - len(projections) == 20
    assert len(projections) == 2
    maps = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: maps.append(output.shape[1:]))
    model(torch.randn(2, 3, 32, 32))
    assert maps == [(16, 32, 32)] * 3 + [(32, 16, 16)] * 3 + [(64, 8, 8)] * 3


def test_a_model_learns_to_tell_two_kinds_of_image_apart():
    for name in OF_IMAGES:
        torch.manual_seed(0)
        labels = torch.arange(32) % 2
        images = torch.randn(32, 1, 8, 8) + (2.0 * labels - 1)[:, None, None, None]
        model = build(name, in_channels=1, image_size=8, num_classes=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        assert (model(images).argmax(dim=1) == labels).all(), name


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet-20", "did you mean 'resnet20'"), ("vgg", "Known are")]
)
def test_an_unknown_name_lists_the_known_ones(name, hint):
    with pytest.raises(ArgumentError) as caught:
        make(name)
    assert repr(name) in str(caught.value)
    assert hint in str(caught.value)
    assert all(known in str(caught.value) for known in MODELS)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mlp", {"in_channels": 0}),
        ("mlp", {"image_size": 0}),
        ("cnn", {"image_size": 7}),
        ("resnet20", {"num_classes": 1}),
        ("resnet50", {"image_size": 31}),
    ],
)
def test_numbers_out_of_range_are_refused(name, change):
    ((option, value),) = change.items()
    with pytest.raises(
        ArgumentError, match=f"{option}={value} is too small for the model '{name}'"
    ):
        build(name, **{"in_channels": 1, "image_size": 28, "num_classes": 10} | change)


def test_the_signal_network_has_its_authors_size_and_the_transformer_its_parts():
    cnn1d = build_for("cnn1d", load("mnist1d"))
    assert count(cnn1d) == (5 * 25 + 25) + 2 * (3 * 25 * 25 + 25) + 125 * 10 + 10
    transformer = build_for("transformer", load("stdlib-text"))
    block = 64 * 192 + 192 + 64 * 64 + 64 + 2 * 64 * 256 + 256 + 64 + 4 * 64
    assert count(transformer) == 2 * 96 * 64 + 64 * 64 + 2 * block + 2 * 64


@pytest.mark.parametrize(("model", "data"), [("cnn1d", "mnist1d"), ("transformer", "stdlib-text")])
def test_models_of_sequences_learn_a_batch_with_every_weight(model, data):
    torch.manual_seed(0)
    loaded = load(data)
    net = build_for(model, loaded)
    inputs, labels = loaded.train.images[:64], loaded.train.labels[:64]
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs).flatten(0, -2), labels.flatten())
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(math.log(loaded.num_classes), rel=0.3)
    assert losses[-1] < 0.65 * losses[0]


def test_a_model_is_built_for_the_data_s_own_sizes():
    assert build_for("cnn", load("digits"))(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("model", "data", "way_out"),
    [
        ("mlp", "stdlib-text", "for images but 'stdlib-text' holds text: use 'transformer'"),
        ("transformer", "digits", "for text but 'digits' holds images: use 'mlp' or"),
        ("resnet20", "mnist1d", "for images but 'mnist1d' holds signals: use 'cnn1d'"),
        ("resnt20", "digits", "did you mean 'resnet20'"),
        ("mlp", "digit", "did you mean 'digits'"),
    ],
)
def test_models_that_do_not_fit_the_data_are_refused_by_name(model, data, way_out):
    with pytest.raises(ArgumentError, match=way_out):
        check_fit(model, data)


def test_every_data_set_has_a_model():
    for data in DATASETS.values():
        assert any(model.kind == data.kind for model in MODELS.values())
