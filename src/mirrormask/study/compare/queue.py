"""Runs shared between processes and machines through the storage of an Optuna study.

Each run is a trial. A worker claims a run by adding a trial in state RUNNING and looking whether
its own is the first with that digest: numbers of trials are given out one after the other, so all
workers agree on who was first. A claim beats like a heart, by counting up an attribute; when others
have seen it stand still for long enough, by their own clocks, they fail the trial, and the run can
be claimed again. Who has not looked for a while has seen nothing: a machine that was suspended does
not give up its own runs. A result counts only if its trial was still running when it came in.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import OptunaError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mirrormask.errors import ArgumentError, CheckpointError, OutputError
from mirrormask.study.compare.plan import LR, Result, Run, tuned_knobs
from mirrormask.study.compare.settings import CompareSettings

DIGEST, KEY, BEAT, RESULT, OWNER = "digest", "run", "beat", "result", "owner"
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """How a claim shows that it is alive.

    Args:
        beat: Seconds between two beats.
        patience: Seconds without a beat after which others take the run over; several beats.

    Raises:
        ArgumentError: If ``patience`` is shorter than two beats.
    """

    beat: float = 5.0
    patience: float = 40.0

    def __post_init__(self) -> None:
        if not 0 < 2 * self.beat <= self.patience:
            raise ArgumentError(
                f"patience={self.patience} s is too short for a beat every {self.beat} s: use at "
                "least twice as much."
            )


class Queue:
    """The runs of one comparison, as a storage knows them.

    Args:
        storage: Opened by :func:`open_storage`.
        name: Of the study.
        pulse: Of claims.

    Attributes:
        results: Of finished runs, by digest.
        running: Digests of runs that somebody works on.
    """

    def __init__(self, storage: BaseStorage, name: str, pulse: Pulse) -> None:
        self.storage = storage
        self.pulse = pulse
        # Two processes that meet an empty storage both try to make its tables.
        self.study = _insist(
            lambda: optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )
        )
        self._id = storage.get_study_id_from_name(name)
        self._owner = uuid.uuid4().hex
        self._seen: dict[int, tuple[Any, float]] = {}
        self._looked = time.monotonic()
        self.results: dict[str, Result] = {}
        self.running: set[str] = set()
        self.refresh()

    def adopt(self, settings: CompareSettings) -> None:
        """Store what settings fix, or check that the study was begun with the same.

        Methods, sparsities, seeds and problems may be added later.

        Raises:
            CheckpointError: If the study was begun with other settings.
        """
        wanted = {"settings": settings.common_identity()}
        wanted |= {f"problem {p.name}": p.identity() for p in settings.problems}
        stored = self.study.user_attrs
        for entry, values in wanted.items():
            plain = json.loads(json.dumps(values))
            before = stored.get(entry)
            if before is None:
                self.study.set_user_attr(entry, plain)
                continue
            for name in sorted(plain.keys() | before.keys()):
                if plain.get(name) != before.get(name):
                    what = "" if entry == "settings" else f" for {entry}"
                    raise CheckpointError(
                        f"The study {self.study.study_name!r} was begun with {name}="
                        f"{before.get(name)!r}{what}, not {plain.get(name)!r}: go on with its own "
                        "settings, or give the comparison another name or --out."
                    )

    def generations(self) -> dict[str, int]:
        """Return how often the results of each method were thrown away."""
        return dict(self.study.user_attrs.get("generations", {}))

    def throw_away(self, method: str) -> None:
        """Let all results of a method count no more, so that they are run again."""
        counts = self.generations()
        self.study.set_user_attr("generations", counts | {method: counts.get(method, 0) + 1})

    def refresh(self) -> None:
        """Read what all workers did, and fail the claims of those that died."""
        trials = self.storage.get_all_trials(self._id, deepcopy=False)
        now = time.monotonic()
        if now - self._looked > self.pulse.patience / 2:
            self._seen = {}
        self._looked = now
        running = []
        for trial in trials:
            digest = trial.user_attrs.get(DIGEST)
            if digest is None:
                continue  # somebody else's
            if trial.state == TrialState.COMPLETE:
                self.results.setdefault(digest, trial.user_attrs[RESULT])
            elif trial.state == TrialState.RUNNING and not self._is_dead(trial, now):
                running.append(digest)
        self.running = set(running)

    def claim(self, run: Run) -> Claim | None:
        """Take a run, unless somebody was faster."""
        template = create_trial(
            state=TrialState.RUNNING,
            params={_parameter(run, name): value for name, value in _values(run).items()},
            distributions={
                _parameter(run, knob.name): FloatDistribution(knob.low, knob.high, log=knob.log)
                for knob in tuned_knobs(run.cell)
            },
            user_attrs={DIGEST: run.digest, KEY: run.key, OWNER: self._owner},
        )
        trial_id = self.storage.create_new_trial(self._id, template_trial=template)
        if not self._is_first(run, trial_id):
            _end(self.storage, trial_id, TrialState.FAIL)
            return None
        return Claim(self.storage, trial_id, self.pulse)

    def give_back(self) -> None:
        """Fail all claims that this object made and that are still open.

        An interruption may fall between a claim's entry in the storage and the context that would
        give it back.
        """
        for trial in self.storage.get_all_trials(self._id, deepcopy=False):
            if trial.state == TrialState.RUNNING and trial.user_attrs.get(OWNER) == self._owner:
                _end(self.storage, trial._trial_id, TrialState.FAIL)

    def _is_first(self, run: Run, trial_id: int) -> bool:
        """Return whether no result and no earlier claim has this digest."""
        for trial in self.storage.get_all_trials(self._id, deepcopy=False):
            if trial.user_attrs.get(DIGEST) != run.digest or trial.state == TrialState.FAIL:
                continue
            if trial.state == TrialState.COMPLETE or trial._trial_id < trial_id:
                return False
        return True

    def _is_dead(self, trial: FrozenTrial, now: float) -> bool:
        beat = trial.user_attrs.get(BEAT)
        seen = self._seen.get(trial.number)
        if seen is None or seen[0] != beat:
            self._seen[trial.number] = (beat, now)
            return False
        if now - seen[1] < self.pulse.patience:
            return False
        return _end(self.storage, trial._trial_id, TrialState.FAIL)


class Claim:
    """A run that is this process's to do; a context that beats until it is left.

    Left by an exception, it gives the run back at once.
    """

    def __init__(self, storage: BaseStorage, trial_id: int, pulse: Pulse) -> None:
        self._storage = storage
        self._trial_id = trial_id
        self._pulse = pulse
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Claim:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        _end(self._storage, self._trial_id, TrialState.FAIL)  # no effect on a finished one

    def finish(self, result: Mapping[str, Any]) -> bool:
        """Hand in the result; return whether it counts, False if the run was taken over."""
        try:
            self._storage.set_trial_user_attr(self._trial_id, RESULT, dict(result))
        except UpdateFinishedTrialError:
            return False
        value = result["accuracy"] or 0.0
        return _end(self._storage, self._trial_id, TrialState.COMPLETE, [value])

    def _beat(self) -> None:
        count = 0
        while not self._over.wait(self._pulse.beat):
            count += 1
            try:
                self._storage.set_trial_user_attr(self._trial_id, BEAT, count)
            except UpdateFinishedTrialError:
                return  # taken over: the result will not count
            except StorageInternalError:
                continue  # a busy moment; patience is longer than a beat


def check_url(url: str) -> None:
    """Refuse a URL that no database can have.

    Raises:
        ArgumentError: If it is no URL as SQLAlchemy takes it, or its driver is missing.
    """
    try:
        make_url(url).get_dialect()
    except (SQLAlchemyError, ImportError) as error:
        raise ArgumentError(
            f"storage={url!r} cannot be used ({error}): give a URL such as sqlite:///study.db or "
            "postgresql+psycopg://user@host/database."
        ) from error


def open_storage(url: str) -> BaseStorage:
    """Open the database behind a study.

    Args:
        url: As SQLAlchemy takes it, such as ``sqlite:///study.db``.

    Raises:
        ArgumentError: If it is no such URL, or its driver is missing.
        OutputError: If the database cannot be opened.
    """
    check_url(url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    try:
        return optuna.storages.get_storage(
            _insist(lambda: RDBStorage(url, engine_kwargs=options | {"pool_pre_ping": True}))
        )
    except (SQLAlchemyError, OptunaError, ImportError) as error:
        raise OutputError(
            f"storage={url!r} cannot be opened ({str(error).splitlines()[0]}): check that it "
            "exists and that you may write to it."
        ) from error


def _values(run: Run) -> dict[str, float]:
    return {LR: run.lr, **run.knobs}


def _parameter(run: Run, name: str) -> str:
    return name if name == LR else f"{run.cell.method} {name}"


def _end(
    storage: BaseStorage, trial_id: int, state: TrialState, values: list[float] | None = None
) -> bool:
    try:
        return storage.set_trial_state_values(trial_id, state=state, values=values)
    except UpdateFinishedTrialError:
        return False


def _insist(make: Callable[[], _T], attempts: int = 4) -> _T:
    """Try again what fails when two processes do it to an empty database at once."""
    for attempt in range(1, attempts):
        try:
            return make()
        except (SQLAlchemyError, OptunaError):
            time.sleep(0.1 * 2**attempt)
    return make()
