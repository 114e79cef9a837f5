"""Where the foreground lies: some voxels of every class, from which patches that hold it are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Points = NDArray[np.int32]

CHUNK_PIXELS = 1 << 22


def foreground_points(labels: Labels, num_classes: int, limit: int = 1000) -> Points:
    """Some pixels of every class but the background, spread evenly over all of its pixels.

    The array is read twice, slab by slab, so that a map of a large file takes little memory. Nothing is drawn:
    the same labels give the same points.

    Args:
        labels: `(*S)` uint8. Values from `num_classes` on, such as that of ignored pixels, give no points.
        num_classes: Classes, background included.
        limit: Most points of a class; all of its pixels where it has no more.

    Returns:
        `(n, 1 + len(S))` class and index of each point, ascending by class, then in the order of memory.

    Raises:
        ValueError: If `limit` is not positive.
        TypeError: If the labels are not uint8.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if labels.dtype != np.uint8:
        raise TypeError(f"labels must be uint8, not {labels.dtype}")
    totals = np.zeros(256, np.int64)
    for _, slab in _slabs(labels):
        totals += np.bincount(slab, minlength=256)
    seen = np.zeros(256, np.int64)
    found: list[list[NDArray[np.int64]]] = [[] for _ in range(num_classes)]
    for first, slab in _slabs(labels):
        places = np.flatnonzero((slab > 0) & (slab < num_classes))
        values = slab[places]
        for label in np.unique(values):
            of_class = places[values == label]
            wanted = _even_ranks(int(totals[label]), limit) - seen[label]
            inside = wanted[np.searchsorted(wanted, 0) : np.searchsorted(wanted, len(of_class))]
            found[label].append(first + of_class[inside])
            seen[label] += len(of_class)
    rows = [_rows(label, places, labels.shape) for label, parts in enumerate(found) for places in parts]
    return np.concatenate(rows) if rows else np.zeros((0, 1 + labels.ndim), np.int32)


def pick_point(points: Points, rng: np.random.Generator) -> tuple[int, ...]:
    """The index of a point; its class is drawn evenly among those that there are, then the point evenly within it.

    So a rare class is shown as often as a common one, as nnU-Net does (Isensee et al. 2021, arXiv:1904.08128).

    Args:
        points: `(n, 1 + ndim)` class and index, as `foreground_points` finds them; at least one.
        rng: Where the random numbers come from.

    Raises:
        ValueError: If there is no point.
    """
    if len(points) == 0:
        raise ValueError("there is no point to pick")
    label = rng.choice(np.flatnonzero(np.bincount(points[:, 0])))
    rows = np.flatnonzero(points[:, 0] == label)
    return tuple(int(place) for place in points[rng.choice(rows), 1:])


def _slabs(labels: Labels) -> Iterator[tuple[int, Labels]]:
    """Parts of the array along its first axis, each flat, with the number of pixels before it."""
    layer = math.prod(labels.shape[1:])
    depth = max(1, CHUNK_PIXELS // max(layer, 1))
    for first in range(0, labels.shape[0], depth):
        yield first * layer, np.asarray(labels[first : first + depth]).ravel()


def _even_ranks(total: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` of the numbers below `total`, ascending, in the middles of equal parts."""
    num_ranks = min(total, limit)
    return (2 * np.arange(num_ranks, dtype=np.int64) + 1) * total // max(2 * num_ranks, 1)


def _rows(label: int, places: NDArray[np.int64], shape: tuple[int, ...]) -> Points:
    indices = np.unravel_index(places, shape)
    return np.stack([np.full(len(places), label), *indices], axis=1).astype(np.int32)
