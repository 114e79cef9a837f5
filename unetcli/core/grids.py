"""Where the pixels of a patch lie in its image, and cutting the patch out; in 2D and 3D.

An image is resampled once, along one map of coordinates. What lies beyond it is its mirror image, so that a turned
patch has no empty corners. A map that only flips, turns by quarters or crops moves whole pixels, and then nothing is
resampled at all.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unetcli.core.interpolation import sample_linear, sample_nearest

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating[Any]]
Size = tuple[int, ...]
Number = TypeVar("Number", np.uint8, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PatchGrid:
    """Where every pixel of a patch lies in its image, and the region of the image that this takes.

    The region is cut by `mirrored_crop(image, grid.start, grid.size)`; it is all that need be read.

    Args:
        start: First index of the region along each axis; may lie outside of the image.
        size: Pixels of the region along each axis.
        turn: `(ndim, ndim)` map of offsets in the patch to offsets in the region. Where `coordinates` is None it is
            of 0, 1 and -1, and every patch pixel is a region pixel.
        coordinates: `(ndim, *patch)` float32 place in the region of every patch pixel.
        mirrored: Axes of the image that were mirrored on purpose, before anything was turned.
    """

    start: Size
    size: Size
    turn: Matrix
    coordinates: NDArray[np.float32] | None
    mirrored: tuple[int, ...] = ()

    def inside(self, image_size: Sequence[int]) -> PatchGrid:
        """The grid of the same patch whose region lies inside the image, so that none of it need be mirrored.

        The places beyond the border are mirrored in its stead. Where there are no coordinates, the grid stays.
        """
        if self.coordinates is None:
            return self
        coordinates = self.coordinates
        start, size = list(self.start), list(self.size)
        for axis, whole in enumerate(image_size):
            if self.start[axis] < 0 or self.start[axis] + self.size[axis] > whole:
                if coordinates is self.coordinates:
                    coordinates = self.coordinates.copy()
                start[axis], size[axis] = _mirror_places(coordinates[axis], self.start[axis], whole)
        return replace(self, start=tuple(start), size=tuple(size), coordinates=coordinates)

    def sample_image(self, region: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """The patch of an image, linear between pixels.

        Linear, so that no value leaves the range of its neighbours.

        Args:
            region: `(C, *size)` float32.
            out: Where the patch goes, contiguous; a new array if None.

        Returns:
            `(C, *patch)` float32, contiguous; without `out` it may share memory with `region`.
        """
        if self.coordinates is None:
            turned = self.turned(region)
            if out is None:
                return np.ascontiguousarray(turned)
            out[...] = turned
            return out
        self._check(region)
        patch = np.empty((region.shape[0], *self.coordinates.shape[1:]), np.float32) if out is None else out
        sample_linear(np.ascontiguousarray(region), self.coordinates, patch)
        return patch

    def sample_labels(self, region: NDArray[np.uint8], margin: int = 0) -> NDArray[np.uint8]:
        """The labels of the patch but for `margin` pixels at each border, each of the nearest pixel.

        Args:
            region: `size` uint8.
            margin: Pixels of the patch at each border that have no label.

        Returns:
            uint8, smaller than the patch by `2 * margin` along each axis; it may be a view of `region`.
        """
        if region.dtype != np.uint8:
            raise TypeError(f"labels must be uint8, not {region.dtype}")
        return self.sample_nearest(region, margin)

    def sample_nearest(self, region: NDArray[Number], margin: int = 0) -> NDArray[Number]:
        """The values of the patch but for `margin` pixels at each border, each of the nearest pixel.

        Args:
            region: `size` uint8 or float32.
            margin: Pixels of the patch at each border that have no value.

        Returns:
            Of the same type, smaller than the patch by `2 * margin` along each axis; it may be a view of `region`.
        """
        if self.coordinates is None:
            return _without_margin(self.turned(region), margin)
        self._check(region)
        coordinates = np.ascontiguousarray(_without_margin(self.coordinates, margin, first_axis=1))
        values = np.empty(coordinates.shape[1:], region.dtype)
        sample_nearest(np.ascontiguousarray(region), coordinates, values)
        return values

    def turned(self, region: NDArray[Any]) -> NDArray[Any]:
        """The patch, where it is of whole pixels: a view of its region, `(..., *size)` of any type."""
        self._check(region)
        num_others = region.ndim - len(self.size)
        axes = np.abs(self.turn).argmax(axis=0)
        region = region.transpose(*range(num_others), *(num_others + axes))
        return region[(..., *(slice(None, None, int(step)) for step in self.turn.sum(axis=0)))]

    def _check(self, region: NDArray[Any]) -> None:
        if region.shape[-len(self.size) :] != self.size:
            raise ValueError(f"the region must be {self.size} px, not {region.shape[-len(self.size) :]}")


def place_patch(
    patch_size: Sequence[int], center: ArrayLike, linear: Matrix, displacements: Matrix | None = None
) -> PatchGrid:
    """Lay a patch into an image.

    A patch pixel at offset d from the patch's centre lies at `center + linear @ d`, plus its displacement.

    Args:
        patch_size: Pixels of the patch along each axis.
        center: Place in the image of the patch's centre; that of n pixels is (n - 1) / 2.
        linear: `(ndim, ndim)` map of offsets, such as a product of those in `unetcli.core.linear_maps`.
        displacements: `(ndim, *G)` in pixels along each axis, on a grid from corner to corner of the patch.
    """
    offset = np.asarray(center) - linear @ ((np.array(patch_size) - 1) / 2)
    if displacements is None and _moves_whole_pixels(linear, offset):
        last = linear @ (np.array(patch_size) - 1)
        first = offset + np.minimum(last, 0)
        return PatchGrid(_as_size(first), _as_size(np.abs(last) + 1), linear, None)
    whole = np.floor(offset)  # so that numbers stay small, and float32 tells places within 1e-5 px
    coordinates = np.empty((len(patch_size), *patch_size), np.float32)
    start, size = np.empty(len(patch_size)), np.empty(len(patch_size))
    for axis, places in enumerate(coordinates):
        dense = None if displacements is None else displacements[axis].astype(np.float32)
        _fill_places(places, linear[axis], offset[axis] - whole[axis], dense)
        start[axis], size[axis] = _count_from_first(places)
    return PatchGrid(_as_size(start + whole), _as_size(size), linear, coordinates)


def mirrored_crop(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Cut a region out of an array that is mirrored about its border pixels without end.

    Only pixels between the least and the largest index that the region shows are looked at, so that no more of a
    mapped file is read.

    Args:
        array: `(..., *S)`.
        start: First index along each of the last axes; may be negative or beyond the array.
        size: Pixels of the region along each of them.

    Returns:
        `(..., *size)`; a view where the region lies inside of the array.
    """
    whole = array.shape[-len(size) :]
    inside = [s >= 0 and s + n <= w for s, n, w in zip(start, size, whole, strict=True)]
    if all(inside):
        return array[(..., *(slice(s, s + n) for s, n in zip(start, size, strict=True)))]
    indices = [_mirrored(s, n, w) for s, n, w in zip(start, size, whole, strict=True)]
    firsts = [int(places.min()) for places in indices]
    crop = array[(..., *(slice(f, int(places.max()) + 1) for f, places in zip(firsts, indices, strict=True)))]
    for axis, places in enumerate(indices):
        if not inside[axis]:
            crop = np.take(crop, places - firsts[axis], axis=axis - len(size))
    return crop


