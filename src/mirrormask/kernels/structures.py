"""The C structures of ``mirrormask.h``, field by field, and what its functions take and return."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_double, c_float, c_int, c_int32, c_int64, c_void_p

VARIANTS = ("portable", "avx2", "avx512")
# Of doing a convolution in tiles of its output; the first is whichever seems faster.
WAYS = ("either", "packed tiles", "strips")


class Blocks(ctypes.Structure):
    """The weights of a matrix once more, cut into blocks for wide batches."""

    _fields_ = (
        ("across", ctypes.c_int64),
        ("down", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("groups", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    )


class Rows(ctypes.Structure):
    """A sparse matrix by rows: addresses of its arrays, which the caller keeps alive."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("columns", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("relu", ctypes.c_int32),
        ("variant", ctypes.c_int32),
        ("blocks", ctypes.POINTER(Blocks)),
    )


class Conv(ctypes.Structure):
    """A convolution for images of one size: what is given, then what planning fills in."""

    _fields_ = (
        ("channels", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("images", ctypes.c_int64),
        ("kernel", ctypes.c_int64 * 2),
        ("stride", ctypes.c_int64 * 2),
        ("dilation", ctypes.c_int64 * 2),
        ("pad", ctypes.c_int64 * 4),
        ("out_height", ctypes.c_int64),
        ("out_width", ctypes.c_int64),
        ("plane_height", ctypes.c_int64),
        ("plane_width", ctypes.c_int64),
        ("phases", ctypes.c_int64 * 2),
        ("block", ctypes.c_int64),
        ("plane", ctypes.c_int64),
        ("floats", ctypes.c_int64),
        ("in_place", ctypes.c_int64),
    )


class Layout(ctypes.Structure):
    """Where the pixels of images are: floats between images, channels and rows."""

    _fields_ = (
        ("image", ctypes.c_int64),
        ("channel", ctypes.c_int64),
        ("row", ctypes.c_int64),
    )


class Tiles(ctypes.Structure):
    """A convolution in tiles of its output: what is given, then what planning fills in."""

    _fields_ = (
        ("conv", Conv),
        ("outputs", ctypes.c_int64),
        ("nonzeros", ctypes.c_int64),
        ("variant", ctypes.c_int64),
        ("packing", ctypes.c_int64),
        ("way", ctypes.c_int64),
        ("input", Layout),
        ("output", Layout),
        ("added", Layout),
        ("fits", ctypes.c_int64),
        ("pays", ctypes.c_int64),
        ("strips", ctypes.c_int64),
        ("flat", ctypes.c_int64),
        ("far", ctypes.c_int64),
        ("size", ctypes.c_int64 * 2),
        ("direct", ctypes.c_int64),
        ("side_by_side", ctypes.c_int64),
        ("tile", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("patch", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("reach", ctypes.c_int64),
        ("first", ctypes.c_int64),
        ("right", ctypes.c_int64),
        ("left", ctypes.c_int64),
        ("late", ctypes.c_int64),
        ("plane", ctypes.c_int64),
        ("floats", ctypes.c_int64),
        ("blocks", ctypes.c_int64),
        ("chunk", ctypes.c_int64),
    )


class Live(ctypes.Structure):
    """A convolution in training: what is given, then what planning fills in."""

    _fields_ = (
        ("conv", Conv),
        ("outputs", ctypes.c_int64),
        ("channels_last", ctypes.c_int64),
        ("lanes", ctypes.c_int64),
        ("reach", ctypes.c_int64 * 2),
        ("band", ctypes.c_int64),
        ("plane", ctypes.c_int64),
        ("front", ctypes.c_int64),
        ("in_floats", ctypes.c_int64),
        ("out_floats", ctypes.c_int64),
    )


class ProgramData(ctypes.Structure):
    """A whole network as steps: addresses of its arrays, which the caller keeps alive."""

    _fields_ = (
        ("step_count", ctypes.c_int64),
        ("constant_count", ctypes.c_int64),
        ("index_count", ctypes.c_int64),
        ("arena", ctypes.c_int64),
        ("input_count", ctypes.c_int64),
        ("output_count", ctypes.c_int64),
        ("steps", ctypes.c_void_p),
        ("constants", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("port_floats", ctypes.c_void_p),
        ("variant", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "mm_abi": (c_int, ()),
    "mm_supported": (c_int, (c_int,)),
    "mm_release": (None, ()),
    "mm_check_rows": (c_int, (c_void_p, c_void_p, c_int64, c_int64, c_int64)),
    "mm_sizes": (None, (POINTER(c_int64 * 6),)),
    "mm_least_for_blocks": (c_int64, (POINTER(Rows), c_int64)),
    "mm_blocks_plan": (c_int, (POINTER(Rows), c_int64, POINTER(Blocks), POINTER(c_int64 * 5))),
    "mm_blocks_fill": (c_int, (POINTER(Rows), POINTER(Blocks), POINTER(c_int64 * 2))),
    "mm_linear": (
        c_int,
        (POINTER(Rows), c_int64, c_void_p, c_int64, c_void_p, POINTER(c_int32 * 2), c_int),
    ),
    "mm_transpose": (c_int, (c_void_p, c_int64, c_int64, c_void_p, c_int, c_int)),
    "mm_conv_plan": (c_int, (POINTER(Conv),)),
    "mm_conv_offsets": (c_int, (POINTER(Conv), c_void_p, c_int64, c_void_p)),
    "mm_conv2d": (c_int, (POINTER(Conv), POINTER(Rows), c_void_p, c_void_p, c_int)),
    "mm_tiles_plan": (c_int, (POINTER(Tiles),)),
    "mm_tiles_fill": (c_int, (POINTER(Tiles), POINTER(Rows), c_void_p, c_void_p, c_void_p)),
    "mm_tiles_conv2d": (c_int, (POINTER(Tiles), POINTER(Rows), c_void_p, c_void_p, c_int)),
    "mm_live_plan": (c_int, (POINTER(Live),)),
    "mm_live_offsets": (c_int, (POINTER(Live), c_void_p, c_int64, c_void_p)),
    "mm_live_turned_offsets": (c_int, (POINTER(Live), c_void_p, c_int64, c_void_p)),
    "mm_live_forward": (c_int, (POINTER(Live), POINTER(Rows), c_void_p, c_void_p, c_int)),
    "mm_live_backward": (
        c_int,
        (POINTER(Live), POINTER(Rows), POINTER(Rows), *[c_void_p] * 4, c_int),
    ),
    "mm_value_gradient": (
        c_int,
        (POINTER(Rows), c_void_p, c_void_p, c_int64, c_void_p, c_int),
    ),
    "mm_program_open": (c_int, (POINTER(ProgramData), POINTER(c_void_p))),
    "mm_program_bytes": (c_int64, (c_void_p,)),
    "mm_program_close": (None, (c_void_p,)),
    "mm_program_run": (c_int, (c_void_p,)),
    "mm_advance": (
        c_int64,
        (c_void_p, c_void_p, c_int64, c_int64, *[c_float] * 3, c_void_p, c_int, c_int),
    ),
    "mm_shrink": (c_int, (c_void_p, c_int64, *[c_float] * 3, c_int, c_int)),
    "mm_peak": (c_double, (c_int, c_int64)),
}
