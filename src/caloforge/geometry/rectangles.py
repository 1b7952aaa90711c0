"""Which of many rectangles overlap, and which lie side by side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ALIKE = 1e-4
"""Part of a cell's size within which lengths are equal: tables of positions are rounded."""


def close_pairs(centre: FloatArray, size: FloatArray, *, reach: float = 0.0) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield pairs of rectangles that overlap in x when each is ``reach`` of its size wider, a rectangle at a time.

    Args:
        centre: (n, 2) mm.
        size: (n, 2) mm.
        reach: part of the size of the rectangle.

    Yields:
        (m, 2) pairs, and (m, 2) gaps in x and y as parts of the smaller rectangle's size, negative where they overlap.
    """
    order = np.argsort(centre[:, 0] - (0.5 + reach) * size[:, 0], kind="stable")
    centre, size = centre[order], size[order]
    low = centre[:, 0] - (0.5 + reach) * size[:, 0]
    last = np.searchsorted(low, centre[:, 0] + (0.5 + reach) * size[:, 0])
    for i, end in enumerate(last.tolist()):
        others = slice(i + 1, end)
        smaller = np.minimum(size[others], size[i])
        gap = (np.abs(centre[others] - centre[i]) - (size[others] + size[i]) / 2) / smaller
        pairs = np.stack([np.full(len(gap), order[i]), order[others]], axis=1)
        yield np.sort(pairs, axis=1), gap


def overlapping(centre: FloatArray, size: FloatArray) -> tuple[int, int] | None:
    """Return two rectangles (n, 2), (n, 2) that overlap, None if none do."""
    for pairs, gap in close_pairs(centre, size):
        if (wrong := (gap < -ALIKE).all(axis=1)).any():
            first, second = pairs[int(np.argmax(wrong))].tolist()
            return first, second
    return None


def side_by_side(centre: FloatArray, size: FloatArray) -> IntArray:
    """Return the pairs of rectangles (n, 2), (n, 2) with no room for another one between them, (m, 2) and sorted.

    Those are pairs that lie beside each other along a part of an edge, less than half the smaller one's size apart.
    """
    found = [np.empty((0, 2), np.int64)]
    for pairs, gap in close_pairs(centre, size, reach=0.25):
        along = gap.min(axis=1) < -ALIKE  # they share a part of an edge, not a corner alone
        found.append(pairs[along & (gap.max(axis=1) < 0.5)])
    joined = np.concatenate(found)
    return joined[np.lexsort(joined.T[::-1])]
