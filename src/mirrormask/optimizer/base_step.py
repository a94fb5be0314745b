"""How the caller's optimizer is stepped on latents, and how decay passes through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from mirrormask.geometry import Geometry, Landing
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.pressure import Application

Group = dict[str, Any]


class BaseStep:
    """Steps the base optimizer with the slots of latent weights in place of the weights.

    The caller's parameter groups stay his: schedulers, scalers and clipping see the model's own
    tensors. Only inside :meth:`run` does the base optimizer see other groups, each of the caller's
    split into what is left dense and what is latent, with all other options equal.

    How decay of strength ``alpha`` reaches the latents depends on the base:

    - SGD adds ``2 * alpha * latent`` to the gradient, so it enters the momentum buffer, and
      momentum ``mu`` multiplies the budget by ``(1 - dampening) / (1 - mu)``. This is exactly an
      L1 penalty of weight ``2 * alpha`` on the weight.
    - AdamW multiplies the latents by ``1 - 2 * lr * alpha``.
    - Other bases (Adam, RMSprop, ...) would rescale a decay that went through their gradient
      until no L1 penalty is left of it, so the latents are multiplied by that same factor beside
      them.
    """

    def __init__(
        self, base: Optimizer, weights: Mapping[Tensor, LatentWeight], geometry: Geometry
    ) -> None:
        self.base = base
        self.weights = weights
        self.geometry = geometry

    def gain(self, group: Group) -> float:
        """Return how much of a step's ``lr * alpha`` the base's momentum makes in the long run."""
        if not isinstance(self.base, SGD):
            return 1.0
        return float((1.0 - group["dampening"]) / (1.0 - group["momentum"]))

    def budget(self, group: Group, alpha: float) -> float:
        """Return the budget ``lr * alpha * gain`` that one step in this group spends."""
        return float(group["lr"]) * alpha * self.gain(group)

    def passes_decay(self, group: Group) -> bool:
        """Return whether decay goes through the base's own weight decay."""
        if not self.geometry.decays_through_base:
            return False
        return isinstance(self.base, SGD) or decouples_decay(self.base, group)

    def run(self, alpha: float) -> None:
        """Step the base optimizer on latents under decay of strength ``alpha``."""
        for group in self.base.param_groups:
            if alpha > 0 and self.geometry.decays_through_base and not self.passes_decay(group):
                for weight in self._held(group):
                    if weight.parameter.grad is not None:
                        self.geometry.decay(weight.latents, float(group["lr"]) * alpha)
        with self.latent_groups(alpha):
            self.base.step()

    def land(
        self,
        application: Application,
        alpha: float,
        *,
        done: float,
        boost: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Let each weight take in its part of the step, with the pressure that is ours to apply.

        Args:
            application: Of the pressure.
            alpha: Its strength in the step.
            done: Finished part of the phase after the step.
            boost: Returns the factor on the learning rate of a weight that has been cut, by its
                density, both 0-d.
        """
        own_decay = application == "decay" and not self.geometry.decays_through_base
        for group in self.base.param_groups:
            spent = self.budget(group, alpha)
            landing = Landing(
                rate=float(group["lr"]),
                alpha=alpha,
                budget=spent if own_decay else 0.0,
                decay=self.budget(group, float(group.get("weight_decay") or 0.0)),
            )
            shrinkage = 2.0 * spent if application == "proximal" else 0.0
            for weight in self._held(group):
                if boost is not None and weight.density is not None:
                    weight.land(replace(landing, boost=boost(weight.density)), shrinkage, done)
                else:
                    weight.land(landing, shrinkage, done)

    def rates(self) -> Iterator[tuple[LatentWeight, float]]:
        """Yield each weight with the budget that a unit of ``alpha`` spends on it in a step."""
        for group in self.base.param_groups:
            for weight in self._held(group):
                yield weight, self.budget(group, 1.0)

    def first_group(self) -> Group:
        """Return the first group that holds a latent weight: whose rate the pressure goes by."""
        return next(group for group in self.base.param_groups if self._held(group))

    @contextmanager
    def latent_groups(self, alpha: float) -> Iterator[list[Group]]:
        """Show the base optimizer groups of dense parameters and slots while inside."""
        outer = self.base.param_groups
        pairs = [(group, self._latent_group(group, alpha)) for group in outer]
        inner = [part for group, latent in pairs for part in (self._dense_group(group), latent)]
        self.base.param_groups = inner
        try:
            yield inner
        finally:
            self.base.param_groups = outer
            for index, group in enumerate(outer):
                _copy_changed_options(inner[2 * index], group)

    def _held(self, group: Group) -> list[LatentWeight]:
        return [self.weights[p] for p in group["params"] if p in self.weights]

    def _dense_group(self, group: Group) -> Group:
        return group | {"params": [p for p in group["params"] if p not in self.weights]}

    def _latent_group(self, group: Group, alpha: float) -> Group:
        slots = [slot for weight in self._held(group) for slot in weight.slots.values()]
        latent = group | {"params": slots}
        if "weight_decay" in group:
            own = group["weight_decay"] if self.geometry.keeps_weight_decay else 0.0
            latent["weight_decay"] = own + (2.0 * alpha if self.passes_decay(group) else 0.0)
        return latent


def decouples_decay(base: Optimizer, group: Group) -> bool:
    """Return whether this optimizer's weight decay multiplies the weight by ``1 - lr * wd``."""
    return isinstance(base, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay", False))


def _copy_changed_options(inner: Group, outer: Group) -> None:
    """Keep what an optimizer wrote into its groups while stepping (schedule-free ones do)."""
    for key, value in inner.items():
        if key != "params" and value is not outer.get(key):
            outer[key] = value
