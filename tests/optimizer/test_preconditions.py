"""Every refusal names the value and the way out, and leaves weights and optimizer as they were."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import mirrormask as mm
from mirrormask.errors import (
    ArgumentError,
    LifecycleError,
    MirrormaskWarning,
    NonFiniteError,
    OptimizerError,
    SelectionError,
)
from mirrormask.geometry import Euclidean, Factors, Mirror


def sgd(net: nn.Module, **options: float) -> torch.optim.SGD:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, **options)


def everything(net: nn.Module, base: torch.optim.Optimizer) -> bytes:
    """All bytes of a model and of its optimizer's state and options."""
    return pickle.dumps(
        (
            {name: t.numpy().tobytes() for name, t in net.state_dict().items()},
            [{k: v for k, v in g.items() if k != "params"} for g in base.param_groups],
            [[id(p) for p in g["params"]] for g in base.param_groups],
            {id(p): sorted(state) for p, state in base.state.items()},
        )
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sparsity": 1.0}, ArgumentError, r"sparsity=1.0 is no fraction.*\[0, 1\), such as 0.95"),
        ({"sparsity": 95}, ArgumentError, "sparsity=95 is no fraction"),
        ({"sparsity": -0.1}, ArgumentError, "sparsity=-0.1 is no fraction"),
        ({"sparsity": math.nan}, ArgumentError, "sparsity=nan is no fraction"),
        ({"sparsity": math.inf}, ArgumentError, "sparsity=inf is no fraction"),
        ({"sparsity": True}, ArgumentError, "sparsity=True is no fraction"),
        ({"sparsity": False}, ArgumentError, "sparsity=False is no fraction"),
        ({"sparsity": "0.9"}, ArgumentError, "sparsity='0.9' is no fraction"),
        ({"sparsity": None}, ArgumentError, "sparsity=None is no fraction"),
        ({"steps": 0}, ArgumentError, "steps=0 is no length of a run.*at least 1"),
        ({"steps": -5}, ArgumentError, "steps=-5 is no length"),
        ({"steps": 10.0}, ArgumentError, "steps=10.0 is no length.*whole number"),
        ({"steps": True}, ArgumentError, "steps=True is no length"),
        ({"steps": "10"}, ArgumentError, "steps='10' is no length"),
        ({"method": "pilott"}, ArgumentError, "'pilott' is unknown: did you mean 'pilot'.*Known"),
        ({"method": "xyz"}, ArgumentError, "method='xyz' is unknown: Known are pilot"),
        (
            {"method": ["pilot"]},
            ArgumentError,
            r"method=\['pilot'\] is neither a name nor a Recipe",
        ),
        ({"method": None}, ArgumentError, "method=None is neither a name nor a Recipe"),
        ({"include": "conv*"}, SelectionError, r"include='conv\*' matches no weight"),
        ({"exclude": "9.weight"}, SelectionError, "exclude='9.weight' matches no weight"),
        ({"exclude": "*"}, SelectionError, "No weight of Sequential is selected"),
    ],
)
@pytest.mark.parametrize("method", ["pilot", "magnitude"])
def test_bad_arguments(
    make_net, options: dict, error: type[Exception], message: str, method: str
) -> None:
    net = make_net()
    base = sgd(net)
    before = everything(net, base)
    with pytest.raises(error, match=message):
        mm.sparsify(base, net, **{"sparsity": 0.5, "steps": 10, "method": method} | options)
    assert everything(net, base) == before


