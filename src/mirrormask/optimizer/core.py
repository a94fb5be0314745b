"""SparseOptimizer: the optimizer that training loops see."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mirrormask.errors import ArgumentError, LifecycleError, MirrormaskWarning
from mirrormask.masking import keep_largest, zeros_asked, zeros_per_tensor
from mirrormask.optimizer import checkpoint
from mirrormask.optimizer.base_step import BaseStep, check_base
from mirrormask.optimizer.finish import count_flops, count_zeros, has_batchnorm, refresh_batchnorm
from mirrormask.optimizer.latent_weight import LatentWeight, mask_buffers
from mirrormask.optimizer.recipe import Recipe
from mirrormask.pressure import Clock, PressureState, TrainingSignal
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
        taken by other code is dense: cut it again with the masks of :meth:`masks`. Under Adam-like
        bases each factor's step has the size of the learning rate whatever its gradient, so
        ``|m| - |w|`` is conserved instead of ``m**2 - w**2``, decay is no longer exactly an L1
        penalty, and :attr:`budget` only bounds the scale; the target-seeking pressure measures the
        weights themselves and does not depend on either.

    Args:
        base: The optimizer to wrap; use this one in its place from now on.
        model: The model that it trains.
        targets: The tensors to make sparse.
        recipe: Geometry, pressure and masking.
        method: Name for reports and checkpoints.
        sparsity: Fraction of zeros over all targets, in [0, 1).
        steps: Optimizer steps in the whole run.

    Raises:
        ArgumentError: If ``sparsity`` or ``steps`` is outside its domain.
        OptimizerError: If ``base`` is no optimizer, cannot carry latents or lacks a target.
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
    ) -> None:
        _check_run(sparsity, steps)
        check_base(base, targets)
        self.base = base
        self.model = model
        self.recipe = recipe
        self.method = method
        self.sparsity = sparsity
        self.steps = steps
        self.steps_done = 0
        self.finalized = False
        self.budget = 0.0
        self.weights: dict[Tensor, LatentWeight] = {
            t.parameter: LatentWeight(t, recipe.geometry) for t in targets
        }
        self._base_step = BaseStep(base, self.weights, recipe.geometry)
        # Optimizer.__init__ validates groups and installs hooks; the groups are the base's own.
        super().__init__(base.param_groups, base.defaults)
        self.param_groups = base.param_groups
        self.pressure_state: PressureState = recipe.pressure.start(float(self.l1()))
        self._pending: Tensor | None = None
        self._warn_of_weight_decay()

    @property
    def alpha(self) -> float:
        """Strength of the next step; at a constant value an L1 penalty of weight 2 * alpha."""
        return self.recipe.pressure.alpha(self.pressure_state, self._clock())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimizer step.

        Args:
            closure: Re-evaluates the model and returns the loss; called once, with gradients.

        Returns:
            What the closure returned, or None.

        Raises:
            LifecycleError: If the model is finalised or all announced steps are done; the weights
                are as they were.
        """
        self._refuse_late_step()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        alpha = self.alpha
        proximal = self.recipe.pressure.application == "proximal"
        decay = 0.0 if proximal else alpha
        for weight in self.weights.values():
            weight.adopt_edits()
        self._measure()
        for weight in self.weights.values():
            weight.pull_back()
        self._base_step.run(decay)
        for group in self.param_groups:
            spent = self._base_step.budget(group, alpha)
            own = 0.0 if self.recipe.geometry.decays_through_base or proximal else spent
            for parameter in group["params"]:
                if parameter in self.weights:
                    self.weights[parameter].land(own, 2.0 * spent if proximal else 0.0)
        self.budget += self._base_step.budget(self._first_group(), alpha)
        self.steps_done += 1
        self._mask()
        return loss

    def observe(self, train_accuracy: float) -> None:
        """Report the training accuracy of an epoch to a pressure that asks for it (Algorithm 1)."""
        signal = TrainingSignal(accuracy=train_accuracy, l1=float(self.l1()), step=self.steps_done)
        self.pressure_state = self.recipe.pressure.observe(self.pressure_state, signal, self.steps)

    def masks(self) -> dict[str, Tensor]:
        """Return the masks in force by tensor name, True where a weight is kept."""
        return {
            w.name: torch.ones_like(w.parameter, dtype=torch.bool) if w.cut is None else ~w.cut
            for w in self.weights.values()
        }

    @torch.no_grad()
    def l1(self) -> Tensor:
        """Return the sum of ``|x|`` over the targeted weights, 0-d, on the device."""
        sums = [w.parameter.abs().sum(dtype=torch.float64) for w in self.weights.values()]
        return torch.stack([total.to(sums[0].device) for total in sums]).sum()

    @torch.no_grad()
    def scales(self) -> dict[str, float]:
        """Return the scale ``a`` of each targeted tensor: L2 below it, L1 above."""
        return {w.name: float(self.recipe.geometry.scale(w.latents)) for w in self.weights.values()}

    @torch.no_grad()
    def finalize(self, data: Iterable[Any] | None = None) -> SparsityReport:
        """Cut to the exact target, leave a plain model, and report what came out.

        Args:
            data: Batches (tensors, or tuples whose first part is the input) through which
                BatchNorm statistics are re-estimated after a cut; the first batch also counts
                FLOPs. Without it neither is done.

        Returns:
            The report, counted from the model's own tensors.

        Raises:
            LifecycleError: If the model is finalised already.
            NonFiniteError: If a weight is NaN; the model is as it was.
        """
        if self.finalized:
            raise LifecycleError(
                "finalize was called already: the model is plain and its report was returned then."
            )
        for weight in self.weights.values():
            weight.adopt_edits()
        before = {name: mask.sum() for name, mask in self.masks().items()}
        self._cut(self.sparsity)
        changed = any(bool(mask.sum() != before[name]) for name, mask in self.masks().items())
        self.finalized = True
        self._release()
        flops: dict[str, int] = {}
        if data is not None:
            flops = count_flops(self.model, data)
            refresh_batchnorm(self.model, data)
        elif changed and has_batchnorm(self.model):
            warnings.warn(
                "Weights were cut after the last step and the BatchNorm statistics are those of "
                "before: pass training batches, finalize(data=loader).",
                MirrormaskWarning,
                stacklevel=2,
            )
        return count_zeros(
            self.model,
            [(w.name, w.parameter) for w in self.weights.values()],
            method=self.method,
            steps=self.steps_done,
            asked=self.sparsity,
            flops=flops,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, in the format of ``torch.optim``."""
        return checkpoint.pack(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`, bit for bit.

        Raises:
            CheckpointError: If it is damaged or of another model, method, target or length; this
                optimizer is as it was.
        """
        checkpoint.unpack(self, state_dict)

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

    def set_pending(self, measured: list[float] | None) -> None:
        """Restore a measurement that the pressure has not used yet."""
        self._pending = None if measured is None else torch.tensor(measured, dtype=torch.float64)

    def _release(self) -> None:
        """Drop latents and their optimizer state: the plain model needs neither."""
        for weight in self.weights.values():
            for slot in weight.slots.values():
                self.base.state.pop(slot, None)
            weight.latents, weight.slots = {}, {}

    def _clock(self) -> Clock:
        return Clock(
            step=self.steps_done,
            steps=self.steps,
            rate=self._base_step.budget(self._first_group(), 1.0),
        )

    def _first_group(self) -> dict[str, Any]:
        return next(g for g in self.param_groups if any(p in self.weights for p in g["params"]))

    def _refuse_late_step(self) -> None:
        if self.finalized:
            raise LifecycleError(
                "step was called after finalize: the model is plain now; to train it further, "
                "wrap a new optimizer with sparsify."
            )
        if self.steps_done >= self.steps:
            raise LifecycleError(
                f"step {self.steps_done + 1} is more than the steps={self.steps} announced: "
                "announce the optimizer steps of the whole run (epochs x batches, divided by "
                "gradient accumulation)."
            )

    def _measure(self) -> None:
        pressure = self.recipe.pressure
        clock = self._clock()
        if not pressure.measures_at(clock):
            return
        if self._pending is not None:
            measured = [float(value) for value in self._pending]
            self.pressure_state = pressure.react(self.pressure_state, measured, clock)
        live = [w for w in self.weights.values() if w.parameter.grad is not None]
        if live:
            device = pressure.measure(
                [w.weight() for w in live],
                [w.parameter.grad for w in live if w.parameter.grad is not None],
                self.sparsity,
            )
            # A copy that does not wait: it is read one measurement later.
            host = torch.empty(
                device.shape, dtype=device.dtype, pin_memory=device.device.type == "cuda"
            )
            self._pending = host.copy_(device, non_blocking=True)

    def _mask(self) -> None:
        sparsity = self.recipe.masking.cut_after(self.steps_done, self.steps, self.sparsity)
        if sparsity is not None:
            self._cut(sparsity)
        if self.recipe.rebalances_after(self.steps_done, self.steps):
            for weight in self.weights.values():
                weight.rebalance()

    def _cut(self, sparsity: float) -> None:
        weights = list(self.weights.values())
        magnitudes = [weight.weight().abs() for weight in weights]
        scope = self.recipe.masking.scope
        if scope == "global":
            total = sum(tensor.numel() for tensor in magnitudes)
            kept = keep_largest(magnitudes, zeros_asked(sparsity, total))
        else:
            zeros = zeros_per_tensor([m.shape for m in magnitudes], sparsity, scope)
            kept = [keep_largest([m], z)[0] for m, z in zip(magnitudes, zeros, strict=True)]
        for weight, keep in zip(weights, kept, strict=True):
            weight.set_cut(~keep)
            for slot in weight.slots.values():
                mask_buffers(weight, self.base.state.get(slot, {}))

    def _warn_of_weight_decay(self) -> None:
        if self.recipe.geometry.keeps_weight_decay:
            return
        decayed = [
            group["weight_decay"]
            for group in self.param_groups
            if group.get("weight_decay") and any(p in self.weights for p in group["params"])
        ]
        if decayed:
            warnings.warn(
                f"weight_decay={decayed[0]} is switched off for the {len(self.weights)} tensors "
                f"that {self.method!r} makes sparse, where it would be a second L1 penalty; other "
                "parameters keep it.",
                MirrormaskWarning,
                stacklevel=4,
            )


def _check_run(sparsity: float, steps: int) -> None:
    if not isinstance(sparsity, float | int) or not 0 <= sparsity < 1:
        raise ArgumentError(
            f"sparsity={sparsity} is no fraction of zeros: use a number in [0, 1), such as 0.95 "
            "for 95 %."
        )
    if not isinstance(steps, int) or isinstance(steps, bool) or steps <= 0:
        raise ArgumentError(
            f"steps={steps} is no length of a run: give the number of optimizer steps, a whole "
            "number of at least 1."
        )
