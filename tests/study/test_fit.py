"""The plain loop of studies: against torch written out, resumed, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mirrormask as mm
from mirrormask.errors import CheckpointError, NonFiniteError
from mirrormask.masking import GradualCubic, ProjectAndFreeze
from mirrormask.optimizer import Recipe, SparseOptimizer
from mirrormask.study import fit as fit_module
from mirrormask.study.batches import Batches
from mirrormask.study.data import Split
from mirrormask.study.fit import _Run, evaluate, fit, state_bytes
from mirrormask.study.training_flops import FlopMeter, ForwardFlops
from mirrormask.study.warmup import warmup_cosine

EPOCHS = 4


def points(n: int = 70) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 6, generator=generator)
    return Split(images, (images[:, 0] > 0).long() + (images[:, 1] > 0).long())


def network(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def batches(seed: int = 5) -> Batches:
    return Batches(*points(), batch_size=16, seed=seed)


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


def sparse(model: nn.Module, method: str | Recipe = "pilot") -> SparseOptimizer:
    steps = EPOCHS * len(batches())
    return mm.sparsify(sgd(model), model, sparsity=0.8, steps=steps, method=method)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def test_dense_run_is_the_loop_written_out() -> None:
    ours, plain = network(), network()
    result = fit(ours, batches(), sgd(ours), epochs=EPOCHS)
    optimizer, loader = sgd(plain), batches()
    step = 0
    for epoch in range(EPOCHS):
        loader.set_epoch(epoch)
        hits = 0
        for images, labels in loader:
            optimizer.param_groups[0]["lr"] = 0.1 * warmup_cosine(step, EPOCHS * len(loader))
            scores = plain(images)
            hits += int((scores.argmax(1) == labels).sum())
            optimizer.zero_grad()
            F.cross_entropy(scores, labels).backward()
            optimizer.step()
            step += 1
    assert all(map(torch.equal, weights(ours), weights(plain)))
    assert result.train_accuracy == hits / 70
    assert result.report is None
    assert not ours.training


def test_sparse_run_ends_exactly_and_hears_its_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    monkeypatch.setattr(SparseOptimizer, "observe", lambda self, accuracy: heard.append(accuracy))
    model = network()
    result = fit(model, batches(), sparse(model, "gmp"), epochs=EPOCHS)
    assert result.report is not None
    assert result.report.zeros == sum(
        int((p == 0).sum()) for p in (model[0].weight, model[3].weight)
    )
    assert result.report.zeros == round(0.8 * (6 * 16 + 16 * 3))
    assert len(heard) == EPOCHS
    assert heard[-1] == result.train_accuracy


def test_rate_starts_again_in_each_phase() -> None:
    class Halves(GradualCubic):
        def phase(self, step: int, steps: int) -> tuple[int, int]:
            return (0, 10) if step < 10 else (10, steps - 10)

    model = network()
    run = _Run(model, batches(), sparse(model, Recipe(masking=Halves())), EPOCHS)
    factors = []
    for run.step in range(20):
        factors.append(run._rate_factor())
    assert factors == [warmup_cosine(step, 10) for step in range(10)] * 2


@pytest.mark.parametrize("method", [None, "pilot", "gmp", "l1-freeze"])
def test_resumed_run_is_the_same_to_the_bit(
    method: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_EVERY", 0.0)
    path = tmp_path / "run.checkpoint"

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = network(dropout=0.3)
        torch.manual_seed(9)
        return model, sgd(model) if method is None else sparse(model, method)

    whole, optimizer = make()
    expected = fit(whole, batches(), optimizer, epochs=EPOCHS, checkpoint=path)
    assert not path.exists(), "a finished run leaves no checkpoint"

    cut, optimizer = make()
    loader = batches()
    epochs = loader.set_epoch

    def stop(epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        epochs(epoch)

    loader.set_epoch = stop  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fit(cut, loader, optimizer, epochs=EPOCHS, checkpoint=path)
    torch.manual_seed(123)  # another process, another random state
    again, optimizer = make()
    result = fit(again, batches(), optimizer, epochs=EPOCHS, checkpoint=path)
    assert all(map(torch.equal, weights(whole), weights(again)))
    assert result.flops == expected.flops
    assert result.dense_flops == expected.dense_flops
    assert result.train_accuracy == expected.train_accuracy
    assert not path.exists()


def test_checkpoints_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(b"no checkpoint")
    model = network()
    before = weights(model)
    with pytest.raises(CheckpointError, match="damaged"):
        fit(model, batches(), sgd(model), epochs=EPOCHS, checkpoint=path)
    path.unlink()
    _Run(model, batches(), sgd(model), EPOCHS).save(path)
    with pytest.raises(CheckpointError, match=r"at lr=0\.1, not"):
        fit(model, batches(), sgd(model, lr=0.2), epochs=EPOCHS, checkpoint=path)
    assert all(map(torch.equal, weights(model), before))


def test_loss_that_is_not_finite_is_named() -> None:
    model = network()
    with pytest.raises(NonFiniteError, match=r"in step \d+ of 20: lower the learning rate"):
        fit(model, batches(), sgd(model, lr=1e30), epochs=EPOCHS)


def test_evaluate_counts_images_and_symbols_alike() -> None:
    scores = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 0.0]]])
    labels = torch.tensor([[0, 0], [1, 0]])

    class Fixed(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return scores[rows]

    accuracy, loss = evaluate(Fixed(), Split(torch.arange(2), labels), batch_size=1)
    assert accuracy == 0.75
    expected = F.cross_entropy(scores.reshape(4, 2), labels.reshape(4))
    assert loss == pytest.approx(float(expected))


def test_sequences_train() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 5))
    symbols = torch.randint(0, 5, (20, 7))
    loader = Batches(symbols, (symbols + 1) % 5, batch_size=4)
    result = fit(model, loader, sgd(model, lr=0.5), epochs=20)
    assert result.train_accuracy > 0.9
    assert evaluate(model, Split(symbols, (symbols + 1) % 5))[0] == 1.0


def test_rates_and_smoothing_that_are_asked_for() -> None:
    ours, plain = network(), network()
    fit(ours, batches(), sgd(ours), epochs=1, rates=lambda step, steps: 1 / (steps + step),
        label_smoothing=0.3)  # fmt: skip
    optimizer = sgd(plain)
    loader = batches()
    for step, (images, labels) in enumerate(loader):
        optimizer.param_groups[0]["lr"] = 0.1 / (len(loader) + step)
        # Of each label 0.7 stays, and 0.3 is spread over the three classes.
        target = 0.7 * F.one_hot(labels, 3) + 0.1
        loss = -(target * F.log_softmax(plain(images), 1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for one, other in zip(weights(ours), weights(plain), strict=True):
        torch.testing.assert_close(one, other)


def test_flops_of_masked_weights_are_not_counted() -> None:
    model = network()
    forward = ForwardFlops.of(model, points().images)
    assert forward.total == 2 * (6 * 16 + 16 * 3)
    assert forward.by_tensor == {"0.weight": 192, "3.weight": 96}
    assert forward.share == 1.0

    recipe = Recipe(masking=ProjectAndFreeze(at=0.5))
    result = fit(model, batches(), sparse(model, recipe), epochs=EPOCHS)
    assert result.dense_flops == 3 * forward.total * 70 * EPOCHS
    assert result.report is not None
    left = sum((t.weights - t.zeros) * 2 for t in result.report.tensors)
    # 20 steps in epochs of 16, 16, 16, 16, 6: two whole epochs before the cut, two after it.
    assert result.flops == pytest.approx(3 * 140 * (forward.total + left))


def test_meter_of_a_dense_run() -> None:
    meter = FlopMeter(ForwardFlops(total=100, by_tensor={}))
    meter.step(4)
    meter.step(3)
    assert (meter.flops, meter.dense) == (2100, 2100)


def test_state_bytes_count_latents_momentum_and_masks_but_not_the_model() -> None:
    model = network()
    plain = sgd(model)
    assert state_bytes(plain, model) == 0
    fit(model, batches(), plain, epochs=1)
    numbers = sum(p.numel() for p in model.parameters())
    assert state_bytes(plain, model) == 4 * numbers

    model = network()
    optimizer = sparse(model, Recipe(masking=ProjectAndFreeze(at=0.05)))
    run = _Run(model, batches(), optimizer, EPOCHS)
    run.train_epoch()
    targeted = model[0].weight.numel() + model[3].weight.numel()
    assert state_bytes(optimizer, model) == 4 * numbers + targeted  # a byte a mask element


def test_state_bytes_leave_out_latents_that_are_the_model() -> None:
    model = network()
    optimizer = sparse(model, "random")
    held = [t for entry in optimizer.state_dict()["state"].values() for t in entry.values()]
    shared = {p.data_ptr() for p in model.parameters()}
    assert any(isinstance(t, Tensor) and t.data_ptr() in shared for t in held)
    targeted = model[0].weight.numel() + model[3].weight.numel()
    assert state_bytes(optimizer, model) == targeted  # a byte a mask element
