"""Intensities as the network sees them: one linear map a channel, clipped or not.

Every method is a pointwise map, so its few numbers are found once for an image and applied to any part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

Method = Literal["range", "zscore", "percentile"]
PERCENTILES = (1.0, 99.0)
CHUNK_PIXELS = 1 << 17
"""Pixels that are mapped at a time, so that they stay in the cache from one operation to the next."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """What 'percentile' and 'zscore' need to know of a channel.

    Attributes:
        minimum: Least intensity.
        maximum: Largest intensity.
        mean: Their mean.
        std: Their standard deviation.
        low: The percentile `PERCENTILES[0]`.
        high: The percentile `PERCENTILES[1]`.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """The map `(value - center) * factor` of each channel.

    Args:
        center: `(C,)` float64 intensities that become 0.
        factor: `(C,)` float64; 0 for a constant channel.
        limits: What the result is clipped to; None where it is not.
    """

    center: NDArray[np.float64]
    factor: NDArray[np.float64]
    limits: tuple[float, float] | None

    def __call__(self, image: NDArray[Any], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Map an image, or any part of it.

        Args:
            image: `(C, *S)` of any real type.
            out: Where the result goes; a new array if None.

        Returns:
            `(C, *S)` float32.

        Raises:
            ValueError: If `image` has other channels than the map.
        """
        return self.along(image, 0, out)

    def along(self, image: NDArray[Any], axis: int, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The same where the channels lie along another axis, such as 1 in a batch `(N, C, *S)`."""
        if image.shape[axis] != len(self.center):
            raise ValueError(f"normalisation of {len(self.center)} channels, but the image has shape {image.shape}")
        # float32 holds every value of 16 bits, but not the small differences of large 32-bit values
        dtype = np.float32 if image.dtype.itemsize <= 2 else np.float64
        shape = (-1, *[1] * (image.ndim - 1 - axis))
        center, factor = (values.astype(dtype).reshape(shape) for values in (self.center, self.factor))
        result = np.empty(image.shape, np.float32) if out is None else out
        length = image.shape[axis + 1]
        step = max(1, CHUNK_PIXELS * length // max(image.size, 1))
        for first in range(0, length, step):
            place = (*[slice(None)] * (axis + 1), slice(first, first + step))
            part = result[place] if dtype == np.float32 else np.empty(image[place].shape, dtype)
            part[...] = image[place]
            part -= center
            part *= factor
            if self.limits is not None:
                np.clip(part, *self.limits, out=part)
            if dtype != np.float32:
                result[place] = part
        return result


def dtype_range(dtype: DTypeLike) -> tuple[float, float]:
    """The least and largest value of an integer type, such as 0 and 255 for uint8.

    Raises:
        ValueError: For floating point, whose values have no natural range.
    """
    kind: np.dtype[Any] = np.dtype(dtype)
    if kind.kind == "b":
        return 0.0, 1.0
    if kind.kind not in "iu":
        raise ValueError(f"images of type {kind} have no natural range; give lower and upper")
    limits = np.iinfo(kind.name)
    return float(limits.min), float(limits.max)


def measure_channels(image: NDArray[Any]) -> tuple[ChannelStatistics, ...]:
    """Statistics of each channel of an image `(C, *S)`.

    Raises:
        ValueError: For an empty image, or intensities that are not finite.
        TypeError: If the image is not of real numbers.
    """
    _check_image(image)
    channels = image.reshape(image.shape[0], -1)
    if image.dtype.kind == "f" and not np.isfinite(channels).all():
        raise ValueError("the image has intensities that are not finite")
    values = channels.astype(np.float64) if channels.dtype.kind == "b" else channels
    low, high = np.percentile(values, PERCENTILES, axis=1).astype(np.float64)
    return tuple(
        ChannelStatistics(
            minimum=float(channel.min()),
            maximum=float(channel.max()),
            mean=float(channel.mean(dtype=np.float64)),
            std=float(channel.std(dtype=np.float64)),
            low=float(low[index]),
            high=float(high[index]),
        )
        for index, channel in enumerate(channels)
    )


def fit_normalization(
    image: NDArray[Any],
    method: Method,
    lower: float | None = None,
    upper: float | None = None,
    *,
    output_range: tuple[float, float] = (-1.0, 1.0),
    statistics: Sequence[ChannelStatistics] | None = None,
) -> Normalization:
    """Find the map that normalises an image.

    - 'range' maps `lower`..`upper` to `output_range` and clips.
    - 'percentile' maps each channel's own 1 % and 99 % to `output_range` and clips. Where the two are equal, as in
      an image that is nearly all background, the channel's least and largest values stand in.
    - 'zscore' subtracts each channel's mean and divides by its standard deviation; not clipped.

    A channel of one value becomes 0 under 'percentile' and 'zscore'.

    Args:
        image: `(C, *S)` of any real type; its values are read only where `statistics` are needed and not given.
        method: How to normalise.
        lower: Intensity where the output begins; only for 'range'.
        upper: Intensity where it ends; only for 'range'.
        output_range: What the two are mapped to.
        statistics: Of the image, as `measure_channels` finds them.

    Raises:
        ValueError: For an unknown method, an empty image, 'range' without ascending finite bounds, or
            intensities that are not finite where the image's own are needed.
        TypeError: If the image is not of real numbers.
    """
    _check_image(image)
    if method == "range":
        bounds = _checked_bounds(lower, upper)
        return _from_bounds(np.full(image.shape[0], bounds[0]), np.full(image.shape[0], bounds[1]), output_range)
    if method not in get_args(Method):
        raise ValueError(f"normalisation must be one of {', '.join(get_args(Method))}, not {method!r}")
    channels = measure_channels(image) if statistics is None else statistics
    return _from_moments(channels) if method == "zscore" else _from_percentiles(channels, output_range)


def is_off_range(image: NDArray[Any], lower: float, upper: float) -> bool:
    """Whether an image's intensities are on another scale than `lower`..`upper`, so that 'range' would ruin it.

    Either the middle 99 % of its pixels span less than 5 % of the range, though they differ, or more than half of
    its pixels lie outside.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    outside = np.count_nonzero((image < lower) | (image > upper)) / image.size
    return bool(0 < high - low < 0.05 * (upper - lower) or outside > 0.5)


def _check_image(image: NDArray[Any]) -> None:
    if image.dtype.kind not in "biuf":
        raise TypeError(f"an image must be of real numbers, not {image.dtype}")
    if image.ndim < 2 or image.size == 0:
        raise ValueError(f"an image must have the shape (C, *S) and pixels, not {image.shape}")


def _checked_bounds(lower: float | None, upper: float | None) -> tuple[float, float]:
    if lower is None or upper is None:
        raise ValueError(f"normalisation 'range' needs lower and upper, got {lower} and {upper}")
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(f"lower must be less than upper and both finite, got {lower} and {upper}")
    return lower, upper


def _from_bounds(
    low: NDArray[np.float64], high: NDArray[np.float64], output_range: tuple[float, float]
) -> Normalization:
    """Map `low`..`high` of each channel to the output range; a channel without extent becomes 0."""
    begin, end = output_range
    is_flat = high <= low
    factor = _inverse((high / 2 - low / 2) / ((end - begin) / 2), is_flat)
    middle = low / 2 + high / 2
    center = middle - (begin + end) / 2 * np.where(is_flat, 0.0, 1 / np.where(is_flat, 1.0, factor))
    return Normalization(center, factor, output_range)


def _from_percentiles(channels: Sequence[ChannelStatistics], output_range: tuple[float, float]) -> Normalization:
    low, high = (np.array([getattr(channel, name) for channel in channels]) for name in ("low", "high"))
    is_flat = high <= low
    low = np.where(is_flat, [channel.minimum for channel in channels], low)
    high = np.where(is_flat, [channel.maximum for channel in channels], high)
    return _from_bounds(low, high, output_range)


def _from_moments(channels: Sequence[ChannelStatistics]) -> Normalization:
    mean, std = (np.array([getattr(channel, name) for channel in channels]) for name in ("mean", "std"))
    # rounding gives constant channels a deviation of about 1e-17, so their extremes are compared instead
    is_constant = np.array([channel.minimum == channel.maximum for channel in channels])
    return Normalization(mean, _inverse(std, is_constant), limits=None)


def _inverse(values: NDArray[np.float64], is_constant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One over each value, and 0 for constant channels."""
    return np.where(is_constant, 0.0, 1 / np.where(is_constant, 1.0, values))
