"""Claims, beats and results in a shared storage, with made-up runs that take no time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from mirrormask.errors import ArgumentError, CheckpointError, OutputError
from mirrormask.study.compare.plan import Plan, Result, Run
from mirrormask.study.compare.queue import Pulse, Queue, open_storage
from mirrormask.study.compare.settings import CompareSettings
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.compare.worker import work

QUICK = Pulse(beat=0.05, patience=0.4)


def settings(**changes: Any) -> CompareSettings:
    plain = {
        "name": "t",
        "problems": [{"name": "digits", "data": "digits", "model": "mlp"}],
        "methods": ["gmp"],
        "sparsities": [0.9],
        "trials": 2,
        "seeds": 2,
    }
    return from_mapping(plain | changes)


def made_up(run: Run) -> Result:
    accuracy = int(run.digest, 16) % 1000 / 1000
    return {"outcome": "finished", "error": None, "accuracy": accuracy, "loss": 1.0}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def queue(url: str) -> Queue:
    return Queue(open_storage(url), "t", QUICK)


def first_run() -> Run:
    return next(iter(Plan(settings()).runs({})))


def states(queue: Queue) -> Counter[TrialState]:
    return Counter(trial.state for trial in queue.study.get_trials(deepcopy=False))


def watch(queue: Queue, seconds: float) -> None:
    """Look at the storage again and again, as a worker does that waits."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        queue.refresh()
        time.sleep(QUICK.beat / 2)
    queue.refresh()


def test_finished_run_is_seen_by_others(queue: Queue, url: str) -> None:
    run = first_run()
    claim = queue.claim(run)
    assert claim is not None
    other = Queue(open_storage(url), "t", QUICK)
    assert other.running == {run.digest}
    with claim:
        assert claim.finish(made_up(run))
    other.refresh()
    assert other.running == set()
    assert other.results == {run.digest: made_up(run)}
    assert other.claim(run) is None
    trial = next(t for t in other.study.get_trials() if t.state == TrialState.COMPLETE)
    assert trial.params["lr"] == run.lr
    assert trial.value == made_up(run)["accuracy"]


def test_only_one_of_many_claims_holds(queue: Queue, url: str) -> None:
    run = first_run()
    queues = [Queue(open_storage(url), "t", QUICK) for _ in range(4)]
    claims: list[object] = []
    start = threading.Barrier(4)

    def claim(own: Queue) -> None:
        start.wait()
        claims.append(own.claim(run))

    threads = [threading.Thread(target=claim, args=(own,)) for own in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in claims) == 1


def test_claim_left_by_an_error_is_free_at_once(queue: Queue) -> None:
    run = first_run()
    claim = queue.claim(run)
    assert claim is not None
    with pytest.raises(KeyboardInterrupt), claim:
        raise KeyboardInterrupt
    queue.refresh()
    assert queue.running == set()
    assert queue.claim(run) is not None


def test_beating_claim_is_kept_and_a_still_one_taken_over(queue: Queue, url: str) -> None:
    run = first_run()
    claim = queue.claim(run)
    assert claim is not None
    other = Queue(open_storage(url), "t", QUICK)
    with claim:
        end = time.monotonic() + 3 * QUICK.patience
        while time.monotonic() < end:
            other.refresh()
            assert other.running == {run.digest}, "a beating claim was taken for dead"
            time.sleep(0.05)
        claim._over.set()  # as if its process had been killed
        time.sleep(2 * QUICK.beat)
        other.refresh()
        assert other.running == {run.digest}
        watch(other, 1.5 * QUICK.patience)
        assert other.running == set()
        again = other.claim(run)
        assert again is not None
        # The dead one wakes up: its result must not count any more.
        assert not claim.finish(made_up(run))
    with again:
        assert again.finish(made_up(run))
    assert states(other) == {TrialState.FAIL: 1, TrialState.COMPLETE: 1}


def test_claim_that_died_before_its_first_beat_is_taken_over(queue: Queue, url: str) -> None:
    run = first_run()
    assert queue.claim(run) is not None  # never entered, never beats
    other = Queue(open_storage(url), "t", QUICK)
    watch(other, 1.5 * QUICK.patience)
    assert other.running == set()


def test_who_was_suspended_takes_nobody_for_dead(queue: Queue, url: str) -> None:
    run = first_run()
    claim = queue.claim(run)
    assert claim is not None
    other = Queue(open_storage(url), "t", QUICK)
    time.sleep(1.5 * QUICK.patience)  # neither beats nor looks, as where both stand still
    with claim:
        other.refresh()
        assert other.running == {run.digest}
        watch(other, 1.5 * QUICK.patience)
        assert other.running == {run.digest}
        assert claim.finish(made_up(run))


