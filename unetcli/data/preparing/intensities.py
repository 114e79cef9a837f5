"""Statistics of large volumes in one pass, and those of many volumes put together without reading them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unetcli.core.normalization import PERCENTILES, ChannelStatistics
from unetcli.data.manifest import IntensityStats

PERCENTS = (0.5, 1.0, 50.0, 99.0, 99.5)
CHUNK = 1 << 22
"""Pixels of a piece; less than 2^24, to which float32 counts exactly."""
SAMPLE = 10_000_000
SKETCH = 1025


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """How often each intensity occurs.

    Exact for integers of 8 and 16 bits. Others are known by `SKETCH` quantiles that stand for equally many pixels, of
    all pixels if they are fewer than `SAMPLE`, else of one pixel in an odd number of them; minimum, maximum, mean
    and deviation are exact even so.

    Args:
        values: `(n,)` float64, ascending.
        counts: `(n,)` int64 pixels of each value.
        mean: Of all pixels.
        std: Of all pixels.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean: float
    std: float

    @property
    def num_pixels(self) -> int:
        """How many pixels it is of."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """The intensity below which `percent` of the pixels lie, interpolated as `numpy.percentile` does."""
        ends = np.cumsum(self.counts)
        rank = percent / 100 * (int(ends[-1]) - 1)
        below, above = self.values[np.searchsorted(ends, [np.floor(rank), np.ceil(rank)], side="right")]
        return float(below + (above - below) * (rank - np.floor(rank)))

    @property
    def statistics(self) -> ChannelStatistics:
        """What the manifest keeps of a channel."""
        low, high = map(self.percentile, PERCENTILES)
        return ChannelStatistics(float(self.values[0]), float(self.values[-1]), self.mean, self.std, low, high)


def count_values(array: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values that occur in an array of 8- or 16-bit integers, ascending, and how often.

    Counted by OpenCV, which needs a third of the time of `numpy.bincount`, in pieces so small that its float32
    counts are exact. Bytes are counted in pairs, which is twice as fast again.
    """
    flat = array.reshape(-1)
    num_values = 256**array.itemsize
    if array.itemsize == 1:
        pairs = _count_16_bit(flat[: flat.size // 2 * 2].view(np.uint16)).reshape(256, 256)
        counts = pairs.sum(0) + pairs.sum(1) + np.bincount(flat[flat.size // 2 * 2 :].view(np.uint8), minlength=256)
    else:
        counts = _count_16_bit(flat.view(np.uint16))
    first = 0
    if array.dtype.kind == "i":  # negative numbers are the upper half of the unsigned ones
        counts, first = np.roll(counts, num_values // 2), -num_values // 2
    present = np.flatnonzero(counts)
    return present + first, counts[present]


def _count_16_bit(flat: NDArray[np.uint16]) -> NDArray[np.int64]:
    counts = np.zeros(1 << 16, np.int64)
    for piece in _pieces(flat):
        counts += cv2.calcHist([piece[np.newaxis]], [0], None, [1 << 16], [0, 1 << 16])[:, 0].astype(np.int64)
    return counts


def distribution_of(channel: NDArray[Any]) -> Distribution:
    """The distribution of an array of integers or floats.

    Raises:
        ValueError: If it has values that are not finite; says how many.
    """
    if channel.dtype.kind in "iu" and channel.itemsize <= 2:
        values, counts = count_values(channel)
        mean = float((values * counts).sum()) / channel.size
        std = float(np.sqrt((counts * (values - mean) ** 2).sum() / channel.size))
        return Distribution(values.astype(np.float64), counts, mean, std)
    flat = channel.reshape(-1)
    num_infinite = sum(int(np.count_nonzero(~np.isfinite(piece))) for piece in _pieces(flat))
    if num_infinite:
        raise ValueError(f"{num_infinite} of {flat.size} intensities are NaN or infinite")
    mean = sum(float(piece.sum(dtype=np.float64)) for piece in _pieces(flat)) / flat.size
    squares = sum(float(np.square(piece.astype(np.float64) - mean).sum()) for piece in _pieces(flat))
    values, counts = _sketch(flat)
    return Distribution(values, counts, mean, float(np.sqrt(squares / flat.size)))


def _sketch(flat: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    step = -(-flat.size // SAMPLE) | 1  # odd, so as not to fall in step with rows of even length
    ranked = np.sort(flat[::step]).astype(np.float64)
    if step > 1:
        ranked[0], ranked[-1] = flat.min(), flat.max()
    num = min(SKETCH, ranked.size)
    values = ranked[np.linspace(0, ranked.size - 1, num).round().astype(np.int64)]
    counts = np.diff(np.linspace(0, flat.size, num + 1).round().astype(np.int64))
    return values, counts


def _pieces(flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def merge_distributions(parts: Sequence[Distribution]) -> Distribution:
    """The distribution of the pixels of all parts together."""
    values, inverse = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, inverse, np.concatenate([part.counts for part in parts]))
    sizes = [part.num_pixels for part in parts]
    total = sum(sizes)
    mean = sum(size * part.mean for size, part in zip(sizes, parts, strict=True)) / total
    squares = sum(size * (part.std**2 + (part.mean - mean) ** 2) for size, part in zip(sizes, parts, strict=True))
    return Distribution(values, counts, mean, float(np.sqrt(squares / total)))


def intensity_record(distribution: Distribution, dtype: str) -> IntensityStats:
    """A distribution as the manifest keeps it."""
    return IntensityStats(
        dtype=dtype,
        minimum=float(distribution.values[0]),
        maximum=float(distribution.values[-1]),
        mean=distribution.mean,
        std=distribution.std,
        percentiles={percent: distribution.percentile(percent) for percent in PERCENTS},
    )