@pytest.mark.parametrize("steps", [10, np.int64(10)])
@pytest.mark.parametrize("sparsity", [0, 0.5, np.float32(0.5), np.float64(0.5)])
def test_numbers_of_numpy_are_numbers(make_net, steps: int, sparsity: float) -> None:
    net = make_net()
    optimizer = mm.sparsify(sgd(net), net, sparsity=sparsity, steps=steps)
    assert type(optimizer.steps) is int
    assert type(optimizer.sparsity) is float


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("geometry", [Factors(), Factors(beta=0.0), Mirror(), Euclidean()])
def test_weights_that_are_not_finite_at_the_start(make_net, bad: float, geometry: object) -> None:
    net = make_net()
    with torch.no_grad():
        net[2].weight[1, 2] = bad
    base = sgd(net)
    before = everything(net, base)
    with pytest.raises(NonFiniteError, match=r"Weight '2.weight' holds NaN or infinite.*go back"):
        mm.sparsify(base, net, sparsity=0.5, steps=10, method=mm.Recipe(geometry=geometry))
    assert everything(net, base) == before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_at_the_end(make_net, train, recipe, bad: float) -> None:
    net = make_net()
    optimizer = mm.sparsify(sgd(net), net, sparsity=0.5, steps=10, method=recipe)
    train(net, optimizer, range(10))
    flat = net[0].weight.detach().view(-1)
    largest = int(flat.abs().argmax())  # one that no mask hides
    good = flat[largest].item()
    flat[largest] = bad
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"Weight '0.weight' holds NaN or infinite values"):
        optimizer.finalize()
    for name, tensor in net.state_dict().items():
        same = tensor.eq(before[name]) | (tensor.isnan() & before[name].isnan())
        assert same.all(), name
    # Repaired, the same optimizer finishes.
    flat[largest] = good
    assert optimizer.finalize().zeros >= 170


def test_optimizer_that_lacks_the_weights(make_net) -> None:
    net, other = make_net(), make_net()
    base = sgd(other)
    before = everything(net, base)
    with pytest.raises(OptimizerError, match=r"hold 2 of the 2 selected weights \('0.weight'.*"):
        mm.sparsify(base, net, sparsity=0.5, steps=10)
    part = torch.optim.SGD(net[0].parameters(), lr=0.1)
    with pytest.raises(OptimizerError, match=r"hold 1 of the 2 .*'2.weight'.*or exclude them"):
        mm.sparsify(part, net, sparsity=0.5, steps=10)
    assert everything(net, base) == before
    assert mm.sparsify(part, net, sparsity=0.5, steps=10, exclude="2").masks().keys() == {
        "0.weight"
    }


def test_what_is_no_fitting_optimizer(make_net) -> None:
    net = make_net()
    scheduler = torch.optim.lr_scheduler.StepLR(sgd(net), 3)
    with pytest.raises(OptimizerError, match=r"StepLR is no torch.optim.Optimizer: pass the"):
        mm.sparsify(scheduler, net, sparsity=0.5, steps=10)
    with pytest.raises(OptimizerError, match=r"LBFGS evaluates the loss several times.*use SGD"):
        mm.sparsify(torch.optim.LBFGS(net.parameters()), net, sparsity=0.5, steps=10)
    wrapped = mm.sparsify(sgd(net), net, sparsity=0.5, steps=10)
    with pytest.raises(ArgumentError, match=r"wrapped by sparsify already"):
        mm.sparsify(wrapped, net, sparsity=0.5, steps=10)
    with pytest.raises(ArgumentError, match=r"model is a SGD, not a torch.nn.Module.*this order"):
        mm.sparsify(net, sgd(net), sparsity=0.5, steps=10)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32])
def test_complex_and_integer_weights(dtype: torch.dtype) -> None:
    net = nn.Linear(3, 3)
    net.odd = nn.Parameter(torch.ones(3, 3, dtype=dtype), requires_grad=dtype.is_complex)
    with pytest.raises(SelectionError, match=r"Weight 'odd' is .*: only real floating-point"):
        mm.sparsify(sgd(net), net, sparsity=0.5, steps=10, include=["odd", "weight"])


