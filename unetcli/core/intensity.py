"""Varying the intensities of training patches: stray light, brightness, contrast, gamma and noise."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Patch = NDArray[np.float32]

LIGHTS = 3
"""Values along each axis that a field of stray light goes through."""


@dataclass(frozen=True, slots=True)
class IntensityRanges:
    """How far intensities may vary. The default leaves them as they are.

    Args:
        probability: Share of patches for each of the parts, drawn apart.
        brightness: Largest amount added or taken away.
        contrast: Least and largest factor about a channel's mean.
        gamma: Least and largest exponent over a channel's range.
        noise: Largest standard deviation of Gaussian noise.
        stray_light: Largest amount that light from out of focus adds somewhere; it changes smoothly over a patch.
        limits: Values that the result is clipped to, or None. Where normalisation clips, the network never
            sees values beyond its limits at prediction, so patches are clipped alike; z-scores are not.
    """

    probability: float = 0.0
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    gamma: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    stray_light: float = 0.0
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a range that cannot be drawn from."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")
        for name, (low, high) in (("contrast", self.contrast), ("gamma", self.gamma)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the lesser first, got {low} and {high}")
        for name in ("brightness", "noise", "stray_light"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def vary_intensity(patch: Patch, ranges: IntensityRanges, rng: np.random.Generator, *, in_place: bool = False) -> Patch:
    """Vary a patch at random: stray light, brightness, contrast, gamma, noise, in this order, then clip.

    Amounts are the same for all channels. Factors and exponents are drawn evenly in their logarithm, so
    that a half is as likely as a double; the amount of brightness and the deviation of noise evenly.

    Args:
        patch: `(C, *S)` float32; left as it is, unless `in_place`.
        ranges: How far to go.
        rng: Where every random number comes from.
        in_place: Overwrite the patch with the result.

    Returns:
        `(C, *S)` float32, which is `patch` itself where nothing was drawn.
    """
    is_varied = rng.random(4) < ranges.probability
    has_light = ranges.stray_light > 0 and rng.random() < ranges.probability
    if not (has_light or is_varied.any()):
        return patch
    varied = patch if in_place else np.empty_like(patch)
    if has_light:
        patch = add_light(patch, rng.uniform(0, ranges.stray_light), rng, out=varied)
    if is_varied[0]:
        patch = add_brightness(patch, rng.uniform(-ranges.brightness, ranges.brightness), out=varied)
    if is_varied[1]:
        patch = scale_contrast(patch, draw_factor(ranges.contrast, rng), out=varied)
    if is_varied[2]:
        patch = apply_gamma(patch, draw_factor(ranges.gamma, rng), out=varied)
    if is_varied[3]:
        patch = add_noise(patch, rng.uniform(0, ranges.noise), rng, out=varied)
    return patch if ranges.limits is None else np.clip(patch, *ranges.limits, out=patch)


def draw_factor(interval: tuple[float, float], rng: np.random.Generator) -> float:
    """A positive factor from `interval`, evenly distributed in its logarithm."""
    low, high = interval
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def add_light(patch: Patch, amount: float, rng: np.random.Generator, out: Patch | None = None) -> Patch:
    """Add from 0 to `amount`, changing smoothly, to a `(C, *S)` patch; into `out` if given.

    The field goes linearly between values at the ends and the middle of each axis, drawn evenly, and is the same for
    all channels.
    """
    field = rng.uniform(0, amount, (LIGHTS,) * (patch.ndim - 1)).astype(np.float32)
    for axis, length in enumerate(patch.shape[1:]):
        places = np.linspace(0, LIGHTS - 1, length, dtype=np.float32)
        shares = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(LIGHTS, dtype=np.float32)))
        field = np.moveaxis(np.tensordot(shares, field, (1, axis)), 0, axis)
    return np.add(patch, field, out=out)


def add_brightness(patch: Patch, amount: float, out: Patch | None = None) -> Patch:
    """Add `amount` to every value of a `(C, *S)` patch; into `out`, which may be the patch itself, if given."""
    return np.add(patch, np.float32(amount), out=out)


def scale_contrast(patch: Patch, factor: float, out: Patch | None = None) -> Patch:
    """Multiply the distance of every value from its channel's mean; `(C, *S)` in and out, into `out` if given."""
    mean = patch.mean(axis=tuple(range(1, patch.ndim)), keepdims=True)
    result = np.subtract(patch, mean, out=out)
    result *= np.float32(factor)
    result += mean
    return result


def apply_gamma(patch: Patch, exponent: float, out: Patch | None = None) -> Patch:
    """Raise values to a power over their channel's own range, whose ends stay; `(C, *S)` in and out, or into `out`.

    With low and high the least and largest value of a channel: `low + (high - low) * x ** exponent`, where
    `x = (value - low) / (high - low)`. A channel of one value stays as it is.
    """
    axes = tuple(range(1, patch.ndim))
    low = patch.min(axis=axes, keepdims=True)
    extent = patch.max(axis=axes, keepdims=True) - low
    result = np.subtract(patch, low, out=out)
    result /= np.where(extent > 0, extent, np.float32(1))
    np.power(result, np.float32(exponent), out=result)
    result *= extent
    result += low
    return result


def add_noise(patch: Patch, std: float, rng: np.random.Generator, out: Patch | None = None) -> Patch:
    """Add Gaussian noise of standard deviation `std`, drawn for every value of a `(C, *S)` patch; into `out` if given.

    It is one of 65536 amounts, equally likely, so that 16 random bits choose it and none is beyond 4.4 deviations.
    This takes a quarter of the time of drawing from the continuous distribution.
    """
    chosen = np.frombuffer(rng.bytes(2 * patch.size), "<u2").reshape(patch.shape)
    return np.add(patch, np.take(_normal_values() * np.float32(std), chosen), out=out)


@functools.cache
def _normal_values() -> NDArray[np.float32]:
    """65536 values that divide the standard normal distribution into equal parts: the middle of each."""
    values = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
    values.setflags(write=False)
    return values
