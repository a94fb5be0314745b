"""A boost of the learning rate during a run: what it has seen, and what is on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor

from mirrormask.optimizer.feedback import Feedback
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.optimizer.measures import relative_step
from mirrormask.optimizer.rate_boost import BoostState, RateBoost
from mirrormask.pressure import Clock


class Boosting:
    """Follows the optimizer's steps for a :class:`RateBoost`; without one it does nothing.

    Attributes:
        boost: The options, or None.
        state: What it remembers.
    """

    def __init__(self, boost: RateBoost | None) -> None:
        self.boost = boost
        self.state: BoostState = {} if boost is None else boost.start()
        self._feedback = Feedback()

    def follow(
        self, clock: Clock, rates: Iterable[tuple[LatentWeight, float]]
    ) -> Callable[[Tensor], Tensor] | None:
        """Take in a step before it lands; return the factor of a density, or None for none.

        A measurement is used one interval later, so that no step waits for the device.

        Args:
            clock: Of the step.
            rates: Each weight and the budget that a unit of ``alpha`` spends on it in the step.
        """
        if self.boost is None:
            return None
        rates = list(rates)
        if all(weight.density is None for weight, _ in rates):
            return None  # the first steps of a run are larger than any later ones
        if self.boost.measures_at(clock):
            measured = self._feedback.receive()
            if measured is not None:
                self.state = self.boost.react(self.state, measured)
            self._feedback.send(relative_step(rates).unsqueeze(0))
        self.state = self.boost.see(self.state, clock)
        limit = self.boost.limit(self.state, clock)
        return partial(self.boost.factor, limit=limit) if limit > 1.0 else None

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {"state": dict(self.state), "pending": self._feedback.receive()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned in another run."""
        self.state = dict(saved["state"])
        self._feedback.restore(saved["pending"])

    def damage(self, saved: dict[str, Any]) -> str | None:
        """Return what cannot be so in what :meth:`state_dict` returned once, or None."""
        numbers = [*saved["state"].values(), *(saved["pending"] or [])]
        plain = all(isinstance(number, float | int) for number in numbers)
        if saved["state"].keys() != self.state.keys() or not plain:
            return f"boost={saved}"
        return None