def upsample_cubic(coarse: Floats, size: Sequence[int], out: Floats | None = None) -> Floats:
    """Interpolate `(*G)` values, laid from corner to corner, at `size` pixels; returns `(*size)`, `out` if given.

    Cubic convolution (Keys 1981, a = -0.5) axis by axis, with the border values repeated. Displacements on a coarse
    grid made dense in this way are the elastic deformation of Ronneberger et al. 2015, section 3.1
    (arXiv:1505.04597). The numbers are of the type of `coarse`, which is that of `out`.
    """
    values = coarse
    dense = np.empty(tuple(size), coarse.dtype) if out is None else out
    *firsts, last = (_cubic_weights(points, n, coarse.dtype) for points, n in zip(coarse.shape, size, strict=True))
    for axis, weights in enumerate(firsts):
        shape = values.shape
        flat = weights @ values.reshape(*shape[:axis], shape[axis], -1)
        values = flat.reshape(*shape[:axis], len(weights), *shape[axis + 1 :])
    np.matmul(values.reshape(-1, values.shape[-1]), last.T, out=dense.reshape(-1, size[-1]))
    return dense


@functools.lru_cache(maxsize=16)
def _cubic_weights(num_points: int, length: int, dtype: np.dtype[Any]) -> Floats:
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
    weights = weights.astype(dtype)
    weights.setflags(write=False)
    return weights


