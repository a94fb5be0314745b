"""The tables that end a comparison in a terminal."""

from __future__ import annotations

from rich.table import Table

from mirrormask.study.compare.summary import Summary


def winners_tables(summary: Summary) -> list[Table]:
    """Return one table a problem: mean test accuracy of each method, the best marked."""
    tables = []
    for problem in summary.problems:
        if not problem.entries:
            continue
        dense = problem.dense.accuracy if problem.dense else None
        title = f"{problem.name}: test accuracy in %" + (
            f", dense {100 * dense.mean:.2f}" if dense else ""
        )
        table = Table("method", title=title)
        for sparsity in problem.sparsities:
            table.add_column(f"{100 * sparsity:g} % zeros", justify="right")
        for method in problem.methods:
            row = [method]
            for sparsity in problem.sparsities:
                entry = problem.entries.get((method, sparsity))
                winner = problem.winners.get(sparsity)
                if entry is None or entry.accuracy is None:
                    row.append("failed" if entry else "–")
                    continue
                mark = "*" if winner and winner.name == method else " "
                row.append(f"{100 * entry.accuracy.mean:.2f}{mark}")
            table.add_row(*row)
        tables.append(table)
    return tables
