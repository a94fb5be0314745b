"""A loop with Accelerate, made sparse by two lines.

Gradient accumulation and clipping, bf16 autocast, a schedule, early stopping, and Accelerate's own
checkpoints, from which a killed run goes on bit for bit.

    python examples/with_accelerate.py
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import mirrormask as mm

EPOCHS, BATCH, ACCUMULATE, PATIENCE = 10, 32, 2, 3


class Killed(Exception):
    """The run ends here, as if by a signal."""


class Progress:
    """What a loop remembers beside model, optimizer and schedule."""

    def __init__(self) -> None:
        self.epoch, self.best, self.waited = 0, float("inf"), 0

    def state_dict(self) -> dict[str, float]:
        """Return it for a checkpoint."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore it."""
        vars(self).update(state)


def waves(seed: int, count: int = 512) -> TensorDataset:
    """Noisy waves of two speeds, 24 points each."""
    generator = torch.Generator().manual_seed(seed)
    fast = torch.randint(2, (count,), generator=generator)
    phase = 6.28 * torch.rand(count, 1, generator=generator)
    x = torch.sin(phase + torch.arange(24) * (0.5 + 0.15 * fast[:, None]))
    return TensorDataset((x + 0.4 * torch.randn(count, 24, generator=generator))[:, None], fast)


def train(
    folder: Path,
    *,
    base: str = "adamw",
    method: str = "pilot",
    killed_after: int = EPOCHS,
    patience: int = PATIENCE,
) -> tuple[nn.Module, mm.SparsityReport]:
    """Train from the start, or from the checkpoint in the folder if there is one.

    Args:
        folder: Of the checkpoint.
        base: ``"adamw"`` or ``"sgd"``.
        method: Any of ``mirrormask methods``.
        killed_after: Epochs after which the run ends as if by a signal.
        patience: Epochs without progress after which it stops.
    """
    torch.manual_seed(0)
    accelerator = Accelerator(
        gradient_accumulation_steps=ACCUMULATE, mixed_precision="bf16", cpu=True
    )
    model = nn.Sequential(
        nn.Conv1d(1, 16, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(320, 16),
        nn.ReLU(),
        nn.Linear(16, 2),
    ).to(accelerator.device)  # before sparsify, which keeps tensors beside the weights
    plain: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        if base == "adamw"
        else torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    )
    order = torch.Generator()
    loader = DataLoader(waves(0), batch_size=BATCH, shuffle=True, generator=order)
    steps = EPOCHS * len(loader) // ACCUMULATE
    sparse = mm.sparsify(plain, model, sparsity=0.9, steps=steps, method=method)  # line one
    schedule = OneCycleLR(sparse, plain.param_groups[0]["lr"], steps)
    model, optimizer, loader, schedule = accelerator.prepare(model, sparse, loader, schedule)
    progress = Progress()
    accelerator.register_for_checkpointing(progress)
    if (folder / "model.safetensors").exists():
        accelerator.load_state(str(folder))

    test_x, test_y = waves(1).tensors
    while progress.epoch < EPOCHS and progress.waited < patience:
        if progress.epoch == killed_after:
            raise Killed
        order.manual_seed(progress.epoch)
        model.train()
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(x), y))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        progress.epoch += 1
        model.eval()
        with torch.no_grad():
            held_out = F.cross_entropy(model(test_x), test_y).item()
        if sparse.at_target:  # what came before was a denser, easier model
            progress.waited = 0 if held_out < progress.best else progress.waited + 1
            progress.best = min(progress.best, held_out)
        accelerator.save_state(str(folder))

    report = sparse.finalize()  # line two
    return accelerator.unwrap_model(model), report


def main() -> None:
    """Train, with an interruption half-way."""
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Killed):
            train(Path(folder), killed_after=EPOCHS // 2)
        model, report = train(Path(folder))
    x, y = waves(1).tensors
    print(report)
    print(f"accuracy {(model(x).argmax(1) == y).float().mean():.3f}")


if __name__ == "__main__":
    main()
