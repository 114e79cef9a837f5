"""Labels without what a network leaves behind: stray pieces, holes, specks.

Pieces of a class hang together across faces, edges and corners (8 neighbours in 2D, 26 in 3D), background across faces
alone (4 and 6), so that a closed line of a class does close off what is within.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]

BLOCK = 2**20
"""Pixels that are looked up at a time."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What is done to labels, in this order.

    Args:
        keep_largest: Classes of which only the largest piece is kept.
        fill_holes: Whether background that one class encloses becomes that class.
        min_size: Least volume of a piece in mm3, or the unit of `voxel_volume`; smaller ones become background.
    """

    keep_largest: tuple[int, ...] = ()
    fill_holes: bool = False
    min_size: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return bool(self.keep_largest) or self.fill_holes or self.min_size > 0


@dataclass(frozen=True, slots=True)
class Changes:
    """Pixels that each step of a cleaning has changed."""

    keep_largest: int = 0
    fill_holes: int = 0
    min_size: int = 0


def clean(labels: Labels, cleaning: Cleaning, voxel_volume: float = 1.0) -> tuple[Labels, Changes]:
    """Keep the largest pieces, fill holes, and remove what is small, in this order.

    Args:
        labels: `(*S)` with 0 for background.
        cleaning: What to do.
        voxel_volume: Of one pixel, in mm3.

    Returns:
        New labels, and what was changed.

    Raises:
        ValueError: If labels are not uint8, a class is background, or a size is out of range.
    """
    _check_labels(labels)
    labels = labels.copy()
    return labels, Changes(
        keep_largest=_keep_largest(labels, cleaning.keep_largest) if cleaning.keep_largest else 0,
        fill_holes=_fill_holes(labels) if cleaning.fill_holes else 0,
        min_size=_remove_small(labels, cleaning.min_size, voxel_volume) if cleaning.min_size else 0,
    )


def scratch_bytes(num_pixels: int) -> int:
    """What `clean` takes at most beside the labels it is given, if pieces are far fewer than pixels.

    The new labels, a mask and the numbers of the pieces are 6 bytes a pixel; the rest is leeway.
    """
    return 8 * num_pixels + 24 * min(num_pixels, BLOCK)


def keep_largest(labels: Labels, classes: Collection[int]) -> tuple[Labels, int]:
    """Make all but the largest piece of each of these classes background; the first of equal ones stays.

    Args:
        labels: `(*S)` with 0 for background.
        classes: Classes, from 1.

    Returns:
        New labels, and how many pixels were changed.

    Raises:
        ValueError: If labels are not uint8, or a class is background.
    """
    _check_labels(labels)
    labels = labels.copy()
    return labels, _keep_largest(labels, classes)


def fill_holes(labels: Labels) -> tuple[Labels, int]:
    """Give background that a single class wholly encloses to that class.

    Background that reaches the border of the image is no hole, nor is what two classes enclose together.

    Args:
        labels: `(*S)` with 0 for background.

    Returns:
        New labels, and how many pixels were changed.

    Raises:
        ValueError: If labels are not uint8.
    """
    _check_labels(labels)
    labels = labels.copy()
    return labels, _fill_holes(labels)


def remove_small(labels: Labels, min_size: float, voxel_volume: float) -> tuple[Labels, int]:
    """Make pieces of any class that are smaller than `min_size` background.

    Args:
        labels: `(*S)` with 0 for background.
        min_size: Least volume of a piece, in mm3.
        voxel_volume: Of one pixel, in mm3.

    Returns:
        New labels, and how many pixels were changed.

    Raises:
        ValueError: If labels are not uint8, or a size is out of range.
    """
    _check_labels(labels)
    labels = labels.copy()
    return labels, _remove_small(labels, min_size, voxel_volume)


def _keep_largest(labels: Labels, classes: Collection[int]) -> int:
    if any(not 1 <= index <= 255 for index in classes):
        raise ValueError(f"classes must be of 1 to 255, got {tuple(classes)}")
    return sum(_keep_largest_of(index, part) for index, part in _classes(labels) if index in classes)


def _keep_largest_of(index: int, part: Labels) -> int:
    pieces, num_pieces = _pieces(part == index)
    is_other = np.ones(num_pieces + 1, dtype=bool)
    is_other[0] = False  # what is not of the class
    is_other[1 + _sizes(pieces, num_pieces)[1:].argmax()] = False
    return _assign(part, pieces, is_other, 0)


def _fill_holes(labels: Labels) -> int:
    return sum(_fill_holes_of(index, part) for index, part in _classes(labels))


def _fill_holes_of(index: int, part: Labels) -> int:
    pieces, num_pieces = _pieces(part != index, faces_only=True)
    is_hole = np.ones(num_pieces + 1, dtype=bool)
    is_hole[0] = False  # the class itself
    for axis in range(part.ndim):
        for end in (0, -1):  # of the class's box: what lies beyond goes on to the border of the image
            is_hole[pieces.take(end, axis)] = False
    for rows in _blocks(part):
        is_hole[pieces[rows][(part[rows] != 0) & (part[rows] != index)]] = False
    return _assign(part, pieces, is_hole, index)


def _remove_small(labels: Labels, min_size: float, voxel_volume: float) -> int:
    if not (np.isfinite(min_size) and min_size >= 0 and np.isfinite(voxel_volume) and voxel_volume > 0):
        raise ValueError(f"sizes must be positive, got min_size {min_size} and voxel_volume {voxel_volume}")
    # a piece of just the least size is kept, though the product may be rounded
    least = min_size / voxel_volume * (1 - 1e-9)
    return sum(_remove_small_of(index, part, least) for index, part in _classes(labels))


def _remove_small_of(index: int, part: Labels, least: float) -> int:
    pieces, num_pieces = _pieces(part == index)
    is_small = _sizes(pieces, num_pieces) < least
    is_small[0] = False  # what is not of the class
    return _assign(part, pieces, is_small, 0)


def _check_labels(labels: Labels) -> None:
    if labels.dtype != np.uint8 or labels.ndim == 0:
        raise ValueError(f"labels must be an array of uint8, got {labels.dtype} {labels.shape}")


def _classes(labels: Labels) -> Iterator[tuple[int, Labels]]:
    """Each class that is there, but for background, and the part of the labels that it lies in."""
    from scipy import ndimage  # a quarter of a second that most predictions need not wait for

    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            yield index, labels[box]


def _pieces(mask: NDArray[np.bool_], *, faces_only: bool = False) -> tuple[NDArray[np.int32], int]:
    """Number the pieces of a mask from 1; 0 is what is not of it."""
    from scipy import ndimage

    neighbours = ndimage.generate_binary_structure(mask.ndim, 1 if faces_only else mask.ndim)
    pieces = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask, neighbours, output=pieces)
    return pieces, int(pieces.max())


def _sizes(pieces: NDArray[np.int32], num_pieces: int) -> NDArray[np.int64]:
    """Pixels of each piece, and of the rest at 0."""
    sizes = np.zeros(num_pieces + 1, dtype=np.int64)
    for rows in _blocks(pieces):
        counts = np.bincount(pieces[rows].ravel())
        sizes[: len(counts)] += counts
    return sizes


def _assign(part: Labels, pieces: NDArray[np.int32], is_chosen: NDArray[np.bool_], value: int) -> int:
    """Give the chosen pieces a value in place; how many pixels that are."""
    num_changed = 0
    if is_chosen.any():
        for rows in _blocks(part):
            is_changed = is_chosen[pieces[rows]]
            part[rows][is_changed] = value
            num_changed += int(np.count_nonzero(is_changed))
    return num_changed


def _blocks(array: NDArray[Any]) -> Iterator[slice]:
    """A few rows at a time, since numpy makes 64-bit copies of what it counts or indexes by."""
    num_rows = max(1, BLOCK // max(array[0].size, 1))
    for first in range(0, len(array), num_rows):
        yield slice(first, first + num_rows)