def test_workers_side_by_side_do_each_run_once(url: str) -> None:
    chosen = settings(methods=["gmp", "magnitude"], trials=3, seeds=3)
    done: list[str] = []

    def slow(run: Run) -> Result:
        time.sleep(0.02)
        done.append(run.key)
        return made_up(run)

    def run_worker() -> None:
        # Patient: on a busy machine a quick pulse misses beats, and a takeover repeats a run.
        work(Plan(chosen), Queue(open_storage(url), "t", Pulse(beat=0.5, patience=60)), slow)

    threads = [threading.Thread(target=run_worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == chosen.runs == 3 * 6
    assert set(Counter(done).values()) == {1}


def test_plan_goes_on_after_an_extension(queue: Queue) -> None:
    done: list[str] = []

    def count(run: Run) -> Result:
        done.append(run.key)
        return made_up(run)

    queue.adopt(settings())
    work(Plan(settings()), queue, count)
    assert len(done) == 8
    wider = settings(methods=["magnitude", "gmp"], seeds=3)
    queue.adopt(wider)
    work(Plan(wider), queue, count)
    # One more seed for two cells, and a cell of five.
    assert len(done) == 8 + 2 + 5
    assert set(Counter(done).values()) == {1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"trials": 3}, ["trials=2", "not 3"]),
        ({"validation": 0.2}, ["validation=0.1", "0.2"]),
        ({"tuning_seeds": [77]}, ["tuning_seeds=[1000]", "[77]"]),
        ({"budget": "flops"}, ["budget='epochs'"]),
        (
            {"problems": [{"name": "digits", "data": "digits", "model": "cnn"}]},
            ["model='mlp'", "problem digits", "'cnn'"],
        ),
    ],
)
def test_other_settings_are_refused(queue: Queue, change: dict[str, Any], named: list[str]) -> None:
    queue.adopt(settings())
    queue.adopt(settings(seeds=7, methods=["magnitude"], sparsities=[0.5]))
    with pytest.raises(CheckpointError) as caught:
        queue.adopt(settings(**change))
    for part in ["'t'", "--out", *named]:
        assert part in str(caught.value)


def test_thrown_away_results_are_done_again(queue: Queue) -> None:
    done: list[str] = []

    def count(run: Run) -> Result:
        done.append(run.cell.method)
        return made_up(run)

    work(Plan(settings()), queue, count)
    queue.throw_away("gmp")
    work(Plan(settings(), queue.generations()), queue, count)
    assert Counter(done) == {"dense": 4, "gmp": 8}


def test_broken_method_does_not_stop_the_others(queue: Queue) -> None:
    def fails(run: Run) -> Result:
        if run.cell.method == "gmp" and run.seed == 1:
            raise RuntimeError("a mistake in the method")
        return made_up(run)

    plan = Plan(settings())
    work(plan, queue, fails)
    crashed = [result for result in queue.results.values() if result["outcome"] == "crashed"]
    assert len(crashed) == 1
    assert "RuntimeError: a mistake in the method (test_queue.py:" in crashed[0]["error"]
    assert len(queue.results) == 8


@pytest.mark.parametrize(
    ("storage", "error", "named"),
    [
        ("study.db", ArgumentError, "sqlite:///"),
        ("nonsense://x", ArgumentError, "nonsense"),
        ("sqlite:////nonexistent/folder/study.db", OutputError, "/nonexistent"),
    ],
)
def test_storages_that_cannot_be_opened(storage: str, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        open_storage(storage)


def test_patience_is_longer_than_a_beat() -> None:
    with pytest.raises(ArgumentError, match="at least twice"):
        Pulse(beat=1.0, patience=1.5)


def test_stop_in_the_middle_keeps_what_is_done(queue: Queue) -> None:
    calls: list[Run] = []

    def stopped(run: Run) -> Result:
        calls.append(run)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made_up(run)

    with pytest.raises(KeyboardInterrupt):
        work(Plan(settings()), queue, stopped)
    assert states(queue) == {TrialState.COMPLETE: 2, TrialState.FAIL: 1}
    observed: list[int] = []
    note: Callable[[], None] = lambda: observed.append(len(queue.results))  # noqa: E731
    work(Plan(settings()), queue, made_up, note)
    assert observed == [2, 3, 4, 5, 6, 7, 8]