def _fill_places(places: NDArray[np.float32], steps: Matrix, offset: float, coarse: Floats | None) -> None:
    """Fill `(*patch_size)` places along one axis of the image.

    Args:
        places: What is filled.
        steps: What a step along each axis of the patch adds.
        offset: The place of the first pixel.
        coarse: `(*G)` displacements, laid from corner to corner of the patch.
    """
    *firsts, last = (step * np.arange(length) for step, length in zip(steps, places.shape, strict=True))
    lines = functools.reduce(np.add.outer, firsts, np.array(offset)).astype(np.float32)
    last = last.astype(np.float32)
    if coarse is None:
        np.add.outer(lines, last, out=places)
    else:
        upsample_cubic(coarse, places.shape, out=places)
        places += lines[..., None]
        places += last


def _mirror_places(places: NDArray[np.float32], start: int, whole: int) -> tuple[int, int]:
    """Mirror places about the border pixels of an axis of `whole` pixels, and count them from the first in use.

    Args:
        places: Of any shape, counted from the pixel `start`; changed in place.
        start: May be negative or beyond the axis.
        whole: Pixels of the axis.

    Returns:
        Their first pixel, and how many pixels they reach over.
    """
    last = np.float32(whole - 1)
    places += np.float32(start)
    if whole == 1:
        places[...] = 0
    elif places.min() < -last or places.max() > 2 * last:
        np.mod(places, 2 * last, out=places)
    np.abs(places, out=places)
    np.subtract(last, places, out=places)
    np.abs(places, out=places)
    np.subtract(last, places, out=places)
    return _count_from_first(places)


def _count_from_first(places: NDArray[np.float32]) -> tuple[int, int]:
    """Count places, in place, from the first pixel that they need; returns it, and how many pixels they need."""
    first = np.floor(places.min())
    size = np.ceil(places.max()) - first + 1
    places -= first
    return int(first), int(size)


def _without_margin(array: NDArray[Any], margin: int, first_axis: int = 0) -> NDArray[Any]:
    return array[(..., *(slice(margin, length - margin) for length in array.shape[first_axis:]))]


def _moves_whole_pixels(linear: Matrix, offset: NDArray[np.float64]) -> bool:
    steps = np.abs(linear)
    is_lattice = np.isin(steps, (0, 1)).all() and (steps.sum(axis=0) == 1).all() and (steps.sum(axis=1) == 1).all()
    return bool(is_lattice) and np.array_equal(offset, np.rint(offset))


def _mirrored(start: int, length: int, whole: int) -> NDArray[np.int64]:
    """Indices of `length` places from `start` on an axis of `whole` pixels, mirrored about its border pixels."""
    period = max(2 * (whole - 1), 1)
    places = np.arange(start, start + length) % period
    return np.minimum(places, period - places) if whole > 1 else np.zeros(length, np.int64)


def _as_size(values: NDArray[Any]) -> Size:
    return tuple(int(value) for value in values)
