"""Cutting training patches out of larger images: flips, turns, scale, shear, shift and elastic deformation.

All parts are composed into one map from patch pixels to image coordinates, and the image is resampled once
along it. What lies beyond the image is its mirror image, so that a turned patch has no empty corners. A map
that only flips, turns by quarters or crops moves whole pixels, and then nothing is resampled at all.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SpatialRanges:
    """How far patches may be moved and deformed. The default only crops.

    Args:
        flip: Mirror each axis with probability 0.5.
        quarter_turns: Turn by a random multiple of 90 degrees.
        affine_probability: Share of patches that are turned, scaled, sheared and shifted by the next four.
        rotation: Largest rotation either way, in degrees.
        scale: Least and largest magnification.
        shear: Largest shear of columns along rows either way, in degrees.
        shift: Largest shift along an axis, in pixels, on top of the random place of the crop.
        elastic_probability: Share of patches that are deformed smoothly.
        elastic_std: Standard deviation of the coarse displacements, in pixels.
        elastic_grid: Points a side of the coarse displacement grid.
    """

    flip: bool = False
    quarter_turns: bool = False
    affine_probability: float = 0.0
    rotation: float = 0.0
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


@dataclass(frozen=True, slots=True, eq=False)
class PatchGrid:
    """Where every pixel of a patch lies in its image, and the region of the image that this takes.

    The region is cut by `mirrored_crop(image, grid.start, grid.size)`; it is all that need be read.

    Args:
        start: First row and column of the region; may lie outside of the image.
        size: Rows and columns of the region.
        turn: `(2, 2)` of 0, 1 and -1: the step in the region for a step along each axis of the patch. Used
            where `coordinates` is None and every patch pixel is a region pixel.
        coordinates: `(2, H, W)` float32 row and column in the region of every patch pixel.
    """

    start: Size
    size: Size
    turn: Matrix
    coordinates: NDArray[np.float32] | None

    def sample_image(self, region: NDArray[np.float32]) -> NDArray[np.float32]:
        """The patch of an image, bilinear between pixels.

        Bilinear, so that no value leaves the range of its neighbours.

        Args:
            region: `(C, *size)` float32.

        Returns:
            `(C, H, W)` float32, contiguous; it may share memory with `region`.
        """
        self._check(region)
        if self.coordinates is None:
            return np.ascontiguousarray(self._turned(region))
        rows, columns = self.coordinates
        patch = np.empty((region.shape[0], *rows.shape), np.float32)
        for channel, target in zip(region, patch, strict=True):
            cv2.remap(channel, columns, rows, cv2.INTER_LINEAR, dst=target, borderMode=cv2.BORDER_REFLECT_101)
        return patch

    def sample_labels(self, region: NDArray[np.uint8], margin: int = 0) -> NDArray[np.uint8]:
        """The labels of the patch but for `margin` pixels at each border, each of the nearest pixel.

        Args:
            region: `size` uint8.
            margin: Pixels of the patch at each border that have no label.

        Returns:
            `(H - 2 * margin, W - 2 * margin)` uint8, contiguous; it may share memory with `region`.
        """
        self._check(region)
        if region.dtype != np.uint8:
            raise TypeError(f"labels must be uint8, not {region.dtype}")
        if self.coordinates is None:
            turned = self._turned(region)
            return np.ascontiguousarray(turned[margin : turned.shape[0] - margin, margin : turned.shape[1] - margin])
        _, height, width = self.coordinates.shape
        rows, columns = self.coordinates[:, margin : height - margin, margin : width - margin]
        labels = np.empty(rows.shape, np.uint8)
        cv2.remap(region, columns, rows, cv2.INTER_NEAREST, dst=labels, borderMode=cv2.BORDER_REFLECT_101)
        return labels

    def _check(self, region: NDArray[Any]) -> None:
        if region.shape[-2:] != self.size:
            raise ValueError(f"the region must be {self.size} px, not {region.shape[-2:]}")

    def _turned(self, region: NDArray[Any]) -> NDArray[Any]:
        if self.turn[0, 0] == 0:
            region = region.swapaxes(-2, -1)
        row_step, column_step = self.turn.sum(axis=0)
        return region[..., :: int(row_step), :: int(column_step)]


def draw_grid(
    ranges: SpatialRanges, image_size: Size, patch_size: Size, margin: int, rng: np.random.Generator
) -> PatchGrid:
    """Draw where a patch comes from.

    Its place is drawn evenly, such that the area that has labels, before it is turned, scaled or deformed,
    lies inside the image; along an axis on which the image is smaller, such that it covers the whole image.

    Args:
        ranges: What may be done to a patch.
        image_size: Rows and columns of the image.
        patch_size: Rows and columns of the patch.
        margin: Pixels of the patch at each border that have no label.
        rng: Where every random number comes from.

    Raises:
        ValueError: If the margin leaves no pixel of the patch.
    """
    if margin < 0 or 2 * margin >= min(patch_size):
        raise ValueError(f"a margin of {margin} px leaves nothing of a patch of {patch_size} px")
    linear = _draw_lattice(ranges, rng)
    label_area = np.abs(linear) @ (np.array(patch_size) - 2 * margin)
    room = np.array(image_size) - label_area.astype(np.int64)
    start = rng.integers(np.minimum(room, 0), np.maximum(room, 0), endpoint=True)
    center = start + (label_area - 1) / 2
    if rng.random() < ranges.affine_probability:
        linear = linear @ _draw_affine(ranges, rng)
        center = center + rng.uniform(-ranges.shift, ranges.shift, 2)
    displacements = None
    if rng.random() < ranges.elastic_probability:
        displacements = rng.normal(0, ranges.elastic_std, (2, ranges.elastic_grid, ranges.elastic_grid))
    return place_patch(patch_size, center, linear, displacements)


def place_patch(patch_size: Size, center: ArrayLike, linear: Matrix, displacements: Matrix | None = None) -> PatchGrid:
    """Lay a patch into an image.

    A patch pixel at offset d from the patch's centre lies at `center + linear @ d`, plus its displacement.

    Args:
        patch_size: Rows and columns of the patch.
        center: Row and column in the image of the patch's centre; that of n pixels is (n - 1) / 2.
        linear: `(2, 2)` map of offsets, such as a product of `rotation`, `shear` and the like.
        displacements: `(2, G, G)` in pixels along rows and columns, on a grid from corner to corner of the patch.
    """
    offset = np.asarray(center) - linear @ ((np.array(patch_size) - 1) / 2)
    if displacements is None and _moves_whole_pixels(linear, offset):
        last = linear @ (np.array(patch_size) - 1)
        first = offset + np.minimum(last, 0)
        return PatchGrid(_as_size(first), _as_size(np.abs(last) + 1), linear, None)
    rows, columns = (np.arange(length, dtype=np.float64) for length in patch_size)
    coordinates = np.empty((2, *patch_size))
    for axis, (row_step, column_step) in enumerate(linear):
        np.add((row_step * rows + offset[axis])[:, None], column_step * columns, out=coordinates[axis])
    if displacements is not None:
        coordinates += upsample_bicubic(displacements, patch_size)
    start = np.floor(coordinates.min(axis=(1, 2)))
    size = np.ceil(coordinates.max(axis=(1, 2))) - start + 1
    coordinates -= start[:, None, None]
    return PatchGrid(_as_size(start), _as_size(size), linear, coordinates.astype(np.float32))


def mirrored_crop(array: NDArray[Any], start: Size, size: Size) -> NDArray[Any]:
    """Cut a region out of an array that is mirrored about its border pixels without end.

    Args:
        array: `(..., H, W)`.
        start: First row and column; may be negative or beyond the array.
        size: Rows and columns of the region.

    Returns:
        `(..., *size)`; a view where the region lies inside of the array.
    """
    inside = all(s >= 0 and s + n <= whole for s, n, whole in zip(start, size, array.shape[-2:], strict=True))
    if inside:
        return array[..., start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
    rows, columns = (_mirrored(s, n, whole) for s, n, whole in zip(start, size, array.shape[-2:], strict=True))
    return array[..., rows, :][..., columns]


def flips(rows: bool, columns: bool) -> Matrix:
    """The `(2, 2)` map of offsets that mirrors the axes asked for."""
    return np.diag([-1.0 if rows else 1.0, -1.0 if columns else 1.0])


def quarter_turn(times: int) -> Matrix:
    """The `(2, 2)` map of offsets of `times` quarter turns in the direction of `numpy.rot90`."""
    return np.linalg.matrix_power(np.array([[0.0, 1.0], [-1.0, 0.0]]), times % 4)


def rotation(degrees: float) -> Matrix:
    """The `(2, 2)` map of offsets that turns content in the direction of `numpy.rot90`."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine], [-sine, cosine]])


