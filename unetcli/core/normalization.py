"""Intensities as the network sees them: one linear map a channel, clipped or not.

Every method is a pointwise map, so its few numbers are found once for an image and applied to any part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

Method = Literal["range", "zscore", "percentile"]
PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """The map `(value - center) * factor` of each channel.

    Args:
        center: `(C,)` float64 intensities that become 0.
        factor: `(C,)` float64; 0 for a constant channel.
        is_clipped: Whether the result is clipped to [-1, 1].
    """

    center: NDArray[np.float64]
    factor: NDArray[np.float64]
    is_clipped: bool

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Map an image, or any part of it.

        Args:
            image: `(C, *S)` of any real type.

        Returns:
            `(C, *S)` float32, a new array.

        Raises:
            ValueError: If `image` has other channels than the map.
        """
        if image.shape[0] != len(self.center):
            raise ValueError(f"normalisation of {len(self.center)} channels, but the image has shape {image.shape}")
        # float32 holds every value of 16 bits, but not the small differences of large 32-bit values
        dtype = np.float32 if image.dtype.itemsize <= 2 else np.float64
        shape = (-1, *[1] * (image.ndim - 1))
        result = image.astype(dtype)
        result -= self.center.astype(dtype).reshape(shape)
        result *= self.factor.astype(dtype).reshape(shape)
        if self.is_clipped:
            np.clip(result, -1, 1, out=result)
        return result.astype(np.float32, copy=False)


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


def fit_normalization(
    image: NDArray[Any], method: Method, lower: float | None = None, upper: float | None = None
) -> Normalization:
    """Find the map that normalises an image.

    - 'range' maps `lower`..`upper` to -1..1 and clips.
    - 'percentile' maps each channel's own 1 % and 99 % to -1..1 and clips. Where the two are equal, as in an
      image that is nearly all background, the channel's least and largest values stand in.
    - 'zscore' subtracts each channel's mean and divides by its standard deviation; not clipped.

    A channel of one value becomes 0 under 'percentile' and 'zscore'.

    Args:
        image: `(C, *S)` of any real type.
        method: How to normalise.
        lower: Intensity that becomes -1; only for 'range'.
        upper: Intensity that becomes 1; only for 'range'.

    Raises:
        ValueError: For an unknown method, an empty image, 'range' without ascending finite bounds, or
            intensities that are not finite where the image's own are needed.
        TypeError: If the image is not of real numbers.
    """
    if image.dtype.kind not in "biuf":
        raise TypeError(f"an image must be of real numbers, not {image.dtype}")
    if image.ndim < 2 or image.size == 0:
        raise ValueError(f"an image must have the shape (C, *S) and pixels, not {image.shape}")
    match method:
        case "range":
            return _from_bounds(*_checked_bounds(lower, upper), num_channels=image.shape[0])
        case "percentile":
            return _from_percentiles(_finite_channels(image))
        case "zscore":
            return _from_moments(_finite_channels(image))
        case _:
            raise ValueError(f"normalisation must be one of {', '.join(get_args(Method))}, not {method!r}")


def is_off_range(image: NDArray[Any], lower: float, upper: float) -> bool:
    """Whether an image's intensities are on another scale than `lower`..`upper`, so that 'range' would ruin it.

    Either the middle 99 % of its pixels span less than 5 % of the range, though they differ, or more than half of
    its pixels lie outside.
    """
    low, high = np.percentile(image, (0.5, 99.5))
    outside = np.count_nonzero((image < lower) | (image > upper)) / image.size
    return bool(0 < high - low < 0.05 * (upper - lower) or outside > 0.5)


def normalize(
    image: NDArray[Any], method: Method, lower: float | None = None, upper: float | None = None
) -> NDArray[np.float32]:
    """Normalise a whole image; see `fit_normalization` for the methods, arguments and errors.

    Returns:
        `(C, *S)` float32.
    """
    return fit_normalization(image, method, lower, upper)(image)


def _checked_bounds(lower: float | None, upper: float | None) -> tuple[float, float]:
    if lower is None or upper is None:
        raise ValueError(f"normalisation 'range' needs lower and upper, got {lower} and {upper}")
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(f"lower must be less than upper and both finite, got {lower} and {upper}")
    return lower, upper


def _finite_channels(image: NDArray[Any]) -> NDArray[Any]:
    """The image as `(C, pixels)`."""
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("the image has intensities that are not finite")
    return image.reshape(image.shape[0], -1)


def _from_bounds(lower: float, upper: float, num_channels: int) -> Normalization:
    center = np.full(num_channels, lower / 2 + upper / 2)
    return Normalization(center, np.full(num_channels, 1 / (upper / 2 - lower / 2)), is_clipped=True)


def _from_percentiles(channels: NDArray[Any]) -> Normalization:
    values = channels.astype(np.float64) if channels.dtype.kind == "b" else channels
    low, high = np.percentile(values, PERCENTILES, axis=1).astype(np.float64)
    is_flat = high <= low
    low = np.where(is_flat, channels.min(axis=1), low)
    high = np.where(is_flat, channels.max(axis=1), high)
    return Normalization((low + high) / 2, _inverse((high - low) / 2, high <= low), is_clipped=True)


def _from_moments(channels: NDArray[Any]) -> Normalization:
    mean = channels.mean(axis=1, dtype=np.float64)
    deviation = channels.std(axis=1, dtype=np.float64)
    # rounding gives constant channels a deviation of about 1e-17, so their extremes are compared instead
    return Normalization(mean, _inverse(deviation, channels.min(axis=1) == channels.max(axis=1)), is_clipped=False)


def _inverse(values: NDArray[np.float64], is_constant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One over each value, and 0 for constant channels."""
    return np.where(is_constant, 0.0, 1 / np.where(is_constant, 1.0, values))
