"""Graphs cut into regions and torch's operators give what the model gives, however they are cut."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mirrormask.deploy.outputs import output_error
from mirrormask.deploy.runner.any_batch import open_model
from mirrormask.deploy.runner.attached import planned_of
from mirrormask.deploy.runner.reasons import UnsupportedError
from mirrormask.deploy.runner.splitting import split
from mirrormask.deploy.runner.trial import with_regions
from mirrormask.kernels import kernel_status

pytestmark = pytest.mark.skipif(not kernel_status().active, reason="no compiled kernels")

CASES = settings(
    max_examples=40,
    deadline=None,
    # Each case is exported anew: shrinking one would take minutes.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Operators on [n, 4, 5, 5]; the odd ones have no step.
ODD = {
    "sin": torch.sin,
    "cumulated": lambda x: x.cumsum(-1),
    "rolled": lambda x: x.roll(1, 1),
    "sorted": lambda x: x.sort(1).values,
}
EVEN = {
    "relu": F.relu,
    "gelu": F.gelu,
    "turned": lambda x: x.transpose(2, 3),
    "half": lambda x: x.sigmoid() * 0.5 + 1,
}
PAIRS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "gate": lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)),
}
LAYERS = ("conv", "again", "linear", "tokens")


class Random(nn.Module):
    """A graph that was drawn: each step reads one or two of the values before it."""

    def __init__(self, steps, outputs):
        super().__init__()
        self.steps, self.outputs = steps, outputs
        self.conv, self.again = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.linear, self.tokens = nn.Linear(5, 5), nn.Linear(4, 4)
        self.both = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        values = [x]
        for name, left, right in self.steps:
            a, b = values[left % len(values)], values[right % len(values)]
            values.append(self.step(name, a, b))
        return tuple(values[-1 - index % (len(values) - 1)] for index in self.outputs)

    def step(self, name, a, b):
        if name == "tokens":
            n = a.shape[0]
            rows = a.flatten(2).transpose(1, 2).reshape(n * 25, 4)
            return self.tokens(rows).view(n, 25, 4).transpose(1, 2).reshape(a.size(0), 4, 5, 5)
        if name in LAYERS:
            return getattr(self, name)(a)
        if name == "both":
            return self.both(torch.cat([a, b], 1))
        return (ODD | EVEN)[name](a) if name in ODD | EVEN else PAIRS[name](a, b)


STEPS = st.tuples(
    st.sampled_from([*ODD, *EVEN, *LAYERS, *LAYERS, *PAIRS, "both"]),
    st.integers(0, 20),
    st.integers(0, 20),
)


@CASES
@given(
    steps=st.lists(STEPS, min_size=3, max_size=12),
    outputs=st.lists(st.integers(0, 3), min_size=1, max_size=2),
    batch=st.sampled_from([1, 2, 3]),
    whole=st.booleans(),
)
def test_random_graphs_give_what_torch_gives(thin, steps, outputs, batch, whole):
    # The value that is returned must depend on a layer.
    steps = [("conv", 0, 0), *steps]
    net = thin(Random(steps, outputs)).requires_grad_(False)
    x = torch.randn(batch, 4, 5, 5)
    try:
        found = with_regions(net, net, (x,), part=batch if whole else 1, slow=())
    except UnsupportedError as reason:
        assume("no part of it gains" not in str(reason))
        raise
    for count in (1, 2, 5):
        more = torch.randn(count * batch, 4, 5, 5)
        wanted = copy.deepcopy(net).double()(more.double())
        assert output_error(found(more), wanted) < 1e-4
    left = planned_of(found).split.left
    assert not any("conv" in line or "linear" in line for line in left)


def regions(net, *inputs, part=None):
    """Return the split form of a model, after comparing it with the model."""
    opened = open_model(net, tuple(torch.cat([value, value]) for value in inputs))
    made = split(opened, inputs, part or len(inputs[0]), slow=())
    found, wanted = made.graph(*inputs), net(*inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    assert output_error(found, wanted) < 1e-4
    return made


def layers(names, width=6):
    return {name: nn.Linear(width, width) for name in names}


def _across(held, x):
    y = held["a"](x)
    return held["b"](torch.sin(y)) + y


def _crossing(held, x):
    # Cut in two at the wrong place, each half would wait for the other.
    left, right = held["a"](x), held["b"](x)
    return held["a"](torch.sin(right) + left) + held["b"](torch.cos(left) + right)


def _twice(held, x):
    return held["a"](torch.sin(held["a"](torch.sin(held["a"](x)))))


def _tuple(held, x):
    y = F.relu(held["a"](x))
    return torch.sin(y), y, held["b"](y)


@pytest.mark.parametrize(
    ("function", "count"), [(_across, 2), (_crossing, 2), (_twice, 3), (_tuple, 1)]
)
@pytest.mark.parametrize(("batch", "part"), [(1, 1), (4, 1), (4, 2), (4, 4)])
def test_cuts(wrapped, thin, function, count, batch, part):
    net = thin(wrapped(function, **layers("ab"))).requires_grad_(False)
    made = regions(net, torch.randn(batch, 6), part=part)
    assert len(made.regions) == count
    assert not any("linear" in line or "add" in line for line in made.left)


def test_a_region_of_several_inputs_and_outputs(wrapped, thin):
    net = thin(
        wrapped(
            lambda held, x, y: torch.sin(held["a"](torch.cos(x)) + held["b"](y)) * held["b"](y),
            **layers("ab"),
        )
    ).requires_grad_(False)
    made = regions(net, torch.randn(4, 6), torch.randn(4, 6), part=2)
    assert len(made.regions) == 1
    assert len(made.regions[0].program.inputs) == len(made.regions[0].program.outputs) == 2


def test_what_has_nothing_sparse_beside_it_stays_in_torch(wrapped, thin):
    held = layers("ab")
    net = wrapped(lambda held, x: held["b"](torch.sin(held["a"](F.gelu(torch.cos(x))))), **held)
    thin(held["a"], 0.9), thin(held["b"], 0.2)
    made = regions(net.requires_grad_(False), torch.randn(4, 6))
    assert len(made.regions) == 1
    assert "1 x linear (nothing sparse beside it)" in made.left
    with pytest.raises(UnsupportedError, match="no part of it"):
        thin(held["a"], 0.0)
        net = wrapped(lambda held, x: torch.sin(held["b"](x)), b=nn.Linear(6, 6))
        regions(net.requires_grad_(False), torch.randn(4, 6))


def test_values_that_do_not_begin_with_the_batch_stay_in_torch(wrapped, thin):
    def turned(held, x):
        y = held["a"](x)
        return held["b"](torch.sin(y.transpose(0, 1).contiguous()).transpose(0, 1))

    net = thin(wrapped(turned, **layers("ab"))).requires_grad_(False)
    made = regions(net, torch.randn(6, 5, 6), part=2)
    assert len(made.regions) == 2
    assert "2 x transpose (a value that does not begin with the batch)" in made.left


def test_fixed_values_are_computed_once(wrapped, thin):
    def placed(held, x):
        place = held["b"](torch.arange(30.0).reshape(5, 6) / 30)
        return torch.sin(held["a"](x) + place)

    net = thin(wrapped(placed, **layers("ab"))).requires_grad_(False)
    made = regions(net, torch.randn(2, 5, 6))
    assert [line.split()[2] for line in made.left] == ["add", "sin"]


def test_inputs_in_place_and_batch_norm(thin):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.b = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = self.norm(self.a(x))
            # Comes late, for it waits for torch, and yet reads y as it was.
            z = self.b(torch.cos(y)) * y
            y.sin_()
            return z + self.b(y)

    net = thin(Net()).requires_grad_(False)
    made = regions(net, torch.randn(2, 3, 8, 8))
    assert not any("norm" in line for line in made.left)