def magnification(factor: float) -> Matrix:
    """The `(2, 2)` map of offsets that makes content `factor` times as large."""
    return np.eye(2) / factor


def shear(degrees: float) -> Matrix:
    """The `(2, 2)` map of offsets that leans columns by `degrees`."""
    return np.array([[1.0, 0.0], [math.tan(math.radians(degrees)), 1.0]])


def upsample_bicubic(coarse: Matrix, size: Size) -> Matrix:
    """Interpolate `(..., G, G)` values, laid from corner to corner, at `size` pixels; returns `(..., *size)`.

    Cubic convolution (Keys 1981, a = -0.5) with the border values repeated. Displacements on a coarse grid made
    dense in this way are the elastic deformation of Ronneberger et al. 2015, section 3.1 (arXiv:1505.04597).
    """
    rows, columns = (_cubic_weights(grid, n) for grid, n in zip(coarse.shape[-2:], size, strict=True))
    return rows @ coarse @ columns.T


@functools.lru_cache(maxsize=16)
def _cubic_weights(num_points: int, length: int) -> Matrix:
    """`(length, num_points)` weights of the points for each pixel."""
    places = np.linspace(0, num_points - 1, length)
    first = np.floor(places).astype(np.int64) - 1
    weights = np.zeros((length, num_points))
    for step in range(4):
        distance = np.abs(places - (first + step))
        near = (1.5 * distance - 2.5) * distance**2 + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0))
        np.add.at(weights, (np.arange(length), np.clip(first + step, 0, num_points - 1)), weight)
    weights.setflags(write=False)
    return weights


