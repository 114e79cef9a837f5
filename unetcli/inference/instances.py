"""Objects from the class of every pixel: which pixels of a class belong to one cell, and which to the next.

Objects are numbered from 1, those of the first class first, and in a class by their first pixel, row by row; 0 is
background. The same labels and scores always give the same objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int32]
Heights = NDArray[np.float32]
Method = Literal["watershed", "components"]

SMOOTHING = 1.0
"""Standard deviation in pixels by which distances are smoothed, so that a ragged outline has no peaks of its own."""
RISE = 0.25
"""Pixels by which a middle is farther from the outline than the way to the next; less is a ragged outline's doing."""
WITH_CORNERS = np.ones((3, 3), bool)
_FIRST, _LAST, _ALL = slice(None, -1), slice(1, None), slice(None)
NEIGHBOURS = (
    ((_FIRST, _ALL), (_LAST, _ALL)),
    ((_ALL, _FIRST), (_ALL, _LAST)),
    ((_FIRST, _FIRST), (_LAST, _LAST)),
    ((_FIRST, _LAST), (_LAST, _FIRST)),
)
"""Views of an image such that a pixel of the one touches the same pixel of the other; all pairs that touch, once."""
BYTES_PER_PIXEL = {"pieces": 35, "narrow": 75, "border": 75}
"""Most that `separate` was seen to take beside labels and scores, with leeway; see `Separation.kind`."""
SECONDS_PER_PIXEL = {"pieces": 0.3e-7, "narrow": 6e-7, "border": 2e-7}
"""About what it was seen to take of time, on one core."""


