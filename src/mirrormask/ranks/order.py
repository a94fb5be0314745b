"""The exact order of numbers that lie on many ranks, without moving them.

A radix selection: the k-th smallest number is found digit by digit, from the top, and what the
ranks tell each other is how many of the numbers still in question have which digit, 256 counts a
round, however many numbers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Sum = Callable[[Tensor], Tensor]
"""Adds an int64 tensor up over all ranks; may write it in place."""

DIGIT = 8
"""Bits told apart in a round."""

_INTEGERS = {torch.float32: torch.int32, torch.float64: torch.int64}
_NAN = {torch.float32: 0x7FC00000, torch.float64: 0x7FF8000000000000}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What one rank holds of a tensor.

    Attributes:
        values: Its numbers, any shape; float16 and bfloat16 are compared as float32.
        counts: Whether they count; False on all but one of the ranks that hold the same ones.
        size: Elements of the whole tensor.
        places_of: Takes flat positions in ``values`` and returns those in the whole, int64.
    """

    values: Tensor
    counts: bool
    size: int
    places_of: Callable[[Tensor], Tensor]


def ordered_keys(values: Tensor) -> Tensor:
    """Return flat int64 keys that are ordered as the numbers are, NaN above all.

    Example:
        >>> keys = ordered_keys(torch.tensor([-1.0, -0.0, 0.0, 2.0, torch.nan]))
        >>> bool((keys.sort().values == keys).all()), int(keys[1]) == int(keys[2])
        (True, True)
    """
    flat = values.detach().flatten()
    if flat.dtype not in _INTEGERS:
        flat = flat.to(torch.float32)
    integers = _INTEGERS[flat.dtype]
    bits = (flat + 0.0).view(integers)  # -0 becomes 0
    bits = torch.where(flat.isnan(), _NAN[flat.dtype], bits)
    # The sizes of negative numbers count downwards.
    return (bits ^ ((bits >> 63) & torch.iinfo(integers).max)).to(torch.int64)


def number_of(key: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the number that has this key; float16 and bfloat16 come back as float32.

    Example:
        >>> number_of(ordered_keys(torch.tensor([-3.5])), torch.float32)
        tensor([-3.5000])
    """
    known = dtype if dtype in _INTEGERS else torch.float32
    integers = _INTEGERS[known]
    return (key ^ ((key >> 63) & torch.iinfo(integers).max)).to(integers).view(known)


def kth_keys(
    keys: Callable[[], Sequence[Tensor]],
    heap: Sequence[int],
    k: Tensor,
    bits: int,
    add: Sum,
) -> tuple[Tensor, Tensor]:
    """Return the k-th smallest key of each heap over all ranks, and how many there are smaller.

    All heaps share their rounds, so many cost no more waiting than one. No sync of the host.

    Args:
        keys: Gives this rank's keys, int64, anew in each round so that none need be stored; all
            in [-2**(bits-1), 2**(bits-1)).
        heap: Number of the heap that each tensor of keys belongs to, from 0.
        k: For each heap from 1 to the number of its keys on all ranks, int64.
        bits: A multiple of 8.
        add: Sum over ranks.
    """
    left, prefix = k.clone(), torch.zeros_like(k)
    for shift in range(bits - DIGIT, -1, -DIGIT):
        counts = torch.zeros(len(k), 1 << DIGIT, dtype=torch.int64, device=k.device)
        top = shift == bits - DIGIT
        for part, number in zip(keys(), heap, strict=True):
            digit = part >> shift
            if top:  # signed: the lowest digit is the most negative one
                digit = digit + (1 << (DIGIT - 1))
                inside = torch.ones_like(digit)
            else:
                inside = ((digit >> DIGIT) == prefix[number]).to(torch.int64)
                digit = digit & ((1 << DIGIT) - 1)
            counts[number].scatter_add_(0, digit, inside)
        counts = add(counts)
        upto = counts.cumsum(1)
        found = torch.searchsorted(upto, left.unsqueeze(1)).clamp_(max=(1 << DIGIT) - 1)
        left = left - (upto - counts).gather(1, found).squeeze(1)
        found = found.squeeze(1)
        prefix = found - (1 << (DIGIT - 1)) if top else (prefix << DIGIT) | found
    return prefix, k - left


def kth_smallest_of(parts: Sequence[Part], k: int, add: Sum) -> Tensor:
    """Return the k-th smallest number over all tensors and ranks, 0-d, on the device.

    Args:
        parts: What this rank holds; the same tensors in the same order on all ranks.
        k: From 1 to the number of elements.
        add: Sum over ranks.
    """
    key, _ = _kth_of(parts, [0] * len(parts), [k], add)
    return number_of(key, _common_dtype(parts))[0]


def keep_largest_of(
    parts: Sequence[Part], heap: Sequence[int], zeros: Sequence[int], add: Sum
) -> list[Tensor]:
    """Return this rank's masks that drop exactly so many of the smallest numbers of each heap.

    Equal numbers at the threshold are dropped in the order of the tensors and of the elements in
    the whole, however it is cut: the choice is that of one process that holds everything. Asks the
    device once.

    Args:
        parts: As in :func:`kth_smallest_of`.
        heap: Number of the heap in which each tensor competes, from 0.
        zeros: For each heap, from 0 to the number of its elements.
        add: Sum over ranks.
    """
    dtype, device = _common_dtype(parts), parts[0].values.device
    key, below = _kth_of(parts, heap, [max(1, count) for count in zeros], add)
    keep, tied = [], []
    for part, number in zip(parts, heap, strict=True):
        keys = ordered_keys(part.values.to(dtype)).to(device)
        keep.append(keys >= key[number])
        tied.append((keys == key[number]).nonzero().flatten())
    wanted = torch.tensor(zeros, device=device) - below
    total = torch.zeros_like(wanted)
    for part, number, index in zip(parts, heap, tied, strict=True):
        total[number] += len(index) if part.counts else 0
    if bool((add(total) != wanted).any()):
        # Among equals the k-th place decides, by the same selection.
        places, before = [], 0
        for part, index in zip(parts, tied, strict=True):
            places.append(part.places_of(index) + before)
            before += part.size
        counted = [i for i, part in enumerate(parts) if part.counts]
        bits = DIGIT * (before.bit_length() // DIGIT + 1)  # one bit more, for the sign
        last, _ = kth_keys(
            lambda: [places[i] for i in counted],
            [heap[i] for i in counted],
            wanted.clamp(min=1),
            bits,
            add,
        )
        tied = [
            index[p <= last[number]] for index, p, number in zip(tied, places, heap, strict=True)
        ]
    for mask, index, number in zip(keep, tied, heap, strict=True):
        mask[index] = False
        if zeros[number] == 0:
            mask.fill_(True)
    return [
        mask.view(part.values.shape).to(part.values.device)
        for mask, part in zip(keep, parts, strict=True)
    ]


def _kth_of(
    parts: Sequence[Part], heap: Sequence[int], k: Sequence[int], add: Sum
) -> tuple[Tensor, Tensor]:
    dtype, device = _common_dtype(parts), parts[0].values.device
    counted = [i for i, part in enumerate(parts) if part.counts]
    return kth_keys(
        lambda: [ordered_keys(parts[i].values.to(dtype)).to(device) for i in counted],
        [heap[i] for i in counted],
        torch.tensor(list(k), device=device),
        torch.finfo(dtype).bits,
        add,
    )


def _common_dtype(parts: Sequence[Part]) -> torch.dtype:
    wide = any(part.values.dtype == torch.float64 for part in parts)
    return torch.float64 if wide else torch.float32
