"""One self-contained page for a finished main job: no script, no network, no second file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import nn

import mirrormask as mm
from mirrormask.selection import select
from mirrormask.study import figures
from mirrormask.study.result import TrainResult
from mirrormask.study.run_folder import write_text
from mirrormask.study.settings import TrainSettings
from mirrormask.study.sweep import Sweep


def write_page(
    path: Path,
    settings: TrainSettings,
    result: TrainResult,
    models: Mapping[str, nn.Module],
    sweeps: Mapping[str, Sweep],
) -> None:
    """Write the page of a finished job.

    Args:
        path: Of the HTML file.
        settings: What was trained.
        result: Both twins.
        models: The finished networks by name, dense first.
        sweeps: What each keeps at other levels, by the same names.

    Raises:
        OutputError: If the file cannot be written.
    """
    report = result.sparse.sparsity_report()
    assert report is not None  # the sparse twin always has one
    weights = {name: [t.parameter for t in select(model)] for name, model in models.items()}
    pictures = {
        "accuracy": figures.accuracy_over_epochs(result.dense, result.sparse),
        "sweep": figures.accuracy_over_sparsity(sweeps, settings.sparsity),
        "layers": figures.sparsity_by_layer(report),
        "histogram": figures.histogram(weights),
        "pressure": figures.path_of_pressure(result.sparse),
    }
    environment = Environment(
        loader=PackageLoader("mirrormask.study"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("train.html").render(
        settings=settings,
        result=result,
        report=report,
        # Our own SVG, built from numbers and tensor names that matplotlib has escaped.
        figures={name: Markup(text) for name, text in pictures.items()},
        config=json.dumps(settings.to_config(), indent=2),
        version=mm.__version__,
        percent=_percent,
    )
    write_text(path, page)


def _percent(fraction: float, digits: int = 0) -> str:
    return f"{100 * fraction:.{digits}f} %" if digits else f"{100 * fraction:g} %"
