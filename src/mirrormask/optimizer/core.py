"""SparseOptimizer: the optimizer that training loops see."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mirrormask.optimizer import checkpoint, ending, entry, preconditions, rewind, timetable
from mirrormask.optimizer.base_step import BaseStep
from mirrormask.optimizer.boosting import Boosting
from mirrormask.optimizer.compacted import Compacted
from mirrormask.optimizer.cut import is_exact, mask_of
from mirrormask.optimizer.engines import refuse_met_in_backward, reshard
from mirrormask.optimizer.feedback import Feedback, measure, report
from mirrormask.optimizer.latent_weight import LatentWeight
from mirrormask.optimizer.measures import measure_scales, total_size, with_pull
from mirrormask.optimizer.places import Places
from mirrormask.optimizer.randomness import generator_for
from mirrormask.optimizer.recipe import Recipe
from mirrormask.pressure import Clock, PressureState
from mirrormask.ranks import Ranks
from mirrormask.report import SparsityReport
from mirrormask.selection import Target


class SparseOptimizer(Optimizer):
    """Wraps an optimizer so that the selected weights of a model end exactly as sparse as asked.

    It is a ``torch.optim.Optimizer`` that shares the model's tensors and the parameter groups of
    the optimizer it wraps, so learning-rate schedulers, ``GradScaler``, clipping, accumulation and
    closures work as before. The model keeps its plain weights and is valid for evaluation after
    every step. Build it with :func:`mirrormask.sparsify`.

    Notes:
        Gradient clipping sees the gradient of the plain weight. An average of weights (EMA, SWA)
        taken by other code is dense: cut it again with the masks of :meth:`masks`. Where weights
        are factors, each factor's step under Adam-like bases has the size of the learning rate
        whatever its gradient, so ``|m| - |w|`` is conserved instead of ``m**2 - w**2``, decay is no
        longer exactly an L1 penalty, and :attr:`budget` only bounds the scale; the target-seeking
        pressure measures the weights themselves and does not depend on either. Mirror geometries
        move increments that are zero before each step, which excludes bases that read the size or
        the average of what they move (Adafactor, schedule-free ones).

    Args:
        base: The optimizer to wrap; use this one in its place from now on.
        model: The model that it trains.
        targets: The tensors to make sparse.
        recipe: Geometry, pressure and masking.
        method: Name for reports and checkpoints.
        sparsity: Fraction of zeros over all targets, in [0, 1).
        steps: Optimizer steps in the whole run.
        seed: Of what the method draws: random masks, starts and growth; None takes that of the
            first rank's torch.
        ranks: The processes that train this model together; this one alone by default.

    Raises:
        ArgumentError: If ``sparsity``, ``steps`` or ``seed`` is outside its domain, or the masking
            cannot have that sparsity on these tensors.
        OptimizerError: If ``base`` is no optimizer, cannot carry latents or lacks a target.
        NonFiniteError: If a target holds NaN or infinity.
        RankError: If ranks differ, or a weight is sharded in a way that the method cannot use.
    """

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module,
        targets: list[Target],
        recipe: Recipe,
        *,
        method: str,
        sparsity: float,
        steps: int,
        seed: int | None,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        sparsity, steps, seed = entry.check(
            base,
            model,
            targets,
            recipe,
            method=method,
            sparsity=sparsity,
            steps=steps,
            seed=seed,
            ranks=self.ranks,
        )
        self.base = base
        self.model = model
        self.recipe = recipe
        self.method = method
        self.sparsity = sparsity
        self.steps = steps
        self.seed = seed
        self.steps_done = 0
        self.finalized = False
        self.compacted: Compacted | None = None
        self.budget = 0.0
        self.stored: rewind.Stored = {}
        drawing = generator_for(seed, steps + 1)  # no step has this number
        self.weights: dict[Tensor, LatentWeight] = {
            t.parameter: LatentWeight(t, recipe.geometry, drawing) for t in targets
        }
        self.places = Places(model, self.weights.values())
        self._base_step = BaseStep(base, self.weights, recipe.geometry)
        # Optimizer.__init__ validates groups and installs hooks; the groups are the base's own.
        super().__init__(base.param_groups, base.defaults)
        self.param_groups = base.param_groups
        # Where torch and its tools look for what an optimizer keeps.
        self.state.update((p, weight.latents) for p, weight in self.weights.items())
        self.feedback = Feedback()
        self.boosting = Boosting(recipe.boost)
        for weight in self.weights.values():
            # What the base kept from earlier steps belongs to the weight, not to its latents.
            if all(slot is not weight.parameter for slot in weight.slots.values()):
                base.state.pop(weight.parameter, None)
        timetable.follow(self)
        reshard(model)
        self.pressure_state: PressureState = recipe.pressure.start(float(self.l1()))

    @property
    def alpha(self) -> float:
        """Strength of the next step; at a constant value an L1 penalty of weight 2 * alpha."""
        return self.recipe.pressure.alpha(self.pressure_state, self.clock())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimizer step.

        Args:
            closure: Re-evaluates the model and returns the loss; called once, with gradients.

        Returns:
            What the closure returned, or None.

        Raises:
            LifecycleError: If the model is finalised, all announced steps are done, or a weight
                was replaced or sharded anew; the weights are as they were.
            OptimizerError: If a step was taken inside backward already.
            RankError: If ranks would cut different weights; nothing is cut then.
        """
        preconditions.refuse_finalized(self, "step")
        preconditions.refuse_late_step(self)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        refuse_met_in_backward(self.weights.values())
        if self.places.check():
            reshard(self.model)
        alpha = self.alpha
        application = self.recipe.pressure.application
        for weight in self.weights.values():
            weight.adopt_edits()
        measured = measure(self)
        wanted = self.recipe.masking.needs_gradients(self.steps_done + 1, self.steps)
        senses = self.recipe.masking.senses(self.steps_done + 1, self.steps)
        penalty = 2.0 * alpha if application == "subgradient" else 0.0
        for weight in self.weights.values():
            weight.pull_back(penalty, keep_gradient=wanted, sense=senses)
        self._base_step.run(alpha if application == "decay" else 0.0)
        if measured is not None:
            self.feedback.send(with_pull(measured, self.recipe.pressure, self._base_step.rates()))
        clock = self.clock()
        boost = self.boosting.follow(clock, self._base_step.rates())
        done = (clock.step + 1) / clock.steps
        self._base_step.land(application, alpha, done=done, boost=boost)
        self.budget += self._base_step.budget(self._base_step.first_group(), alpha)
        self.steps_done += 1
        timetable.follow(self)
        return loss

    def observe(self, train_accuracy: float) -> None:
        """Report the training accuracy of an epoch to a pressure that asks for it (Algorithm 1).

        Each rank reports its own, and their mean counts.
        """
        report(self, train_accuracy)

    @property
    def at_target(self) -> bool:
        """Whether the masks in force have the zeros asked for, so that weights only train on.

        What comes before is a denser model: keep the best model, or stop early, from here on only.
        Methods that cut at the end get here in ``finalize``. Asks the device, and where weights
        are sharded all ranks have to ask at once.
        """
        with self.whole():
            return is_exact(self.weights.values(), self.sparsity)

    def masks(self) -> dict[str, Tensor]:
        """Return the masks in force by tensor name, True where a weight is kept."""
        with self.whole():
            return {weight.name: mask_of(weight) for weight in self.weights.values()}

    @torch.no_grad()
    def l1(self) -> Tensor:
        """Return the sum of ``|x|`` over the targeted weights of all ranks, 0-d, on the device."""
        return total_size([weight.parameter for weight in self.weights.values()])

    @torch.no_grad()
    def scales(self) -> dict[str, float]:
        """Return the scale ``a`` of each targeted tensor: L2 below it, L1 above.

        Of sharded tensors it is that of a sample; all ranks have to ask at once.
        """
        preconditions.refuse_finalized(self, "scales")
        return measure_scales(self)

    @torch.no_grad()
    def finalize(self, data: Iterable[Any] | None = None) -> SparsityReport:
        """Cut to the exact target, leave a plain model, and report what came out.

        A weight that is kept but exactly zero, such as one that no gradient ever reached, is put
        to the smallest live magnitude of its tensor: the zeros are those that were asked for.

        Args:
            data: Batches (tensors, or tuples whose first part is the input) through which
                BatchNorm statistics are re-estimated after a cut; the first batch also counts
                FLOPs. Without it neither is done.

        Returns:
            The report, counted from the model's own tensors.

        Raises:
            LifecycleError: If the model is finalised already, or no longer holds a tensor.
            ArgumentError: If ``data`` yields nothing, or no tensors; nothing is cut then.
            NonFiniteError: If a weight is NaN or infinite; nothing is cut then.
        """
        preconditions.refuse_finalized(self, "finalize")
        if self.compacted is not None:
            self.compacted.end()
            self.compacted = None
        return ending.finalize(self, data)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, in the format of ``torch.optim``."""
        if self.compacted is None:
            return checkpoint.pack(self)
        with self.whole():
            return copy.deepcopy(checkpoint.pack(self))  # its tensors are about to shrink again

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, bit for bit.

        Raises:
            CheckpointError: If it is damaged or of another model, method, target or length; this
                optimizer is as it was.
            LifecycleError: If the model is finalised.
        """
        preconditions.refuse_finalized(self, "load_state_dict")
        with self.whole():
            checkpoint.unpack(self, state_dict)
        reshard(self.model)

    def whole(self) -> AbstractContextManager[None]:
        """Return a context in which all tensors have their shapes, also while live ones train."""
        return nullcontext() if self.compacted is None else self.compacted.whole()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters that stay dense."""
        if self.param_groups is self.base.param_groups:
            self.base.add_param_group(param_group)
        else:  # still inside Optimizer.__init__
            super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but hooks and the wrapper that a scheduler puts on ``step``."""
        return {
            key: value
            for key, value in self.__dict__.items()
            if key != "step" and not key.startswith("_optimizer_")
        }

    def latent_groups(self) -> AbstractContextManager[list[dict[str, Any]]]:
        """Show the base optimizer the groups that it sees inside a step, while inside."""
        return self._base_step.latent_groups(0.0)

    def clock(self) -> Clock:
        """Return where the next step is in its phase."""
        first, length = self.phase()
        return Clock(
            step=self.steps_done - first,
            steps=length,
            rate=self._base_step.budget(self._base_step.first_group(), 1.0),
        )

    def phase(self) -> tuple[int, int]:
        """Return first step and length of the phase that the next step is in."""
        return self.recipe.masking.phase(min(self.steps_done, self.steps - 1), self.steps)