@dataclass(frozen=True, slots=True)
class Separation:
    """How objects are told apart.

    Args:
        objects: Classes that objects are of, ascending, at least one.
        border: The class of pixels along which objects touch; None if there is none.
        method: "components" for connected pieces, "watershed" to part pieces where they are narrow.
        min_size: Least pixels of an object; smaller ones are left out.
        distance: Least distance in pixels of the middles of two objects that touch, along either axis; for "watershed"
            without a border class.

    Raises:
        ValueError: If a value is out of range.
    """

    objects: tuple[int, ...]
    border: int | None = None
    method: Method = "watershed"
    min_size: int = 0
    distance: int = 1

    def __post_init__(self) -> None:
        if not self.objects or min(self.objects) < 1 or list(self.objects) != sorted(set(self.objects)):
            raise ValueError(f"objects must be ascending classes from 1, got {self.objects}")
        if self.border is not None and (self.border < 1 or self.border in self.objects):
            raise ValueError(f"border must be a class from 1 that no object is of, got {self.border}")
        if self.min_size < 0 or self.distance < 1:
            raise ValueError(f"min_size must be at least 0 and distance 1, got {self.min_size} and {self.distance}")

    @property
    def kind(self) -> Literal["pieces", "narrow", "border"]:
        """What is done: pieces are numbered, parted where they are narrow, or grown back over a border."""
        if self.border is not None:
            return "border"
        return "pieces" if self.method == "components" else "narrow"

    @property
    def bytes_per_pixel(self) -> int:
        """Memory for each pixel of an image, at most, beside its labels and scores."""
        return BYTES_PER_PIXEL[self.kind]

    @property
    def seconds_per_pixel(self) -> float:
        """Time for each pixel of an image, about."""
        return SECONDS_PER_PIXEL[self.kind]


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The objects of an image.

    Args:
        numbers: `(H, W)` int32, 0 for background and every object another number from 1 on, without gaps.
        classes: `(m + 1,)` uint8 class of each of the m objects by its number, and 0 for the background.
    """

    numbers: Numbers
    classes: NDArray[np.uint8]

    @property
    def num_objects(self) -> int:
        """How many there are."""
        return len(self.classes) - 1


def separate(labels: NDArray[np.uint8], scores: NDArray[np.float32], how: Separation) -> Instances:
    """Tell the objects of an image apart.

    Pieces hang together across edges and corners. Without a border class they are the objects with "components"; with
    "watershed" they are flooded from their middles, the peaks of the distance to their outline, and parted where the
    floods meet (Vincent and Soille 1991, doi 10.1109/34.87344), unless the way from middle to middle is as wide as the
    narrower of the two, or they are too near. With a border class the pieces between borders are the
    objects, grown back over the border: by the "watershed" of its score, so that they meet where it is highest, or by
    "components" evenly. Border that hangs together with no piece is background.

    Args:
        labels: `(H, W)` class of every pixel.
        scores: `(K, H, W)`; looked at for the border class alone.
        how: What objects are, and how they are told apart.

    Raises:
        ValueError: If the arrays do not fit each other, are of volumes, or have no such classes.
    """
    if labels.ndim != 2 or scores.shape[1:] != labels.shape:
        raise ValueError(f"labels must be (H, W) and scores (K, H, W), got {labels.shape} and {scores.shape}")
    if max(*how.objects, how.border or 0) >= len(scores):
        raise ValueError(f"there are {len(scores)} classes, and no {max(*how.objects, how.border or 0)}")
    numbers = np.zeros(labels.shape, np.int32)
    classes = [0]
    for index in how.objects:
        mask = labels == index
        if not mask.any():
            continue
        pieces = _components(mask) if how.method == "components" or how.border is not None else _parted(mask, how)
        np.add(pieces, len(classes) - 1, out=numbers, where=mask)
        classes += [index] * int(pieces.max())
    if how.border is not None:
        is_border = labels == how.border
        heights = scores[how.border] if how.method == "watershed" else np.zeros_like(scores[how.border])
        numbers = _flooded(heights, numbers, is_border | (numbers > 0))
    return _numbered(numbers, np.array(classes, np.uint8), how.min_size)


def _components(mask: Mask) -> Numbers:
    """Connected pieces, numbered by their first pixel."""
    pieces = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, WITH_CORNERS, output=pieces)
    return pieces


def _parted(mask: Mask, how: Separation) -> Numbers:
    """Connected pieces, each parted where it is narrow."""
    if mask.all():  # there is no outline
        return mask.astype(np.int32)
    distances = np.asarray(ndimage.distance_transform_edt(mask), np.float32)
    distances = np.asarray(ndimage.gaussian_filter(distances, SMOOTHING), np.float32)
    distances[~mask] = 0
    tops = _components(np.asarray(local_maxima(distances), bool) & mask)  # a ridge of one height is one
    return _joined(_flooded(-distances, tops, mask), distances, how.distance)


def _joined(floods: Numbers, distances: Heights, distance: int) -> Numbers:
    """The floods without those that are of one object with another: tops too near, or a way between as high as they."""
    numbers = np.arange(int(floods.max(initial=0)) + 1, dtype=np.int32)
    if len(numbers) == 1:
        return floods
    tops = np.array([(0, 0), *ndimage.maximum_position(distances, floods, numbers[1:])])
    heights = distances[tuple(tops.T)]
    into = numbers.tolist()

    def joined(number: int) -> int:
        while into[number] != number:
            number = into[number]
        return number

    for one, other, height in _passes(floods, distances):
        low, high = sorted((joined(one), joined(other)), key=lambda number: (heights[number], -number))
        if heights[low] - height < RISE or np.abs(tops[low] - tops[high]).max() < distance:
            into[low] = high
    return np.array([joined(number) for number in numbers], np.int32)[floods]


def _passes(floods: Numbers, distances: Heights) -> list[tuple[int, int, float]]:
    """Two floods that touch, and the greatest distance at which one comes from the one to the other; highest first."""
    pairs: list[NDArray[np.int64]] = []
    heights: list[Heights] = []
    for here, there in NEIGHBOURS:
        one, other = floods[here], floods[there]
        touches = (one != other) & (one > 0) & (other > 0)
        pairs.append(np.sort(np.stack([one[touches], other[touches]]).astype(np.int64), axis=0))
        heights.append(np.minimum(distances[here][touches], distances[there][touches]))
    (one, other), height = np.concatenate(pairs, axis=1), np.concatenate(heights)
    order = np.lexsort((other, one, -height))
    passes: dict[tuple[int, int], float] = {}
    for key in zip(one[order].tolist(), other[order].tolist(), height[order].tolist(), strict=True):
        passes.setdefault(key[:2], key[2])
    return [(*pair, height) for pair, height in passes.items()]


def _flooded(heights: NDArray[np.floating[Any]], middles: Numbers, mask: Mask) -> Numbers:
    return np.asarray(watershed(heights, middles, mask=mask, connectivity=2), np.int32)


def _numbered(numbers: Numbers, classes: NDArray[np.uint8], min_size: int) -> Instances:
    """The objects that are large enough, numbered by class and first pixel; `classes` is by their numbers so far."""
    found, first, sizes = np.unique(numbers[numbers > 0], return_index=True, return_counts=True)
    is_kept = sizes >= min_size
    found, first = found[is_kept], first[is_kept]
    found = found[np.lexsort((first, classes[found]))]
    table = np.zeros(len(classes), np.int32)
    table[found] = np.arange(1, len(found) + 1)
    return Instances(table[numbers], np.concatenate([classes[:1], classes[found]]))