def _draw_lattice(ranges: SpatialRanges, rng: np.random.Generator) -> Matrix:
    turns = int(rng.integers(4)) if ranges.quarter_turns else 0
    is_flipped = rng.random(2) < 0.5 if ranges.flip else np.zeros(2, bool)
    return quarter_turn(turns) @ flips(bool(is_flipped[0]), bool(is_flipped[1]))


def _draw_affine(ranges: SpatialRanges, rng: np.random.Generator) -> Matrix:
    """Rotation, shear and scale; the scale even in its logarithm, so that a half is as likely as a double."""
    turned = rotation(rng.uniform(-ranges.rotation, ranges.rotation))
    leaning = shear(rng.uniform(-ranges.shear, ranges.shear))
    low, high = (math.log(factor) for factor in ranges.scale)
    return turned @ leaning @ magnification(math.exp(rng.uniform(low, high)))


def _moves_whole_pixels(linear: Matrix, offset: NDArray[np.float64]) -> bool:
    steps = np.abs(linear)
    is_lattice = np.array_equal(steps, np.eye(2)) or np.array_equal(steps, np.eye(2)[::-1])
    return is_lattice and np.array_equal(offset, np.rint(offset))


def _mirrored(start: int, length: int, whole: int) -> NDArray[np.int64]:
    """Indices of `length` places from `start` on an axis of `whole` pixels, mirrored about its border pixels."""
    period = max(2 * (whole - 1), 1)
    places = np.arange(start, start + length) % period
    return np.minimum(places, period - places) if whole > 1 else np.zeros(length, np.int64)


def _as_size(values: NDArray[Any]) -> Size:
    return int(values[0]), int(values[1])
