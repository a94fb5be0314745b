"""Tables from hand-made runs: what is averaged, what counts as guessing, what is left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mirrormask.study.compare.figures import highlighted, limits, pareto, spread
from mirrormask.study.compare.page import verdict, write_page
from mirrormask.study.compare.records import Records
from mirrormask.study.compare.settings_file import from_mapping
from mirrormask.study.compare.summary import Summary, summarise
from mirrormask.study.compare.table import winners_tables

SETTINGS = from_mapping(
    {
        "name": "t",
        "problems": [
            {"name": "one", "data": "digits", "model": "mlp"},
            {"name": "two", "data": "digits", "model": "cnn"},
        ],
        "methods": ["pilot", "gmp", "l1"],
        "sparsities": [0.9, 0.99],
        "seeds": 3,
    }
)


def record(method: str, sparsity: float, seed: int, accuracy: float | None, **changes: Any) -> Any:
    return {
        "run": f"final/one/{method}/{sparsity}/seed{seed}",
        "phase": "final",
        "problem": "one",
        "method": method,
        "sparsity": sparsity,
        "trial": 2,
        "seed": seed,
        "lr": 0.05,
        "knobs": {"end": 0.5} if method == "gmp" else {},
        "digest": f"{method}{sparsity}{seed}",
        "outcome": "finished",
        "error": None,
        "accuracy": accuracy,
        "loss": 0.5,
        "chance": 0.1,
        "epochs": 4,
        "flops": {"dense": 1000.0, "gmp": 400.0}.get(method, 250.0),
        "inference_flops_left": 1 - sparsity,
        "state_bytes": 8,
        "measured": {"seconds": 2.0 + seed, "peak_rss_bytes": 100},
        "versions": {"torch": "2"},
    } | changes


def records(*runs: Any) -> Records:
    return Records(settings=SETTINGS.to_mapping(), reference="pilot", planned=90, runs=list(runs))


def several(method: str, sparsity: float, accuracies: list[float]) -> list[Any]:
    return [record(method, sparsity, seed, value) for seed, value in enumerate(accuracies)]


FULL = (
    *several("dense", 0.0, [0.90, 0.92, 0.94]),
    *several("pilot", 0.9, [0.80, 0.82, 0.84]),
    *several("gmp", 0.9, [0.81, 0.8301, 0.8499]),
    *several("pilot", 0.99, [0.70, 0.72, 0.71]),
    *several("gmp", 0.99, [0.50, 0.53, 0.51]),
)


@pytest.fixture
def summary() -> Summary:
    return summarise(records(*FULL))


def test_means_costs_and_winners(summary: Summary) -> None:
    one, two = summary.problems
    assert two.entries == {}
    assert one.sparsities == (0.9, 0.99)
    assert one.methods == ("pilot", "gmp"), "l1 has no run yet"
    assert one.dense is not None
    assert one.dense.accuracy is not None
    assert one.dense.accuracy.mean == pytest.approx(0.92)
    entry = one.entries["gmp", 0.9]
    assert entry.flops == pytest.approx(0.4)
    assert entry.seconds == 3.0
    assert (entry.trial, entry.knobs) == (2, {"end": 0.5})
    assert one.winners[0.9].name == "gmp"
    assert one.winners[0.9].tied == ()
    assert one.winners[0.99].name == "pilot"
    assert one.differences[0.99]["gmp"].estimate.mean == pytest.approx(-0.59 / 3)
    assert summary.ranks == {"pilot": 1.5, "gmp": 1.5}
    assert summary.versions == ("torch 2",)


def test_verdict_counts_points(summary: Summary) -> None:
    assert verdict(summary) == (
        "Highest mean accuracy at 2 points: gmp 1, pilot 1. pilot is first at 1, cannot be told "
        "from the first at 0 more, and is below it at 1."
    )
    assert verdict(summarise(records())) == "No point is complete yet."


def test_diverged_runs_count_as_guessing_and_broken_ones_nowhere() -> None:
    lost = {"loss": None, "error": "why", "measured": None, "flops": None}
    found = summarise(
        records(
            *several("pilot", 0.9, [0.8, 0.8]),
            record("pilot", 0.9, 2, None, **lost | {"outcome": "diverged"}),
            record("gmp", 0.9, 0, None, **lost | {"outcome": "crashed"}),
            record("l1", 0.9, 0, None, **lost | {"outcome": "refused"}),
        )
    )
    one = found.problems[0]
    pilot = one.entries["pilot", 0.9]
    assert pilot.accuracy is not None
    assert pilot.accuracy.mean == pytest.approx((0.8 + 0.8 + 0.1) / 3)
    assert pilot.failures == {2: "why"}
    assert pilot.seconds == 2.5
    assert math.isnan(pilot.flops), "there is no dense run to compare with"
    for method in ("gmp", "l1"):
        assert one.entries[method, 0.9].accuracy is None
        assert one.entries[method, 0.9].by_seed == {}
    assert one.winners[0.9].tied == ()
    assert [(f.method, f.outcome, f.reason) for f in found.failed] == [
        ("pilot", "diverged", "why"),
        ("gmp", "crashed", "why"),
        ("l1", "refused", "why"),
    ]


def test_lucky_first_seed_wins_nothing_while_a_study_runs() -> None:
    found = summarise(records(*FULL, *several("l1", 0.9, [0.99, 0.98])))
    assert found.problems[0].winners[0.9].name == "gmp"
    assert found.problems[0].entries["l1", 0.9].accuracy is not None


@pytest.mark.parametrize(
    "runs", [(), FULL[:3], FULL[:4], FULL[:7], FULL], ids=["0", "dense", "1", "part", "full"]
)
def test_page_and_table_of_every_stage(runs: tuple[Any, ...], tmp_path: Path) -> None:
    found = write_page(tmp_path / "report.html", records(*runs))
    page = (tmp_path / "report.html").read_text()
    assert f"{len(runs)} of 90 runs are done" in page
    assert ('id="one"' in page) == (len(runs) > 3)
    assert len(winners_tables(found)) == (len(runs) > 3)
    if len(runs) == len(FULL):
        for text in ("−19.67 [", 'class="below"', "71.00", "0.4x", "end 0.5"):
            assert text in page, text


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    bad = record("pilot", 0.9, 0, None, outcome="crashed", error="<script>alert(1)</script>")
    write_page(tmp_path / "report.html", records(bad))
    assert "<script" not in (tmp_path / "report.html").read_text()


def test_front_holds_whom_nobody_beats(summary: Summary) -> None:
    entries = list(summary.problems[0].entries.values())
    front = pareto([e for e in entries if e.sparsity == 0.9])
    # pilot is cheapest, gmp dearer and better.
    assert [entry.method for entry in front] == ["pilot", "gmp"]
    assert [e.method for e in pareto([e for e in entries if e.sparsity == 0.99])] == ["pilot"]


def test_colours_go_to_reference_and_leaders(summary: Summary) -> None:
    shown = highlighted(summary.problems[0], "pilot")
    assert list(shown) == ["pilot", "gmp"]
    assert len(set(shown.values())) == 2


def test_the_best_line_never_leaves_the_picture() -> None:
    steep = (*several("pilot", 0.9, [0.9, 0.9]), *several("pilot", 0.99, [0.3, 0.3]))
    rest = (*several("gmp", 0.9, [0.8, 0.8]), *several("gmp", 0.99, [0.1, 0.1]))
    low, high = limits(summarise(records(*steep, *rest)).problems[0])
    assert low < 30
    assert high > 90
    assert low > 10, "the worst may leave it"


def test_labels_are_moved_apart_no_more_than_needed() -> None:
    assert spread([3.0, 1.0], 1.0) == [3.0, 1.0]
    assert spread([], 1.0) == []
    placed = spread([1.0, 1.2, 1.1, 1.3], 1.0)
    assert sorted(placed) == pytest.approx([-0.35, 0.65, 1.65, 2.65])
    assert [sorted(placed).index(height) for height in placed] == [0, 2, 1, 3]
