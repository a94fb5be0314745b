"""Turn one tensor into the parts of a packed file: the smallest form, bit for bit or as asked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from mirrormask.deploy.dtypes import (
    TORCH_BY_NAME,
    Words,
    dtype_name,
    word_bytes,
    words_of,
)
from mirrormask.deploy.manifest import (
    STORED_DTYPE,
    Entry,
    NegativeZeros,
    SignedZeros,
    Values,
    may_expand,
)
from mirrormask.errors import ArgumentError
from mirrormask.files.container import NewPart
from mirrormask.files.index_coding import (
    IndexChoice,
    Positions,
    encode_positions,
    index_choices,
)

# What a second and third part cost in the header, so that tiny tensors stay dense.
_PART_BYTES = 160


@dataclass(frozen=True, kw_only=True)
class EncodedTensor:
    """An entry for the manifest together with the arrays that it describes."""

    entry: Entry
    parts: list[NewPart]


def encode_tensor(
    name: str,
    tensor: torch.Tensor,
    *,
    values: Values,
    signed_zeros: SignedZeros,
    base: str,
) -> EncodedTensor:
    """Encode one tensor in the smallest of all layouts.

    Args:
        name: Name of the tensor, for messages.
        tensor: Any strided tensor.
        values: ``"exact"``, or the number format for floating tensors of two or more dimensions;
            vectors (biases, statistics) always stay exact.
        signed_zeros: ``"drop"`` turns -0.0 into 0.0, which is equal and takes no room.
        base: Stem of the names of the parts.

    Raises:
        ArgumentError: The type cannot be stored, or a value does not fit the format asked for.
    """
    dtype = dtype_name(name, tensor.dtype)
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    kind = _applicable(plain, values)
    stored, scale = _convert(name, plain, kind)
    words = words_of(stored)
    if signed_zeros == "drop" and has_signed_zeros(stored.dtype):
        words = np.where(words == np.iinfo(words.dtype).min, words.dtype.type(0), words)
    entry = Entry(
        dtype=dtype,
        shape=tuple(tensor.shape),
        layout="dense",
        values=kind,
        nonzeros=int(np.count_nonzero(words)),
        rice_bits=0,
        base=base,
        checksum=0,
    )
    entry, arrays = _smallest(entry, words)
    if scale is not None:
        arrays.insert(1 if entry.layout == "dense" else 2, words_of(scale))
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array.view(np.uint8).data, checksum)
    expected = entry.expected_parts().items()
    parts = [
        NewPart(
            name=part,
            dtype=kind_name,
            shape=(array.nbytes,) if shape is None else shape,
            data=array,
        )
        for (part, (kind_name, shape)), array in zip(expected, arrays, strict=True)
    ]
    return EncodedTensor(entry=replace(entry, checksum=checksum), parts=parts)


def _smallest(entry: Entry, words: Words) -> tuple[Entry, list[Words]]:
    """Return the entry with its layout filled in, and the arrays of index, values, signed zeros."""
    width = word_bytes(entry.stored_dtype)
    budget = entry.length * width
    signed = words == np.iinfo(words.dtype).min if has_signed_zeros(entry.stored_dtype) else None
    count = 0 if signed is None else int(np.count_nonzero(signed))
    # Every index costs at least one bit a nonzero: without enough zeros none can pay.
    if (entry.nonzeros - count) * (width + 0.125) + _PART_BYTES >= budget:
        return entry, [words]
    negative = np.empty(0, dtype=np.int64)
    plain = np.flatnonzero(words)
    # Signed zeros get an index of their own where that is cheaper than storing them as values.
    if signed is not None and count * width > min(2 * count, entry.length // 8) + _PART_BYTES:
        negative, plain = np.flatnonzero(signed), plain[~signed[plain]]
    entry = replace(entry, nonzeros=plain.size)
    index = _index(entry, plain, budget - plain.size * width)
    if index is None:
        return replace(entry, nonzeros=plain.size + negative.size), [words]
    choice, code = index
    entry = replace(entry, layout=choice.layout, rice_bits=choice.rice_bits)
    arrays = [code, words[plain]]
    if negative.size:
        choice = index_choices(negative, entry.length)[0]
        arrays.append(encode_positions(negative, entry.length, choice))
        entry = replace(
            entry,
            negative_zeros=NegativeZeros(
                layout=choice.layout, rice_bits=choice.rice_bits, count=negative.size
            ),
        )
    return entry, arrays


def _index(entry: Entry, positions: Positions, room: int) -> tuple[IndexChoice, Words] | None:
    """Return the cheapest index that takes less than ``room`` bytes, or None."""
    stored = positions.size * word_bytes(entry.stored_dtype)
    for choice in index_choices(positions, entry.length):
        if choice.nbytes + _PART_BYTES >= room:
            break
        if may_expand(entry.dense_bytes, choice.nbytes + stored):
            return choice, encode_positions(positions, entry.length, choice)
    return None


def has_signed_zeros(dtype: torch.dtype) -> bool:
    """Tell whether a word of this type whose only set bit is the sign is a negative zero."""
    return dtype.is_floating_point and dtype.itemsize > 1


def _applicable(tensor: torch.Tensor, values: Values) -> Values:
    """Return the value format for this tensor: ``"exact"`` where the asked one gains nothing."""
    if values == "exact" or not tensor.dtype.is_floating_point or tensor.ndim < 2:
        return "exact"
    smaller = TORCH_BY_NAME[STORED_DTYPE[values]].itemsize < tensor.dtype.itemsize
    return values if smaller else "exact"


def _convert(
    name: str, tensor: torch.Tensor, kind: Values
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if kind == "exact":
        return tensor, None
    if kind == "int8":
        return _quantise(name, tensor)
    stored = tensor.to(TORCH_BY_NAME[STORED_DTYPE[kind]])
    if bool((torch.isinf(stored) & ~torch.isinf(tensor)).any()):
        raise ArgumentError(
            f"tensor {name!r} has values too large for {kind}: use bf16 or exact values"
        )
    return stored, None


def _quantise(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return int8 values and one float32 scale per row, absolute maximum to 127."""
    rows = tensor.reshape(tensor.shape[0], -1).double() if tensor.numel() else tensor.double()
    if not bool(torch.isfinite(rows).all()):
        raise ArgumentError(
            f"tensor {name!r} has NaN or infinite values, which int8 cannot hold: use exact values"
        )
    if not tensor.numel():
        return tensor.to(torch.int8), torch.zeros(tensor.shape[0])
    scale = (rows.abs().amax(dim=1) / 127.0).float()
    divisor = torch.where(scale > 0, scale, 1.0).double()[:, None]
    quantised = (rows / divisor).round().clamp(-127, 127).to(torch.int8)
    return quantised.reshape(tensor.shape), scale
