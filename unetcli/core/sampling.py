"""Where the foreground lies: some voxels of every class, from which patches that hold it are drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Points = NDArray[np.int32]

CHUNK_PIXELS = 1 << 20
LINE_PIXELS = 8 * 255
"""Pixels that are counted as one line: 255 numbers of 8 bytes, so that sums of 0 and 1 in each byte stay below 256."""


def foreground_points(labels: Labels, num_classes: int, limit: int = 1000) -> Points:
    """Some pixels of every class but the background, spread evenly over all of its pixels.

    The array is read once, piece by piece, so that a map of a large file takes little memory. Nothing is drawn:
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
    flat = labels.reshape(-1)
    counts = _line_counts(flat, num_classes)
    found: list[Points] = []
    for label in range(1, num_classes):
        ends = np.cumsum(counts[label])
        ranks = _even_ranks(int(ends[-1]), limit)
        lines = np.searchsorted(ends, ranks, side="right")
        within = (ranks - (ends - counts[label])[lines]).tolist()
        starts = (lines * LINE_PIXELS).tolist()
        places = [
            start + np.flatnonzero(flat[start : start + LINE_PIXELS] == label)[rank]
            for start, rank in zip(starts, within, strict=True)
        ]
        found.append(_rows(label, np.array(places, np.int64), labels.shape))
    return np.concatenate(found) if found else np.zeros((0, 1 + labels.ndim), np.int32)


def _line_counts(flat: Labels, num_classes: int) -> NDArray[np.int64]:
    """How often each class occurs in every `LINE_PIXELS` pixels, `(num_classes, lines)`; the last may be shorter.

    Where pixels are compared with a class, 8 bytes of 0 and 1 are added as one number, which cannot overflow in a line.
    """
    num_lines = flat.size // LINE_PIXELS
    counts = np.zeros((num_classes, num_lines + 1), np.int64)
    step = max(1, CHUNK_PIXELS // LINE_PIXELS)
    for first in range(0, num_lines, step):
        last = min(first + step, num_lines)
        part = np.asarray(flat[first * LINE_PIXELS : last * LINE_PIXELS])
        for label in range(1, num_classes):
            sums = np.add.reduce((part == label).view(np.uint64).reshape(last - first, -1), axis=1)
            counts[label, first:last] = sums.view(np.uint8).reshape(-1, 8).sum(axis=1)
    rest = flat[num_lines * LINE_PIXELS :]
    counts[:, num_lines] = [np.count_nonzero(rest == label) for label in range(num_classes)]
    return counts


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


def _even_ranks(total: int, limit: int) -> NDArray[np.int64]:
    """At most `limit` of the numbers below `total`, ascending, in the middles of equal parts."""
    num_ranks = min(total, limit)
    return (2 * np.arange(num_ranks, dtype=np.int64) + 1) * total // max(2 * num_ranks, 1)


def _rows(label: int, places: NDArray[np.int64], shape: tuple[int, ...]) -> Points:
    indices = np.unravel_index(places, shape)
    return np.stack([np.full(len(places), label), *indices], axis=1).astype(np.int32)
