"""The theory lab: every statement about the dynamics, recomputed from the code that trains.

Needs the extra ``lab`` (SciPy, scikit-learn, matplotlib). Nothing here is imported by
``import mirrormask``; ``MirrorRegressor`` and ``MirrorRegressorCV`` load scikit-learn when asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirrormask.lab.estimator import MirrorRegressor as MirrorRegressor
    from mirrormask.lab.estimator_cv import MirrorRegressorCV as MirrorRegressorCV


def __getattr__(name: str) -> Any:
    # The command line imports this package to list its commands: that must stay light.
    if name == "MirrorRegressor":
        from mirrormask.lab.estimator import MirrorRegressor  # noqa: PLC0415

        return MirrorRegressor
    if name == "MirrorRegressorCV":
        from mirrormask.lab.estimator_cv import MirrorRegressorCV  # noqa: PLC0415

        return MirrorRegressorCV
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
