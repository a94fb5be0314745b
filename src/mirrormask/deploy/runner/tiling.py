"""Convolutions in tiles, on images that lie anywhere; those that end a network write its output."""

from __future__ import annotations

import numpy as np

from mirrormask.deploy.conv_plans import tiles_that_pay
from mirrormask.deploy.runner.operations import Array, Convolution, Move, Network, Taps
from mirrormask.deploy.runner.storage import Port, Storage, View, image_dims, port_view
from mirrormask.kernels import Conv, kernels

# The kernels refuse wider ones in a program, and those padded by more than they see beyond a pixel.
_WIDEST = 4096


def is_in_tiles(
    shape: tuple[int, int, int, int], weight: Array, taps: Taps, *, padded: bool
) -> bool:
    """Tell whether a convolution seems faster in tiles than over the planes of a program.

    Args:
        shape: Of the images ``[n, c, h, w]``.
        weight: ``[rows, columns]``.
        taps: Where the weights find their pixels.
        padded: Whether the other way would find the images in planes already.
    """
    library = kernels()
    spans = [d * (k - 1) for d, k in zip(taps.dilation, taps.kernel, strict=True)]
    inside = all(pad <= span < _WIDEST for pad, span in zip(taps.pad, spans, strict=True))
    if library is None or not inside:
        return False
    images, channels, height, width = shape
    conv = Conv(
        channels=channels,
        height=height,
        width=width,
        images=images,
        kernel=taps.kernel,
        stride=taps.stride,
        dilation=taps.dilation,
        pad=pads_of(taps),
    )
    nonzeros = int(np.count_nonzero(weight))
    found = tiles_that_pay(library, conv, outputs=len(weight), nonzeros=nonzeros, padded=padded)
    return found is not None


def pads_of(taps: Taps) -> tuple[int, int, int, int]:
    """Return the padding on the left, right, top and bottom."""
    down, across = taps.pad
    return across, across, down, down


def as_it_is(view: View) -> bool:
    """Tell whether a tensor is a whole input of images, ``[n, c, h, w]`` or ``[n, c, w]``."""
    port = view.storage
    return isinstance(port, Port) and view.dims == port_view(port).dims and len(view.dims) in (3, 4)


def layout_of(storage: Storage | Port) -> tuple[int, int, int]:
    """Return the floats between images, channels and rows of a buffer or a port of images."""
    if isinstance(storage, Storage):
        return storage.steps[:3]
    image, channel, *row, _ = storage.steps
    return image, channel, row[0] if row else channel


def write_outputs(network: Network) -> None:
    """Let convolutions write outputs of the network where nobody else reads what they compute."""
    for move in [step for step in network.operations if isinstance(step, Move)]:
        storage = move.source.storage
        if not isinstance(move.out, Port) or not isinstance(storage, Storage):
            continue
        dims = image_dims(storage.sizes)
        forms = [dims] if storage.sizes[2] > 1 else [dims, (*dims[:2], dims[3])]
        readers = [step for step in network.operations if storage in step.reads()]
        makers = [step for step in network.operations if step.out is storage]
        if move.source.dims not in forms or readers != [move]:
            continue
        if len(makers) == 1 and isinstance(makers[0], Convolution):
            makers[0].out = move.out
            network.operations.remove(move)
