"""Orders and stratified choices that are pure functions of integer keys.

Everything here is drawn from the raw stream of a bit generator, which numpy guarantees never to
change (unlike the streams of ``Generator.permutation`` and of ``torch.randperm``), and from no
global state: the same key gives the same order on every machine and in every release.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirrormask.errors import ArgumentError

IntArray = NDArray[np.int64]


def permutation(n: int, *key: int) -> IntArray:
    """Order 0…n-1 as a pure function of ``key``.

    Args:
        n: How many items; 0 gives an empty order.
        key: Non-negative integers, such as a seed and an epoch. Any change gives another order.

    Returns:
        int64 array [n], every index once.

    Raises:
        ArgumentError: A part of the key is negative.

    Example:
        >>> permutation(5, 0, 1).tolist() == permutation(5, 0, 1).tolist()
        True
        >>> sorted(permutation(5, 0, 2).tolist())
        [0, 1, 2, 3, 4]
    """
    draws = np.random.PCG64(_entropy(key)).random_raw(n)
    # The order of n independent uniform draws is a uniform permutation; a stable sort settles
    # the (practically impossible) tie of two 64-bit draws.
    return np.argsort(np.asarray(draws, dtype=np.uint64), kind="stable").astype(np.int64)


def stream_seed(*key: int) -> int:
    """Derive one 63-bit seed for another generator as a pure function of ``key``.

    Raises:
        ArgumentError: A part of the key is negative.

    Example:
        >>> stream_seed(0, 1) == stream_seed(0, 1), stream_seed(0, 1) == stream_seed(1, 0)
        (True, False)
    """
    return int(
        np.random.SeedSequence(_entropy(key)).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )


def stratified(labels: IntArray, size: int, *key: int) -> IntArray:
    """Choose ``size`` items so that every class keeps its share to within one item.

    A class with c of the n items gets floor(size*c/n) of them; the few places left by rounding
    down go to the largest fractions, the lower label first when they tie.

    Args:
        labels: int64 array [n] of class labels.
        size: How many items to choose, 0 ≤ size ≤ n.
        key: Non-negative integers that fix which items of a class are chosen.

    Returns:
        int64 array [size] of indices into ``labels``, ascending.

    Raises:
        ArgumentError: ``size`` is out of range, or a part of the key is negative.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[stratified(labels, 3, 0)].tolist()
        [0, 0, 1]
    """
    n = len(labels)
    if not 0 <= size <= n:
        raise ArgumentError(
            f"cannot choose {size} of {n} items: ask for a number between 0 and {n}."
        )
    values, counts = np.unique(labels, return_counts=True)
    # Integers throughout: a float share such as 0.1*70 would be rounded down one too far.
    quota, remainder = np.divmod(counts.astype(np.int64) * size, max(n, 1))
    for place in np.argsort(-remainder, kind="stable")[: size - int(quota.sum())]:
        quota[place] += 1
    order = permutation(n, *key)
    shuffled = labels[order]
    chosen = [order[shuffled == v][:q] for v, q in zip(values, quota, strict=True)]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *chosen]))


def _entropy(key: tuple[int, ...]) -> list[int]:
    if any(part < 0 for part in key):
        raise ArgumentError(f"seed {key} holds a negative number: use integers of 0 or more.")
    # The length leads, because SeedSequence pads with zeros: (1,) and (1, 0) must differ.
    return [len(key), *key]
