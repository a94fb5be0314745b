"""The measured tables of docs/research/; page_tables.py puts them there."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

from raw_results import data, table


def dynamics() -> str:
    """Return what was watched along runs, means over seeds."""
    runs = data("recipe_dynamics")["runs"]
    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == method]
        watched = [run["epochs"] for run in mine]
        settled = [next(e for e, row in enumerate(w) if row["chosen"] > 0.95) for w in watched]
        cells = [
            f"{mean(settled):.0f}",
            f"{100 * mean(run['came_back'] for run in mine):.0f} %",
            f"{100 * mean(w[0]['flipped'] for w in watched):.0f} %",
            f"{mean(w[-1]['speed'] for w in watched):.1f}",
            f"{mean(min(row['size'] for row in w[len(w) // 2 :]) for w in watched):.2f}",
            f"{100 * mean(max(run['accuracy'][:-1]) for run in mine):.0f} %",
            f"{100 * mean(run['accuracy'][-1] for run in mine):.0f} %",
        ]
        rows.append([f"`{method}`", *cells])
    headings = [
        "",
        "mask settled in epoch",
        "were zero and came back",
        "changed sign since the start",
        "step for a unit of gradient",
        "least size in the second half",
        "best accuracy on the way",
        "at the end",
    ]
    return table(headings, rows)


PARTS: dict[str, Callable[[], str]] = {"dynamics": dynamics}