def test_calls_at_the_wrong_time(make_net, train, recipe) -> None:
    net = make_net()
    base = sgd(net)
    optimizer = mm.sparsify(base, net, sparsity=0.5, steps=4, method=recipe)
    train(net, optimizer, range(4))
    saved = copy.deepcopy(optimizer.state_dict())
    before = everything(net, base)
    with pytest.raises(LifecycleError, match=r"step 5 is more than the steps=4 announced: announ"):
        optimizer.step(lambda: pytest.fail("the closure must not be called"))
    assert everything(net, base) == before
    optimizer.finalize()
    before = everything(net, base)
    for call, act in {
        "finalize": optimizer.finalize,
        "step": optimizer.step,
        "scales": optimizer.scales,
        "load_state_dict": lambda: optimizer.load_state_dict(saved),
    }.items():
        with pytest.raises(LifecycleError, match=f"{call} was called after finalize.*sparsify"):
            act()
    with pytest.raises(LifecycleError, match=r"holds nothing more to resume: save the model's"):
        optimizer.state_dict()
    assert everything(net, base) == before


@pytest.mark.parametrize("geometry", [Factors(), Mirror()])
def test_weight_decay_is_switched_off_with_one_message(make_net, geometry: object) -> None:
    net = make_net()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mm.sparsify(
            sgd(net, weight_decay=0.01),
            net,
            sparsity=0.5,
            steps=10,
            method=mm.Recipe(geometry=geometry),
        )
    (warning,) = [w for w in caught if issubclass(w.category, MirrormaskWarning)]
    assert "weight_decay=0.01 is switched off for the 2 tensors" in str(warning.message)
    assert warning.filename == __file__


def test_no_message_where_weight_decay_keeps_its_meaning(make_net) -> None:
    # MirrormaskWarning is an error in this suite, so that none is raised is the assertion.
    net = make_net()
    mm.sparsify(sgd(net, weight_decay=0.01), net, sparsity=0.5, steps=10, method="magnitude")
    net = make_net()
    biases = {"params": [net[0].bias, net[2].bias], "weight_decay": 0.01}
    base = torch.optim.SGD([{"params": [net[0].weight, net[2].weight]}, biases], lr=0.1)
    mm.sparsify(base, net, sparsity=0.5, steps=10)


def test_where_warnings_are_errors_nothing_is_changed(make_net) -> None:
    net = make_net()
    base = sgd(net, weight_decay=0.01)
    before = everything(net, base)
    with pytest.raises(MirrormaskWarning):
        mm.sparsify(base, net, sparsity=0.5, steps=10, method="pilot-factors")
    assert everything(net, base) == before


def schedule_free(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer that says of itself what schedule-free ones say."""
    base = torch.optim.SGD(parameters, lr=0.1)
    for group in base.param_groups:
        group["train_mode"] = True
    return base


READS = {"Adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05), "SGD": schedule_free}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("method", ["pilot", "pilot-mirror"])
def test_bases_that_read_what_they_move_are_refused_increments(
    make_net, name: str, method: str
) -> None:
    net = make_net()
    base = READS[name](list(net.parameters()))
    before = everything(net, base)
    with pytest.raises(OptimizerError, match=f"{name} .* use method='pilot-factors'"):
        mm.sparsify(base, net, sparsity=0.5, steps=10, method=method)
    assert everything(net, base) == before


@pytest.mark.parametrize(
    ("method", "build"),
    [
        ("pilot-factors", lambda p: torch.optim.Adafactor(p, lr=0.05)),
        ("pilot", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("pilot", lambda p: torch.optim.AdamW(p, lr=0.01)),
        ("pilot", lambda p: torch.optim.RMSprop(p, lr=0.003)),
        ("pilot", lambda p: torch.optim.NAdam(p, lr=0.01)),
    ],
)
def test_what_is_not_refused_learns(method: str, build) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))
    inputs = torch.randn(128, 8)
    labels = inputs[:, :3].argmax(1)
    optimizer = mm.sparsify(
        build(net.parameters()), net, sparsity=0.5, steps=150, method=method, seed=0
    )
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.2  # log 3 = 1.1 at the start
