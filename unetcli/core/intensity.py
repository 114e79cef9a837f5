"""Varying the intensities of training patches: brightness, contrast, gamma and noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Patch = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class IntensityRanges:
    """How far intensities may vary. The default leaves them as they are.

    Args:
        probability: Share of patches for each of the four parts, drawn apart.
        brightness: Largest amount added or taken away.
        contrast: Least and largest factor about a channel's mean.
        gamma: Least and largest exponent over a channel's range.
        noise: Largest standard deviation of Gaussian noise.
        limits: Values that the result is clipped to, or None. Where normalisation clips, the network never
            sees values beyond its limits at prediction, so patches are clipped alike; z-scores are not.
    """

    probability: float = 0.0
    brightness: float = 0.0
    contrast: tuple[float, float] = (1.0, 1.0)
    gamma: tuple[float, float] = (1.0, 1.0)
    noise: float = 0.0
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a range that cannot be drawn from."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")
        for name, (low, high) in (("contrast", self.contrast), ("gamma", self.gamma)):
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the lesser first, got {low} and {high}")
        if self.brightness < 0 or self.noise < 0:
            raise ValueError(f"brightness and noise must not be negative, got {self.brightness} and {self.noise}")


def vary_intensity(patch: Patch, ranges: IntensityRanges, rng: np.random.Generator) -> Patch:
    """Vary a patch at random: brightness, contrast, gamma, noise, in this order, then clip.

    Amounts are the same for all channels. Factors and exponents are drawn evenly in their logarithm, so
    that a half is as likely as a double; the amount of brightness and the deviation of noise evenly.

    Args:
        patch: `(C, *S)` float32; left as it is.
        ranges: How far to go.
        rng: Where every random number comes from.

    Returns:
        `(C, *S)` float32, which is `patch` itself where nothing was drawn.
    """
    is_varied = rng.random(4) < ranges.probability
    if not is_varied.any():
        return patch
    if is_varied[0]:
        patch = add_brightness(patch, rng.uniform(-ranges.brightness, ranges.brightness))
    if is_varied[1]:
        patch = scale_contrast(patch, draw_factor(ranges.contrast, rng))
    if is_varied[2]:
        patch = apply_gamma(patch, draw_factor(ranges.gamma, rng))
    if is_varied[3]:
        patch = add_noise(patch, rng.uniform(0, ranges.noise), rng)
    return patch if ranges.limits is None else np.clip(patch, *ranges.limits)


def draw_factor(interval: tuple[float, float], rng: np.random.Generator) -> float:
    """A positive factor from `interval`, evenly distributed in its logarithm."""
    low, high = interval
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def add_brightness(patch: Patch, amount: float) -> Patch:
    """Add `amount` to every value of a `(C, *S)` patch."""
    return patch + np.float32(amount)


def scale_contrast(patch: Patch, factor: float) -> Patch:
    """Multiply the distance of every value from its channel's mean; `(C, *S)` in and out."""
    mean = patch.mean(axis=tuple(range(1, patch.ndim)), keepdims=True)
    return (patch - mean) * np.float32(factor) + mean


def apply_gamma(patch: Patch, exponent: float) -> Patch:
    """Raise values to a power over their channel's own range, whose ends stay; `(C, *S)` in and out.

    With low and high the least and largest value of a channel: `low + (high - low) * x ** exponent`, where
    `x = (value - low) / (high - low)`. A channel of one value stays as it is.
    """
    axes = tuple(range(1, patch.ndim))
    low = patch.min(axis=axes, keepdims=True)
    extent = patch.max(axis=axes, keepdims=True) - low
    shares = (patch - low) / np.where(extent > 0, extent, np.float32(1))
    return low + extent * shares ** np.float32(exponent)


def add_noise(patch: Patch, std: float, rng: np.random.Generator) -> Patch:
    """Add Gaussian noise of standard deviation `std`, drawn for every value of a `(C, *S)` patch."""
    return patch + rng.standard_normal(patch.shape, dtype=np.float32) * np.float32(std)
