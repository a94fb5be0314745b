"""Which tensors count: the default rule, patterns, types, ties, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.errors import SelectionError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm((4, 8))  # two-dimensional on purpose
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))


class Language(nn.Module):
    """A block between an embedding and a head tied to it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.position = nn.Parameter(torch.randn(4, 8))
        self.scale = nn.Parameter(torch.ones(8))
        self.block = Block()
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embedding.weight


def names(model: nn.Module, **patterns: object) -> list[str]:
    return [target.name for target in mm.select(model, **patterns)]


MATRICES = [
    "block.attention.in_proj_weight",
    "block.attention.out_proj.weight",
    "block.mlp.0.weight",
    "block.mlp.2.weight",
]


def test_default_is_matrices_apart_from_norms_embeddings_and_heads_tied_to_them() -> None:
    assert names(Language()) == ["position", *MATRICES]


def test_default_on_convolutions_leaves_batchnorm_and_biases_dense() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert names(net) == ["0.weight", "3.weight"]


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ({"include": "block.mlp"}, ["block.mlp.0.weight", "block.mlp.2.weight"]),
        ({"include": "block.mlp.*"}, ["block.mlp.0.weight", "block.mlp.2.weight"]),
        ({"include": "*.2.weight"}, ["block.mlp.2.weight"]),
        ({"include": nn.Linear, "exclude": "head"}, MATRICES[1:]),
        ({"include": [nn.MultiheadAttention, "position"]}, ["position", MATRICES[0]]),
        ({"include": "embedding"}, ["embedding.weight"]),
        ({"include": "head.weight"}, ["embedding.weight"]),
        ({"include": "block.norm.weight"}, ["block.norm.weight"]),
        ({"include": ["scale", "position"]}, ["position", "scale"]),
        ({"include": ["sca*", "position"]}, ["position"]),  # one dimension: named in full or not
        ({"exclude": "block"}, ["position"]),
        ({"exclude": ["position", "*.mlp.*"]}, MATRICES[:2]),
        ({"exclude": (nn.Linear,)}, ["position", MATRICES[0]]),
        (
            {"include": "block.*", "exclude": "block.mlp"},
            [*MATRICES[:2], "block.norm.bias", "block.norm.weight"],
        ),
    ],
)
def test_patterns(patterns: dict, wanted: list[str]) -> None:
    assert sorted(names(Language(), **patterns)) == sorted(wanted)


def test_order_is_the_models_and_not_the_patterns() -> None:
    assert names(Language(), include=["block.mlp.2", "position", "block.mlp.0"]) == [
        "position",
        "block.mlp.0.weight",
        "block.mlp.2.weight",
    ]


def test_a_tied_weight_is_one_target_with_all_its_names() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    (target,) = mm.select(net)
    assert target.parameter is net[0].weight
    assert target.name == "0.weight"
    assert target.names == ("0.weight", "2.weight")
    for name in target.names:
        with pytest.raises(SelectionError, match="No weight of Sequential is selected"):
            mm.select(net, exclude=name)


def test_a_module_used_under_two_names_is_one_target() -> None:
    layer = nn.Linear(4, 4)
    (target,) = mm.select(nn.ModuleDict({"a": layer, "b": layer}))
    assert target.names == ("a.weight", "b.weight")


def test_frozen_and_empty_weights_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(0, 3))
    net[0].weight.requires_grad_(False)
    assert names(net) == ["1.weight"]
    # An integer tensor cannot train, so by default it is nobody's business.
    net.table = nn.Parameter(torch.zeros(3, 3, dtype=torch.int64), requires_grad=False)
    assert names(net) == ["1.weight"]


def linear() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def with_parameter(parameter: nn.Parameter) -> nn.Module:
    net = linear()
    net.register_parameter("odd", parameter)
    return net


@pytest.mark.parametrize(
    ("model", "patterns", "message"),
    [
        (
            linear(),
            {"include": "3.weight"},
            r"include='3.weight' matches no.*such as '[02].weight'",
        ),
        (linear(), {"exclude": "conv*"}, r"exclude='conv\*' matches no weight or module"),
        (linear(), {"include": nn.Conv2d}, "include=Conv2d matches no module that has weights"),
        (linear(), {"include": nn.Sequential}, "include=Sequential matches no module that has"),
        (linear(), {"include": []}, "No weight of Sequential is selected"),
        (linear(), {"include": "*bias"}, "No weight of Sequential is selected.*include="),
        (linear(), {"include": "*", "exclude": "*"}, "No weight of Sequential is selected"),
        (nn.ReLU(), {}, "No weight of ReLU is selected"),
        (nn.LayerNorm((3, 3)), {}, "No weight of LayerNorm is selected"),
        (linear(), {"include": 3}, "include=3 is no pattern: use names such as"),
        (linear(), {"exclude": [None]}, "exclude=None is no pattern: use names such as"),
        (
            with_parameter(nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))),
            {},
            "Weight 'odd' is complex64: only real.*exclude='odd'",
        ),
        (
            with_parameter(nn.Parameter(torch.ones(2, 2, dtype=torch.int8), requires_grad=False)),
            {"include": "odd"},
            "Weight 'odd' is int8: only real floating-point.*exclude='odd'",
        ),
        (nn.Linear(2, 2, device="meta"), {}, "Weight 'weight' is on the meta device.*materialise"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3)),
            {},
            "Weight '1.weight' .*has no values yet.*materialise",
        ),
        (
            linear().requires_grad_(False),
            {"include": "0.weight"},
            "All selected weights are frozen or empty.*'0.weight'.*requires_grad=True",
        ),
    ],
)
def test_each_refusal_names_the_value_and_the_way_out(
    model: nn.Module, patterns: dict, message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        mm.select(model, **patterns)
