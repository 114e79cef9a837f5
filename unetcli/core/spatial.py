"""Drawing where training patches come from: flips, turns, scale, shear, shift and elastic deformation.

All parts are composed into one map from patch pixels to image coordinates, along which the image is resampled once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unetcli.core.grids import PatchGrid, Size, place_patch
from unetcli.core.linear_maps import Matrix, flips, in_voxels, magnification, quarter_turn, rotation, shear


@dataclass(frozen=True, slots=True)
class SpatialRanges:
    """How far patches may be moved and deformed. The default only crops.

    Args:
        flip: Mirror each axis with probability 0.5.
        flip_axes: The axes that `flip` mirrors; None for all.
        quarter_turns: Turn the last two axes by a random multiple of 90 degrees, where their pixels are square.
        affine_probability: Share of patches that are turned, scaled, sheared and shifted by the next five.
        rotation: Largest rotation either way, in degrees; about each axis in 3D.
        in_plane: Turn, scale, shear, shift and deform along the last two axes only.
        scale: Least and largest magnification.
        shear: Largest shear either way, in degrees; in 2D of columns along rows.
        shift: Largest shift along an axis, in pixels, on top of the random place of the crop.
        elastic_probability: Share of patches that are deformed smoothly.
        elastic_std: Standard deviation of the coarse displacements, in pixels of the finest axis.
        elastic_grid: Points a side of the coarse displacement grid.
    """

    flip: bool = False
    flip_axes: tuple[int, ...] | None = None
    quarter_turns: bool = False
    affine_probability: float = 0.0
    rotation: float = 0.0
    in_plane: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    shift: float = 0.0
    elastic_probability: float = 0.0
    elastic_std: float = 0.0
    elastic_grid: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for a range that cannot be drawn from."""
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two positive numbers, the lesser first, got {self.scale}")
        if not 0 <= self.shear < 90:
            raise ValueError(f"shear must be in [0, 90) degrees, got {self.shear}")
        if self.elastic_grid < 2:
            raise ValueError(f"elastic_grid must be at least 2, got {self.elastic_grid}")
        if min(self.rotation, self.shift, self.elastic_std) < 0:
            raise ValueError("rotation, shift and elastic_std must not be negative")
        for name in ("affine_probability", "elastic_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class PatchShape:
    """The size of a patch.

    Args:
        size: Pixels along each axis.
        margin: Pixels at each border that have no label.

    Raises:
        ValueError: If the margin leaves no pixel.
    """

    size: Size
    margin: int = 0

    def __post_init__(self) -> None:
        """Check the margin."""
        if self.margin < 0 or 2 * self.margin >= min(self.size):
            raise ValueError(f"a margin of {self.margin} px leaves nothing of a patch of {self.size} px")

    @property
    def label_size(self) -> Size:
        """Pixels along each axis that have a label."""
        return tuple(length - 2 * self.margin for length in self.size)


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """What becomes of the classes when an image is mirrored from side to side.

    Args:
        pairs: The class that each class becomes: itself, or its pair, such as right for left.

    Raises:
        ValueError: If doing it twice does not give every class back.
    """

    pairs: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check the pairs."""
        classes = range(len(self.pairs))
        if any(other not in classes or self.pairs[other] != index for index, other in enumerate(self.pairs)):
            raise ValueError(f"each class must become itself or its pair, got {self.pairs}")

    @property
    def has_pairs(self) -> bool:
        """Whether any class becomes another."""
        return self.pairs != tuple(range(len(self.pairs)))

    def __call__(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels with each class exchanged for its pair; values that are no class, such as ignored pixels, stay."""
        table = np.arange(256, dtype=np.uint8)
        table[: len(self.pairs)] = self.pairs
        return table[labels]


def draw_grid(
    ranges: SpatialRanges,
    patch: PatchShape,
    image_size: Sequence[int],
    rng: np.random.Generator,
    *,
    spacing: Sequence[float] | None = None,
    target: Sequence[int] | None = None,
) -> PatchGrid:
    """Draw where a patch comes from.

    Its place is drawn evenly, such that the area that has labels, before it is turned, scaled or deformed,
    lies inside the image; along an axis on which the image is smaller, such that it covers the whole image.

    Args:
        ranges: What may be done to a patch.
        patch: Its size.
        image_size: Pixels of the image along each axis.
        rng: Where every random number comes from.
        spacing: Size of a pixel along each axis; turned and sheared content keeps its shape in this unit. All
            equal if None.
        target: Index of a pixel that the area with labels must hold, before it is deformed; the places that do are
            equally likely. A turned or scaled patch is moved as little as makes it hold the target, if need be
            beyond the border.
    """
    linear, mirrored = _draw_lattice(ranges, len(image_size), spacing, rng)
    label_area = (np.abs(linear) @ np.array(patch.label_size)).astype(np.int64)
    room = np.array(image_size) - label_area
    low, high = np.minimum(room, 0), np.maximum(room, 0)
    if target is not None:
        low, high = np.maximum(low, np.array(target) - label_area + 1), np.minimum(high, target)
    center = rng.integers(low, high, endpoint=True) + (label_area - 1) / 2
    moved = _moved_axes(ranges, len(image_size))
    if rng.random() < ranges.affine_probability:
        linear = linear @ _draw_affine(ranges, moved, spacing, rng)
        center[moved] += rng.uniform(-ranges.shift, ranges.shift, len(moved))
        if target is not None:
            center += _way_to(np.array(target) - center, linear, patch)
    displacements = None
    if rng.random() < ranges.elastic_probability:
        displacements = _draw_displacements(ranges, moved, spacing, rng)
    return replace(place_patch(patch.size, center, linear, displacements), mirrored=mirrored)


def _draw_lattice(
    ranges: SpatialRanges, ndim: int, spacing: Sequence[float] | None, rng: np.random.Generator
) -> tuple[Matrix, tuple[int, ...]]:
    """Flips and quarter turns, and the axes of the image that are mirrored."""
    is_square = spacing is None or math.isclose(spacing[-2], spacing[-1], rel_tol=0.01)
    turns = int(rng.integers(4)) if ranges.quarter_turns and is_square else 0
    is_flipped = rng.random(ndim) < 0.5 if ranges.flip else np.zeros(ndim, bool)
    allowed = range(ndim) if ranges.flip_axes is None else ranges.flip_axes
    flipped = [bool(is_flipped[axis]) and axis in allowed for axis in range(ndim)]
    turned = quarter_turn(turns, ndim)
    images = np.abs(turned).argmax(axis=0)  # the axis of the image along which each axis of the patch lies
    return turned @ flips(flipped), tuple(sorted(int(images[axis]) for axis in range(ndim) if flipped[axis]))


def _draw_affine(
    ranges: SpatialRanges, moved: Sequence[int], spacing: Sequence[float] | None, rng: np.random.Generator
) -> Matrix:
    """Rotation, shear and scale; the scale even in its logarithm, so that a half is as likely as a double."""
    ndim = max(moved) + 1
    planes = list(combinations(moved, 2))[::-1]
    linear = np.eye(ndim)
    for plane in planes:
        linear = linear @ rotation(rng.uniform(-ranges.rotation, ranges.rotation), plane, ndim)
    for plane in planes:
        linear = linear @ shear(rng.uniform(-ranges.shear, ranges.shear), plane, ndim)
    low, high = (math.log(factor) for factor in ranges.scale)
    factors = np.ones(ndim)
    factors[list(moved)] = math.exp(rng.uniform(low, high))
    linear = linear @ magnification(factors)
    return linear if spacing is None else in_voxels(linear, spacing)


def _draw_displacements(
    ranges: SpatialRanges, moved: Sequence[int], spacing: Sequence[float] | None, rng: np.random.Generator
) -> Matrix:
    """`(ndim, *G)` in pixels of each axis, equally far along all axes that are moved."""
    ndim = max(moved) + 1
    displacements = np.zeros((ndim, *(ranges.elastic_grid,) * ndim))
    displacements[list(moved)] = rng.normal(0, ranges.elastic_std, (len(moved), *displacements.shape[1:]))
    if spacing is not None:
        finest = min(spacing[axis] for axis in moved)
        displacements *= (finest / np.array(spacing)).reshape(-1, *(1,) * ndim)
    return displacements


def _moved_axes(ranges: SpatialRanges, ndim: int) -> list[int]:
    return [ndim - 2, ndim - 1] if ranges.in_plane else list(range(ndim))


def _way_to(offset: Matrix, linear: Matrix, patch: PatchShape) -> Matrix:
    """How far to move a patch so that an offset from its centre comes into the area with labels."""
    place = np.linalg.solve(linear, offset)
    reach = (np.array(patch.label_size) - 1) / 2
    return linear @ (place - np.clip(place, -reach, reach))
