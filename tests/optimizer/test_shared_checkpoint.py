"""What N ranks wrote, M ranks go on from: sharded, whole or alone, also when one was killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import mirrormask as mm
from mirrormask.errors import ArgumentError, CheckpointError

STEPS, SAVED, KILLED = 12, (2, 5, 7), 8

RUNS = {"pilot": "adamw", "pilot-wr": "sgd", "l1-freeze": "adamw"}
"""Latents and pressure; weights to rewind to; a latent that is the weight itself."""


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(12, 12, generator=generator)
    return inputs, inputs.roll(1, 1)[:, :2].abs()


def build(kind: str, method: str, **options: Any) -> tuple[nn.Module, mm.SparseOptimizer]:
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(12, 21), nn.Tanh(), nn.Linear(21, 2))
    if kind == "shards":
        from torch.distributed.fsdp import fully_shard

        fully_shard(model)
    elif kind == "replicas":
        model = nn.parallel.DistributedDataParallel(model)
    base: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    if RUNS[method] == "adamw":
        base = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    wanted = {"sparsity": 0.8, "steps": STEPS, "seed": 5, "method": method} | options
    return model, mm.sparsify(base, model, **wanted)


def train(
    model: nn.Module, optimizer: mm.SparseOptimizer, begin: int, rank: int, world: int
) -> list[float]:
    losses = []
    for step in range(begin, STEPS):
        inputs, wanted = (part[rank::world] for part in batch(step))
        optimizer.zero_grad()
        loss = (model(inputs) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        mean = loss.detach() / world
        if world > 1:
            dist.all_reduce(mean)
        losses.append(float(mean))
    return losses


def whole(value: Any) -> Any:
    """Gather what is sharded, anywhere in a state, for a comparison by bits."""
    if hasattr(value, "full_tensor"):
        return value.full_tensor().clone()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return (
            {key.removeprefix("module."): whole(v) for key, v in value.items()}
            if all(isinstance(key, str) for key in value)
            else {key: whole(v) for key, v in value.items()}
        )
    return [whole(part) for part in value] if isinstance(value, list | tuple) else value


def everything(model: nn.Module, optimizer: mm.SparseOptimizer) -> dict[str, Any]:
    return {"model": whole(model.state_dict()), "optimizer": whole(optimizer.state_dict())}


def same(one: Any, two: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(two, Tensor) and one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    return bool(one == two)


def end(model: nn.Module, optimizer: mm.SparseOptimizer, losses: list[float]) -> dict[str, Any]:
    report = optimizer.finalize()
    assert report.zeros == report.asked_zeros == 235
    return {"losses": losses, "weights": whole(dict(model.named_parameters()))}


def resume(kind: str, folder: str, method: str, rank: int, world: int) -> dict[str, Any]:
    model, optimizer = build(kind, method)
    others = mm.load_checkpoint(folder, model, optimizer)
    assert others == {"epoch": optimizer.steps_done - 1, "note": "halfway"}
    state = everything(model, optimizer)
    return {"state": state} | end(
        model, optimizer, train(model, optimizer, optimizer.steps_done, rank, world)
    )


def write(rank: int, world: int, folder: str) -> dict[str, Any]:
    """Train to the end; then again with checkpoints, until the second rank is killed."""
    answer: dict[str, Any] = {}
    for method in RUNS:
        model, optimizer = build("shards", method)
        answer[method] = end(model, optimizer, train(model, optimizer, 0, rank, world))
    torch.save(answer, f"{folder}/whole-{rank}.pt")
    runs = {method: build("shards", method) for method in RUNS}
    states = {}
    for step in range(STEPS):
        for method, (model, optimizer) in runs.items():
            if (step, rank) == (KILLED, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            inputs, wanted = (part[rank::world] for part in batch(step))
            optimizer.zero_grad()
            try:
                (model(inputs) - wanted).square().mean().backward()
            except RuntimeError:  # the killed one no longer answers
                assert step == KILLED
                return answer | {"states": states}
            optimizer.step()
            if step in SAVED:
                others = {"epoch": step, "note": "halfway"}
                mm.save_checkpoint(f"{folder}/{method}", model, optimizer, others)
                states[method] = everything(model, optimizer)
    raise AssertionError("no rank was missed")


def go_on(rank: int, world: int, folder: str) -> dict[str, Any]:
    return {
        f"{kind} {method}": resume(kind, f"{folder}/{method}", method, rank, world)
        for method in RUNS
        for kind in (("shards", "replicas") if world == 2 else ("shards",))
    }


def test_any_number_of_ranks_goes_on_after_one_was_killed(run_ranks, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    first, killed, third = run_ranks(3, write, str(folder))
    assert killed == "died with -9"
    assert same(first["pilot"]["weights"], third["pilot"]["weights"])
    for method in RUNS:
        assert sorted(path.name for path in (folder / method).iterdir()) == [
            "step-000000006",
            "step-000000008",
        ]
    resumed = {3: run_ranks(3, go_on, str(folder)), 2: run_ranks(2, go_on, str(folder))}
    alone = {f"alone {m}": resume("alone", f"{folder}/{m}", m, 0, 1) for m in RUNS}
    for world, ranks in {**resumed, 1: [alone]}.items():
        for answer in ranks:
            for name, run in answer.items():
                kind, _, method = name.partition(" ")
                wanted = first[method]
                # Bit for bit what was written, however it is cut now.
                assert same(run["state"], first["states"][method]), (world, name)
                losses = wanted["losses"][SAVED[-1] + 1 :]
                assert run["losses"] == pytest.approx(losses, abs=1e-5), (world, name)
                for key, weight in run["weights"].items():
                    assert torch.equal(weight == 0, wanted["weights"][key] == 0), (world, name)
                if (world, kind) == (3, "shards"):  # as many as before: the very same run
                    assert run["losses"] == losses
                    assert same(run["weights"], wanted["weights"])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, optimizer = build("alone", "pilot")
    train(model, optimizer, 0, 0, 1)
    return mm.save_checkpoint(tmp_path / "run", model, optimizer, {"epoch": 1}).parent


def test_one_process_needs_no_ranks(saved: Path) -> None:
    model, optimizer = build("alone", "pilot")
    train(model, optimizer, 0, 0, 1)
    other, its = build("alone", "pilot")
    assert mm.load_checkpoint(saved, other, its) == {"epoch": 1}
    assert same(everything(model, optimizer), everything(other, its))


def test_a_checkpoint_that_was_not_finished_is_passed_over(saved: Path) -> None:
    (saved / "step-000000099").mkdir()
    (saved / "step-000000099" / "__0_0.distcp").write_bytes(b"half")
    model, optimizer = build("alone", "pilot")
    assert mm.load_checkpoint(saved, model, optimizer) == {"epoch": 1}
    assert optimizer.steps_done == STEPS


def test_no_checkpoint_is_the_start(tmp_path: Path) -> None:
    model, optimizer = build("alone", "pilot")
    before = everything(model, optimizer)
    assert mm.load_checkpoint(tmp_path / "none", model, optimizer) is None
    assert same(everything(model, optimizer), before)


def test_the_same_step_is_written_beside_the_old_one_first(saved: Path) -> None:
    model, optimizer = build("alone", "pilot")
    mm.load_checkpoint(saved, model, optimizer)
    (saved / "step-000000013").mkdir()  # not finished by a run that was killed
    mm.save_checkpoint(saved, model, optimizer, {"epoch": 2}, keep=1)
    assert [entry.name for entry in saved.iterdir()] == ["step-000000012-2"]
    assert mm.load_checkpoint(saved, model, optimizer) == {"epoch": 2}


def test_another_model_is_refused_with_nothing_changed(saved: Path) -> None:
    torch.manual_seed(0)
    wider = nn.Sequential(nn.Linear(12, 22), nn.Tanh(), nn.Linear(22, 2))
    base = torch.optim.AdamW(wider.parameters(), lr=1e-2, weight_decay=0.0)
    optimizer = mm.sparsify(base, wider, sparsity=0.8, steps=STEPS)
    before = everything(wider, optimizer)
    with pytest.raises(CheckpointError, match=r"'0.bias' of shape \(21,\), this model of \(22,\)"):
        mm.load_checkpoint(saved, wider, optimizer)
    assert same(everything(wider, optimizer), before)


def test_older_ones_go(tmp_path: Path) -> None:
    model, optimizer = build("alone", "pilot")
    for step in range(3):
        batch_inputs, wanted = batch(step)
        optimizer.zero_grad()
        (model(batch_inputs) - wanted).square().mean().backward()
        optimizer.step()
        path = mm.save_checkpoint(tmp_path, model, optimizer, keep=1)
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ArgumentError, match="keep=0 would leave no checkpoint"):
        mm.save_checkpoint(tmp_path, model, optimizer, keep=0)


def damaged(path: Path) -> None:
    file = next(path.glob("*/*.distcp"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_damaged_one_is_refused_with_nothing_changed(saved: Path) -> None:
    damaged(saved)
    model, optimizer = build("alone", "pilot")
    before = everything(model, optimizer)
    with pytest.raises(CheckpointError, match=r"is damaged .*: remove it to go on from an older"):
        mm.load_checkpoint(saved, model, optimizer)
    assert same(everything(model, optimizer), before)


@pytest.mark.parametrize("other", [{"sparsity": 0.5}, {"steps": 99}, {"method": "l1-freeze"}])
def test_one_of_another_run_is_refused_with_nothing_changed(
    saved: Path, other: dict[str, Any]
) -> None:
    model, optimizer = build("alone", **({"method": "pilot"} | other))
    before = everything(model, optimizer)
    with pytest.raises(CheckpointError, match="resume with the settings of the run"):
        mm.load_checkpoint(saved, model, optimizer)
    assert same(everything(model, optimizer), before)


def test_others_are_plain_values(tmp_path: Path) -> None:
    model, optimizer = build("alone", "pilot")
    with pytest.raises(ArgumentError, match="could not be read again without running code"):
        mm.save_checkpoint(tmp_path, model, optimizer, {"code": Path()})
    assert not list(tmp_path.iterdir())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    others = {"schedule": schedule.state_dict(), "random": torch.get_rng_state()}
    mm.save_checkpoint(tmp_path, model, optimizer, others)
    assert same(mm.load_checkpoint(tmp_path, model, optimizer), others)
