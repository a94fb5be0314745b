"""What geometries and maskings may ask of the core: starts, shares, timetables, gradients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Generator, Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError
from mirrormask.geometry import Euclidean, Factors, Geometry, Landing, Latents
from mirrormask.masking import Candidates, Masking
from mirrormask.pressure import Constant

STEPS = 6


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def sparsify(model: nn.Module, recipe: mm.Recipe, seed: int = 0, **options) -> mm.SparseOptimizer:
    base = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    return mm.sparsify(base, model, sparsity=0.5, steps=STEPS, method=recipe, seed=seed)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int = 0) -> Tensor:
    batch = torch.randn(7, 5, generator=Generator().manual_seed(number))
    optimizer.zero_grad()
    model(batch).square().mean().backward()
    grad = model[0].weight.grad.clone()
    optimizer.step()
    return grad


def test_a_subgradient_is_what_an_l1_term_in_the_loss_gives() -> None:
    alpha = 0.01
    ours, theirs = net(), net()
    wrapped = sparsify(
        ours,
        mm.Recipe(pressure=Constant(strength=alpha, application="subgradient")),
        momentum=0.9,
    )
    plain = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9)
    for number in range(STEPS):
        step(ours, wrapped, number)
        batch = torch.randn(7, 5, generator=Generator().manual_seed(number))
        penalty = sum(p.abs().sum() for p in theirs.parameters() if p.ndim == 2)
        plain.zero_grad()
        (theirs(batch).square().mean() + 2 * alpha * penalty).backward()
        plain.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


@dataclass(frozen=True, kw_only=True)
class Gated(Geometry):
    """x = v * g with one gate a row, a start of its own, and a thermometer."""

    decays_through_base: ClassVar[bool] = False
    zero_is_fixed: ClassVar[bool] = False
    keeps_weight_decay: ClassVar[bool] = False
    reaches_zero: ClassVar[bool] = False

    heard: list[tuple[str, object]] = field(default_factory=list, compare=False, repr=False)

    def split(self, x: Tensor) -> Latents:
        gate = torch.full((len(x), 1), 2.0)
        return {"v": x / gate, "g": gate, "done": torch.zeros(())}

    def start(self, x: Tensor, generator: Generator) -> Latents:
        return self.split(torch.randn(x.shape, generator=generator))

    def resplit(self, latents: Latents, x: Tensor) -> Latents:
        return {**latents, "v": x / latents["g"]}

    def compose(self, latents: Latents, out: Tensor | None = None) -> Tensor:
        return torch.mul(latents["v"], latents["g"], out=out)

    def moving(self, latents: Latents) -> Latents:
        return {"v": latents["v"], "g": latents["g"]}

    def pull_back(self, latents: Latents, grad: Tensor) -> Latents:
        v, g = latents["v"], latents["g"]
        return {"v": grad * g, "g": (grad * v).sum(1, keepdim=True)}

    def decay(self, latents: Latents, budget: float) -> None:
        self.heard.append(("decay", budget))

    def scale(self, latents: Latents) -> Tensor:
        return latents["done"]

    def absorb(self, latents: Latents, moved: Latents, landing: Landing) -> None:
        self.heard.append(("landing", landing))

    def anneal(self, latents: Latents, done: float) -> None:
        latents["done"].fill_(done)


def test_a_shared_gate_trains_as_a_parametrised_module_would() -> None:
    model = net()
    optimizer = sparsify(model, mm.Recipe(geometry=Gated()))
    v = model[0].weight.detach().clone().div(2.0).requires_grad_()
    g = torch.full((4, 1), 2.0, requires_grad=True)
    rest = [p.detach().clone() for p in list(model.parameters())[1:]]
    batch = torch.randn(7, 5, generator=Generator().manual_seed(0))
    hidden = torch.relu(nn.functional.linear(batch, v * g, rest[0]))
    nn.functional.linear(hidden, rest[1], rest[2]).square().mean().backward()
    step(model, optimizer)
    wanted = (v - 0.1 * v.grad) * (g - 0.1 * g.grad)
    torch.testing.assert_close(model[0].weight, wanted, rtol=1e-6, atol=1e-7)


def test_a_start_of_its_own_depends_on_the_seed_alone() -> None:
    starts = []
    for seed, noise in ((1, 0), (1, 9), (2, 0)):
        model = net()
        torch.manual_seed(noise)
        sparsify(model, mm.Recipe(geometry=Gated()), seed=seed)
        starts.append(model[0].weight.detach().clone())
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_the_default_seed_is_that_of_torch_and_does_not_advance_it() -> None:
    model = net()
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    base = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer = mm.sparsify(base, model, sparsity=0.5, steps=STEPS)
    assert optimizer.seed == 11
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "7"])
def test_what_is_no_seed_is_refused(seed: object) -> None:
    with pytest.raises(ArgumentError, match=r"seed=.* is no seed: use a whole number"):
        sparsify(net(), mm.Recipe(), seed=seed)


def test_a_geometry_hears_of_rate_strength_and_gradient() -> None:
    model, geometry = net(), Gated()
    recipe = mm.Recipe(geometry=geometry, pressure=Constant(strength=0.02))
    optimizer = sparsify(model, recipe, momentum=0.5)
    grad = step(model, optimizer)
    kind, landing = geometry.heard[0]
    assert kind == "landing"
    assert (landing.rate, landing.alpha) == (0.1, 0.02)
    assert landing.budget == pytest.approx(0.1 * 0.02 / (1 - 0.5))
    assert torch.equal(landing.grad, grad)


def test_annealing_follows_the_finished_part_of_the_run() -> None:
    model = net()
    optimizer = sparsify(model, mm.Recipe(geometry=Gated()))
    seen = []
    for number in range(STEPS):
        step(model, optimizer, number)
        seen.append(optimizer.scales()["0.weight"])
    assert seen == pytest.approx([(n + 1) / STEPS for n in range(STEPS)])


def test_an_edited_weight_keeps_the_shared_gate() -> None:
    model = net()
    optimizer = sparsify(model, mm.Recipe(geometry=Gated()))
    step(model, optimizer)
    weight = optimizer.weights[model[0].weight]
    gate = weight.latents["g"].clone()
    with torch.no_grad():
        model[0].weight[1, 2] = 7.0
    weight.adopt_edits()
    assert torch.equal(weight.latents["g"], gate)
    assert weight.weight()[1, 2] == pytest.approx(7.0)


def test_a_proximal_pressure_needs_a_proximal_step() -> None:
    with pytest.raises(ArgumentError, match="Gated has no proximal step for Constant: use app"):
        mm.Recipe(geometry=Gated(), pressure=Constant(strength=1.0, application="proximal"))
    with pytest.raises(LookupError, match="Gated has no proximal step"):
        Gated().shrink({}, 1.0)


@dataclass(frozen=True, kw_only=True)
class Listening(Masking):
    """A random static mask that asks for gradients in the second step."""

    heard: list[Candidates] = field(default_factory=list, compare=False, repr=False)

    def cut_after(self, step: int, steps: int, sparsity: float) -> float | None:
        return sparsity if step in (0, 2, 3) else None

    def needs_gradients(self, step: int, steps: int) -> bool:
        return step == 2

    def choose(self, candidates: Candidates, sparsity: float) -> list[Tensor]:
        self.heard.append(candidates)
        drawn = [torch.rand(m.shape, generator=candidates.generator) for m in candidates.magnitudes]
        return self.pattern.keep(drawn, sparsity, self.scope)


@pytest.mark.parametrize("geometry", [Euclidean(), Factors()], ids=["euclidean", "factors"])
def test_a_masking_sees_dense_gradients_only_where_it_asked(geometry: Geometry) -> None:
    masking, model = Listening(), net()
    optimizer = sparsify(model, mm.Recipe(geometry=geometry, masking=masking))
    assert sum(int((w == 0).sum()) for w in (model[0].weight, model[2].weight)) == 16
    grads = [step(model, optimizer, number) for number in range(3)]
    assert [c.gradients is None for c in masking.heard] == [True, False, True]
    first, second, _ = masking.heard
    assert all(kept.all() for kept in first.kept)
    assert torch.equal(second.gradients[0], grads[1].abs())
    assert (second.gradients[0][~second.kept[0]] > 0).any()
    assert [(c.step, c.steps) for c in masking.heard] == [(0, STEPS), (2, STEPS), (3, STEPS)]
    assert all(weight.dense_gradient is None for weight in optimizer.weights.values())


def test_random_masks_follow_the_seed_and_survive_a_resume_under_another() -> None:
    def cuts(seed: int) -> Tensor:
        model = net()
        return sparsify(model, mm.Recipe(masking=Listening()), seed=seed).masks()["0.weight"]

    assert torch.equal(cuts(1), cuts(1))
    assert not torch.equal(cuts(1), cuts(2))

    model = net()
    optimizer = sparsify(model, mm.Recipe(masking=Listening()), seed=1)
    step(model, optimizer)
    saved = optimizer.state_dict()
    other = net()
    other.load_state_dict(model.state_dict())
    resumed = sparsify(other, mm.Recipe(masking=Listening()), seed=2)  # cuts other weights
    resumed.load_state_dict(saved)
    assert resumed.seed == 1
    for number in range(1, STEPS):
        step(model, optimizer, number)
        step(other, resumed, number)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
