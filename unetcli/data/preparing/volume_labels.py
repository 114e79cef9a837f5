"""From the values of a published mask to class indices: by an exact table, and never by arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unetcli.data.preparing.intensities import CHUNK, count_values
from unetcli.errors import DataError, counted

SHOWN = 6


@dataclass(frozen=True, slots=True)
class LabelRule:
    """What the values of a mask mean.

    Args:
        indices: Pairs of a value and the class index (or `IGNORED`) that it becomes.
        others: The index of all other values; None if there must be none.
    """

    indices: tuple[tuple[int, int], ...]
    others: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MappedLabels:
    """Class indices, and what was found on the way.

    Args:
        labels: uint8 of the mask's shape.
        counts: Pixels of each value that the mask holds.
    """

    labels: NDArray[np.uint8]
    counts: Mapping[int, int]


def map_labels(mask: NDArray[Any], rule: LabelRule) -> MappedLabels:
    """Put class indices in place of a mask's values; bytes are replaced where they lie.

    Whole numbers stored as floats are whole numbers; anything between is refused, since it comes from resampling a
    mask as if it were an image, after which nobody can say what was meant.

    Raises:
        DataError: If values are not whole numbers, or are not in the rule; says which, and of how many pixels.
    """
    whole = whole_numbers(mask)
    values, counts = value_counts(whole)
    known = dict(rule.indices)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    unknown = {value: count for value, count in found.items() if value not in known}
    if unknown and rule.others is None:
        raise DataError(
            f"labels hold {counted_values(unknown, _noun(mask))}, but must be of {', '.join(map(str, sorted(known)))}",
            hint="declare what these values mean, or mend the labels",
        )
    wanted = np.array([known.get(value, rule.others) for value in found], np.uint8)
    return MappedLabels(_translate(whole, values, wanted), found)


def whole_numbers(mask: NDArray[Any]) -> NDArray[Any]:
    """The same values in an integer type of this machine, the smallest that holds them for floats.

    Raises:
        DataError: If there are others; says which, and of how many pixels.
    """
    if mask.dtype.kind == "b":
        return mask.view(np.uint8)
    if mask.dtype.kind in "iu":
        return np.ascontiguousarray(mask, mask.dtype.newbyteorder("="))
    flat = mask.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        piece = flat[start : start + CHUNK]
        if not (piece == np.rint(piece)).all():  # NaN is not equal to itself either
            _refuse_fractions(mask)
    low, high = float(flat.min()), float(flat.max())
    if max(-low, high) >= 2**31:
        raise DataError(f"labels hold {low:g} to {high:g}, which are no label values")
    small = np.int16 if max(-low, high) < 2**15 else np.int32
    return mask.astype(small)


def value_counts(whole: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values of an array of integers, ascending, and how often each occurs."""
    if whole.itemsize <= 2:
        return count_values(whole)
    values, counts = np.unique(whole, return_counts=True)
    return values.astype(np.int64), counts


def counted_values(values: Mapping[Any, int], noun: str = "voxel") -> str:
    """Values with their counts, such as `3 (12 voxels), 7 (1 voxel)`; the first few, and how many more."""
    shown = [f"{value:g} ({counted(count, noun)})" for value, count in list(values.items())[:SHOWN]]
    more = f" and {counted(len(values) - SHOWN, 'more value')}" if len(values) > SHOWN else ""
    return ", ".join(shown) + more


def _noun(mask: NDArray[Any]) -> str:
    return "pixel" if mask.ndim == 2 else "voxel"


def _refuse_fractions(mask: NDArray[Any]) -> None:
    strange = mask[~(mask == np.rint(mask))]
    values, counts = np.unique(strange, return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    raise DataError(
        f"labels must be whole numbers, but hold {counted_values(found, _noun(mask))}",
        hint="resample masks with nearest neighbours, never with linear or cubic interpolation",
    )


def _translate(whole: NDArray[Any], values: NDArray[Any], wanted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`wanted[i]` for each pixel of `values[i]`."""
    if np.array_equal(values, wanted):
        return whole.astype(np.uint8, copy=False)
    if whole.itemsize <= 2:
        # a table of all values that the type has, indexed by the same bits without their sign
        unsigned = whole.view(f"u{whole.itemsize}").reshape(len(whole), -1)
        table = np.zeros(256**whole.itemsize, np.uint8)
        table[values.astype(whole.dtype).view(unsigned.dtype)] = wanted
        mapped = cv2.LUT(unsigned, table, dst=unsigned) if whole.itemsize == 1 else table[unsigned]
        return np.asarray(mapped, np.uint8).reshape(whole.shape)
    return wanted[np.searchsorted(values, whole)]
