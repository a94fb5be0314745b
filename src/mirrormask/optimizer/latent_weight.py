"""One weight in training: its latents, what the base optimizer moves for it, what is cut of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from mirrormask.errors import LifecycleError, OptimizerError
from mirrormask.geometry import Geometry, Landing, Latents
from mirrormask.masking.score import FORGETTING
from mirrormask.optimizer.held import Held, are_equal
from mirrormask.optimizer.mask import bits_of, clear
from mirrormask.ranks import local_part
from mirrormask.selection import Target


class LatentWeight(Held):
    """Keeps the latents of one tensor in step with the plain weight that the model sees.

    Latents are float32 where the weight is narrower. A geometry whose latent ``"x"`` is the
    weight itself shares the model's memory and costs none. Of a weight that is sharded over ranks
    this is the part that is here: latents, slots, masks and gradients are plain tensors in its
    shape.

    Attributes:
        latents: What stands for it, by name.
        slots: What the base optimizer is given in its place, by name: the objects that key its
            state, so they live as long as this does.
        dense_gradient: ``|gradient|`` on all coordinates in the step at hand, if it was asked for.
        squares: Running mean of the squared gradient on all coordinates, while it is sensed.
        density: Part of the whole weight that the last cut has kept, 0-d, on its device, where the
            rate is boosted by it.
    """

    def __init__(self, target: Target, geometry: Geometry, generator: Generator) -> None:
        super().__init__(target)
        self.squares: Tensor | None = None
        self.density: Tensor | None = None
        self._kept: Tensor | None = None  # bits, once there is a mask
        weight = self.local
        self._form = weight.dtype, weight.shape
        dtype = weight.dtype if weight.dtype in (torch.float32, torch.float64) else torch.float32
        self.geometry = geometry
        self.latents: Latents = geometry.start(weight.to(dtype), generator)
        if self.box is not None:
            geometry.settle(self.latents, self.root_mean_square)
        self.dense_gradient: Tensor | None = None
        self.shares_memory = "x" in self.latents and dtype == weight.dtype
        if self.shares_memory:
            weight.copy_(self.latents["x"])
        self._share()
        self.slots: dict[str, Tensor] = {}
        for name, tensor in geometry.moving(self.latents).items():
            self.slots[name] = self._slot_for(name, tensor)
        self._write()

    @property
    def cut(self) -> Tensor | None:
        """Return a mask that is True where the weight is cut, or None before the first cut."""
        return None if self._kept is None else self._kept == 0

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the latents."""
        return next(iter(self.latents.values())).dtype

    @property
    def device(self) -> torch.device:
        """Where the latents live."""
        return next(iter(self.latents.values())).device

    def weight(self) -> Tensor:
        """Return the weight in the precision of the latents, without a graph."""
        return self.geometry.compose(self.latents)

    def sample(self, stride: int) -> Latents:
        """Return the latents of every ``stride``-th weight; 0-d ones belong to all of them."""
        shape = self.local.shape
        chosen = (
            slice(None, None, stride) if self.box is None else self.box.every(stride, self.device)
        )
        return {
            name: latent.expand(shape).flatten()[chosen] if latent.ndim else latent
            for name, latent in self.latents.items()
        }

    def adopt_edits(self) -> None:
        """Take over what was written into the model's weight since the last step.

        Only the edited coordinates are split anew, decided by value: writes through ``.data`` or
        a swapped storage leave no other trace. A frozen mask survives the edit.

        Raises:
            LifecycleError: If the weight is on another device, or of another precision or shape.
        """
        weight = self.local
        if (weight.dtype, weight.shape) != self._form:
            was, now = (
                f"{str(d).removeprefix('torch.')} {tuple(s)}"
                for d, s in (self._form, (weight.dtype, weight.shape))
            )
            raise LifecycleError(
                f"Weight {self.name!r} was {was} and became {now} after sparsify: convert the "
                "model first, then build both optimizers."
            )
        if self.shares_memory:
            self._share()
        elif weight.device != self.device:
            raise LifecycleError(
                f"Weight {self.name!r} was moved from {self.device} to {weight.device} "
                "after sparsify: move the model first, then build both optimizers."
            )
        else:
            current = self.weight().to(weight.dtype)
            # Elsewhere than on the CPU this question would stall the queue; there, edited
            # coordinates are always picked by where().
            if weight.device.type == "cpu" and are_equal(current, weight):
                return
            edited = self.weight().to(weight.dtype) != weight
            self._replace(edited, self._resplit(weight.to(self.dtype)))
        self._apply_cut()
        if self.parameter.grad is None:
            self._write()  # no step will

    def pull_back(
        self, penalty: float = 0.0, *, keep_gradient: bool = False, sense: bool = False
    ) -> None:
        """Put gradients on the slots; none where the weight has none.

        Args:
            penalty: Weight of an L1 term whose subgradient is added.
            sense: Whether to let the gradient into the running mean of its square.
            keep_gradient: Whether to remember the size of the gradient where weights are cut.
        """
        grad = self.parameter.grad
        if sense and self.squares is None:
            self.squares = torch.zeros_like(self.local, dtype=self.dtype)
        if grad is None:
            if keep_gradient:
                self.dense_gradient = torch.zeros_like(self.local)
            for slot in self.slots.values():
                slot.grad = None
            return
        if grad.layout != torch.strided:
            raise OptimizerError(
                f"Weight {self.name!r} has a sparse gradient: use sparse=False in its embedding, "
                f"or leave it out with exclude={self.name!r}."
            )
        grad = local_part(grad)
        if sense and self.squares is not None:
            part = grad.to(self.dtype)
            self.squares.mul_(FORGETTING).addcmul_(part, part, value=1.0 - FORGETTING)
        if keep_gradient:
            self.dense_gradient = grad.abs()
        if self._kept is not None:
            clear(grad, self._kept)
        if penalty > 0:
            grad.add_(self.local.sign(), alpha=penalty)
        pulled = self.geometry.pull_back(self.latents, grad.to(self.dtype))
        moving = self.geometry.moving(self.latents)
        for name, slot in self.slots.items():
            if slot is self.parameter:
                continue
            if name not in self.latents or self.shares_memory:
                slot.data = moving[name]
            slot.grad = pulled[name]

    def land(self, landing: Landing, shrinkage: float, done: float) -> None:
        """Take in the base optimizer's step, then the decay or shrinkage that is ours.

        Args:
            landing: What the geometry is told; the gradient is put in here.
            shrinkage: Amount of the proximal step.
            done: Finished part of the run after this step.
        """
        grad = self.parameter.grad
        if grad is None:
            return
        if self.shares_memory:
            self._share()  # the base optimizer may have stepped the parameter itself
        self.geometry.absorb(self.latents, self.slots, replace(landing, grad=local_part(grad)))
        if shrinkage > 0:
            self.geometry.shrink(self.latents, shrinkage)
        self.geometry.anneal(self.latents, done)
        if not self.geometry.zero_is_fixed and self._kept is not None:
            for latent in self.latents.values():
                if latent.shape == self._kept.shape:
                    clear(latent, self._kept)
        self._write()
        for name, slot in self.slots.items():
            if slot is self.parameter:
                continue
            slot.grad = None
            if name not in self.latents:
                slot.data = slot.data.new_empty(0)

    def set_cut(self, cut: Tensor) -> None:
        """Cut these coordinates, and bring back to life those that no longer are."""
        before = self.cut
        if before is not None:
            revived = before & ~cut
            self._replace(revived, self._resplit(self.weight()))
        self._kept = bits_of(cut)
        self._apply_cut()
        self._write()

    def take_shape(self, cut: Tensor | None) -> None:
        """Go on with tensors that were all given another shape, under this mask."""
        self._kept = None if cut is None else bits_of(cut)
        self._form = self.local.dtype, self.local.shape
        self._share()

    def smallest(self) -> Tensor:
        """Return the smallest magnitude of a live weight, 0-d, infinite if none lives."""
        weight = self.weight().to(self.parameter.dtype)
        if weight.numel() == 0:
            return weight.new_full((), torch.inf)
        return torch.where(weight == 0, torch.inf, weight.abs()).amin()

    def restart_idle(self, smallest: Tensor) -> None:
        """Start kept weights that are exactly zero again, from the smallest live magnitude.

        Proximal steps, thresholds, products that underflow, weights revived at zero and layers that
        started there may all leave more zeros than asked for; with this the count of zeros is that
        of the mask.

        Args:
            smallest: What :meth:`smallest` returned, the least on all ranks.
        """
        # As the model sees it: a narrow weight may be zero where its latents are not.
        weight = self.weight().to(self.parameter.dtype)
        cut = self.cut
        idle = weight == 0 if cut is None else (weight == 0) & ~cut
        tiny = torch.finfo(self.parameter.dtype).tiny
        value = torch.where(torch.isfinite(smallest), smallest, tiny).to(self.dtype)
        self._replace(idle, self._resplit(value.expand_as(weight)))
        self._write()

    def rebalance(self) -> None:
        """Split the weight anew, as at the start, with the weight itself unchanged."""
        everywhere = torch.ones_like(self.local, dtype=torch.bool)
        self._replace(everywhere, self.geometry.rebalanced(self.latents, self.weight()))
        self._apply_cut()
        self._write()

    def go_back(self, latents: Latents) -> None:
        """Overwrite latents with earlier ones, under the mask in force, and write the weight."""
        for name, tensor in latents.items():
            self.latents[name].copy_(self.part_of(tensor))
        self._apply_cut()
        self._write()

    def restore(self, latents: Latents, cut: Tensor | None, squares: Tensor | None) -> None:
        """Take over latents, mask and what was sensed from a checkpoint, and write the weight."""
        cut = None if cut is None else self.part_of(cut)
        self._kept = None if cut is None else bits_of(cut.to(self.device))
        self.squares = None
        if squares is not None:
            self.squares = self.part_of(squares).to(self.device, self.dtype, copy=True)
        self.go_back(latents)

    def _resplit(self, x: Tensor) -> Latents:
        return self.geometry.resplit(self.latents, x)

    def _slot_for(self, name: str, tensor: Tensor) -> Tensor:
        if tensor is not self.latents.get(name):
            return tensor.new_empty(0)
        # A sharded weight is stepped through its part: other latents are plain tensors too.
        shared = self.shares_memory and name == "x" and self.box is None
        return self.parameter if shared else tensor

    def _share(self) -> None:
        if self.shares_memory:
            self.latents["x"] = self.local

    def _replace(self, where: Tensor, fresh: Latents) -> None:
        for name, latent in self.latents.items():
            if latent.shape == where.shape:
                latent.copy_(torch.where(where, fresh[name], latent))
            else:  # what several coordinates share changes when all of them do
                shared = [d for d, size in enumerate(latent.shape) if size != where.shape[d]]
                touched = where.all(dim=shared, keepdim=True) if latent.ndim else where.all()
                latent.copy_(torch.where(touched, fresh[name], latent))

    def _apply_cut(self) -> None:
        cut = self.cut
        if cut is None:
            return
        for latent in self.latents.values():
            if latent.shape == cut.shape:
                latent.masked_fill_(cut, 0)

    def _write(self) -> None:
        if not self.shares_memory:
            self.geometry.compose(self.latents, out=self.local)
