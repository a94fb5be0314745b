"""Steps over images that point at no weights."""

from __future__ import annotations

from mirrormask.deploy.runner import operations as ops
from mirrormask.deploy.runner.storage import Storage
from mirrormask.deploy.runner.views import CHANNELS, COLUMNS, IMAGES, ROWS
from mirrormask.runtime import steps


def pool_step(operation: ops.Pooling) -> steps.Step:
    """Return the step of pooling."""
    source, out, taps = operation.source.storage, operation.out, operation.taps
    assert isinstance(source, Storage)
    image, plane, row, _ = source.steps
    return steps.Pool(
        source=source.place,
        out=out.place,
        what=operation.what,
        channels=source.sizes[CHANNELS],
        images=source.sizes[IMAGES],
        size=(source.sizes[ROWS], source.sizes[COLUMNS]),
        out_size=(out.sizes[ROWS], out.sizes[COLUMNS]),
        kernel=taps.kernel,
        stride=taps.stride,
        pad=taps.pad,
        dilation=taps.dilation,
        source_steps=(plane, image, row),
        out_steps=(out.steps[1], out.steps[0], out.steps[2]),
        front=out.front,
    )


def gate_step(operation: ops.Gate) -> steps.Step:
    """Return the step that multiplies images with numbers."""
    source, factors, out = operation.source.storage, operation.factors.storage, operation.out
    assert isinstance(source, Storage) and isinstance(factors, Storage)
    _, _, rows, columns = out.sizes
    return steps.Gate(
        source=source.place,
        gate=factors.place,
        out=out.place,
        planes=out.sizes[CHANNELS],
        images=out.sizes[IMAGES],
        image=out.steps[IMAGES],
        used=(rows - 1) * out.steps[ROWS] + columns,
        source_step=source.plane,
        gate_step=factors.steps[CHANNELS],
        gate_image=factors.steps[IMAGES],
        out_step=out.plane,
        front=out.front,
    )
