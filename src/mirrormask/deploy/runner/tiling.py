"""Convolutions in tiles, on images that lie anywhere; those that end a network write its output."""

from __future__ import annotations

import numpy as np

from mirrormask.deploy.conv_plans import tiles_that_pay
from mirrormask.deploy.runner.operations import (
    Array,
    Convolution,
    Move,
    Network,
    Sparse,
    Split,
    Taps,
)
from mirrormask.deploy.runner.storage import Port, Storage, View, image_dims, port_view
from mirrormask.deploy.runner.views import ROWS, Dimensions
from mirrormask.kernels import Conv, kernels

# The kernels refuse wider ones in a program, and those padded by more than they see beyond a pixel.
_WIDEST = 4096


def is_in_tiles(
    shape: tuple[int, int, int, int], weight: Array, taps: Taps, *, packing: int
) -> bool:
    """Tell whether a convolution seems faster in tiles than over the planes of a program.

    Args:
        shape: Of the images ``[n, c, h, w]``.
        weight: ``[rows, columns]``.
        taps: Where the weights find their pixels.
        packing: What planes would have to copy before, in percent of the packing outside programs.
    """
    library = kernels()
    if library is None or not is_allowed(taps):
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
    # Strips need rows without gaps, and whether there are any is known once all layers were seen:
    # then the kernels choose them where they can be and are faster still.
    found = tiles_that_pay(
        library,
        conv,
        outputs=len(weight),
        nonzeros=nonzeros,
        packing=packing,
        way="packed tiles",
    )
    return found is not None


def is_allowed(taps: Taps) -> bool:
    """Tell whether a program may have a step for a convolution."""
    spans = [d * (k - 1) for d, k in zip(taps.dilation, taps.kernel, strict=True)]
    return all(pad <= span < _WIDEST for pad, span in zip(taps.pad, spans, strict=True))


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


def join_single(network: Network) -> None:
    """Make a network that is one convolution one step, without copies into planes and back."""
    moves = [step for step in network.operations if isinstance(step, Move)]
    products = [step for step in network.operations if isinstance(step, Sparse)]
    others = len(network.operations) - len(moves) - len(products)
    if len(moves) != 2 or len(products) != 1 or not as_it_is(moves[0].source):
        return
    product, first, last = products[0], *moves
    splits = [step for step in network.operations if isinstance(step, Split)]
    taps = product.taps
    if others != len(splits) or product.add is not None or taps is None or not is_allowed(taps):
        return
    if not isinstance(last.out, Port) or last.source.dims not in _image_forms(product.out):
        return
    alone = Convolution(
        label=product.label,
        origin=product.origin,
        source=first.source,
        out=last.out,
        weight=product.weight,
        bias=product.bias,
        groups=product.groups,
        relu=product.relu,
        taps=taps,
    )
    network.operations[:] = [alone]


def write_outputs(network: Network) -> None:
    """Let convolutions write outputs of the network where nobody else reads what they compute."""
    for move in [step for step in network.operations if isinstance(step, Move)]:
        storage = move.source.storage
        if not isinstance(move.out, Port) or not isinstance(storage, Storage):
            continue
        readers = [step for step in network.operations if storage in step.reads()]
        makers = [step for step in network.operations if step.out is storage]
        if move.source.dims not in _image_forms(storage) or readers != [move]:
            continue
        if len(makers) == 1 and isinstance(makers[0], Convolution):
            makers[0].out = move.out
            network.operations.remove(move)


def _image_forms(storage: Storage) -> list[Dimensions]:
    """Return how images, or signals, are in a buffer when they lie as in a port of theirs."""
    dims = image_dims(storage.sizes)
    return [dims] if storage.sizes[ROWS] > 1 else [dims, (*dims[:2], dims[3])]
