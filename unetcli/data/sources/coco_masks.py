"""Drawing the outlines of COCO annotations: classes and numbered objects of every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import IGNORED
from unetcli.data.sources.coco import CocoImage, CocoObject, shown
from unetcli.errors import DataError

Crowd = Literal["ignore", "background"]
Mask = NDArray[np.bool_]
FEWEST_NUMBERS = 6
"""Of a polygon: x and y of three corners."""
MOST_BITS = 64
"""Of a run length: more is none, whatever the text says."""


def draw_objects(
    image: CocoImage, indices: Mapping[int, int], crowd: Crowd
) -> tuple[NDArray[np.uint8], NDArray[np.int32], list[str]]:
    """Draw the objects of an image, the smaller over the larger, and of equals the first.

    So nothing small is lost in front of something large, whatever the order of the file. Where no object is, the
    pixels of crowds are `IGNORED`, as COCO's own evaluation has it, or background.

    Args:
        image: With its annotations.
        indices: Class index by id of the category; objects of others are left out.
        crowd: What becomes of regions in which objects are not told apart.

    Returns:
        Labels and instances `(H, W)`, and what is wrong with single annotations, as sentences.
    """
    labels, instances = np.zeros(image.size, np.uint8), np.zeros(image.size, np.int32)
    masks: list[tuple[int, Mask]] = []
    crowds = np.zeros(image.size, np.bool_)
    warnings: list[str] = []
    for each in image.objects:
        if each.category not in indices:
            continue
        try:
            mask = draw_outline(each, image.size)
        except DataError as error:
            warnings.append(f"{image.title}: {error}")
            continue
        if each.is_crowd:
            crowds |= mask
        elif mask.any():
            masks.append((indices[each.category], mask))
    order = sorted(range(len(masks)), key=lambda number: (-int(masks[number][1].sum()), -number))
    for number in order:
        index, mask = masks[number]
        labels[mask], instances[mask] = index, number + 1
    if crowd == "ignore":
        labels[crowds & (instances == 0)] = IGNORED
    return labels, instances, warnings


def draw_outline(annotation: CocoObject, size: tuple[int, int]) -> Mask:
    """The pixels of an annotation, `(H, W)`.

    Raises:
        DataError: If it has no outline, one that is neither polygons nor run lengths of the image's size, or one that
            leads far out of the image.
    """
    from pycocotools import mask

    coco: Any = mask  # its types know one polygon and no list of them
    outline, name = annotation.outline, f"annotation {shown(annotation.id)}"
    height, width = size
    if isinstance(outline, list) and outline:
        polygons = [_polygon(part, name, size) for part in outline]
        encoded = coco.merge(coco.frPyObjects(polygons, height, width))
    elif isinstance(outline, dict):
        lengths = _run_lengths(outline, name, size)
        encoded = coco.frPyObjects({"size": [height, width], "counts": lengths}, height, width)
    else:
        raise DataError(f"{name}: has no outline, but {shown(outline)}; left out")
    return np.asarray(coco.decode(encoded), np.bool_)


def _polygon(part: Any, name: str, size: tuple[int, int]) -> list[float]:
    """The numbers of a polygon, at most the longer side of the image away from it.

    The library walks along edges in fifths of a pixel, whether they are in the image or not, and keeps all steps: a
    corner that a slip has put millions of pixels away takes all memory, or ends the process.
    """
    is_list = isinstance(part, list) and all(isinstance(number, int | float) for number in part)
    if not is_list or len(part) < FEWEST_NUMBERS or len(part) % 2 or not all(map(_is_finite, part)):
        raise DataError(f"{name}: a polygon must be x and y of three corners or more, found {shown(part)}; left out")
    height, width = size
    away = max(size)
    for x, y in zip(part[::2], part[1::2], strict=True):
        if not (-away <= x <= width + away and -away <= y <= height + away):
            raise DataError(
                f"{name}: a corner of a polygon is at x {x:g}, y {y:g}, which is more than {away} px out of the image "
                f"of {height} x {width} px; left out"
            )
    return [float(number) for number in part]


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def _run_lengths(outline: Mapping[str, Any], name: str, size: tuple[int, int]) -> list[int]:
    """Pixels that are not set, then set, and so on, down the columns; must be all, for the library does not look."""
    if outline.get("size") != list(size):
        raise DataError(
            f"{name}: run lengths of size {shown(outline.get('size'))}, but the image is {list(size)}; left out"
        )
    counts = outline.get("counts")
    lengths: list[int] = []
    if isinstance(counts, str):
        lengths = _unpacked(counts)
    elif isinstance(counts, list) and all(isinstance(number, int) for number in counts):
        lengths = counts
    if sum(lengths) != math.prod(size) or min(lengths) < 0:
        raise DataError(f"{name}: run lengths {shown(counts)} do not make {math.prod(size)} px; left out")
    return lengths


def _unpacked(text: str) -> list[int]:
    """Run lengths of COCO's text: 5 bits a character, the sixth says that more follow; from the third on differences.

    As `rleFrString` of the COCO library; empty where it breaks off, or a number has no end.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        code = ord(character) - 48
        number |= (code & 31) << shift
        shift += 5
        if shift > MOST_BITS:
            return []
        if code & 32:
            continue
        if code & 16:
            number -= 1 << shift
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = shift = 0
    return [] if shift else lengths


def outlined(image: CocoImage, indices: Mapping[int, int]) -> Sequence[CocoObject]:
    """The annotations of an image that are of a class."""
    return [each for each in image.objects if each.category in indices]
