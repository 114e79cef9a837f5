"""What the readers of volumes give back, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.errors import DataError, counted

Array = NDArray[Any]
VolumeFormat = Literal["nifti", "metaimage", "nrrd", "dicom", "tif"]


@dataclass(frozen=True, slots=True, eq=False)
class VolumeFile:
    """A volume whose header has been read, and its voxels not yet.

    Args:
        path: Where it lies; a folder for a DICOM series.
        format: What its content is, whatever its name says.
        geometry: Where its voxels lie.
        num_channels: How many values a voxel has.
        dtype: The type that `read` gives, in native byte order.
        read: Reads all voxels, as `(C, Z, Y, X)` in one piece of memory that the caller may change. Values are the
            file's own; where it says how to scale them, they are scaled and of floating point.
            Raises DataError, naming the file, if it is damaged or cut off.
        has_spacing: Whether the file tells the size of its voxels; where not, the spacing stands at 1.
        notes: What a person should know of how it was understood, as phrases.
    """

    path: Path
    format: VolumeFormat
    geometry: Geometry
    num_channels: int
    dtype: np.dtype[Any]
    read: Callable[[], Array]
    has_spacing: bool = True
    notes: tuple[str, ...] = ()


def split_axes(path: Path, sizes: tuple[int, ...], num_channels: int | None) -> tuple[tuple[int, int, int], int]:
    """Z Y X and the number of channels of a file with these axes, the fastest (X) first.

    Axes of length 1 beyond the third are dropped, and missing ones added. One longer axis beyond the third is that of
    the channels, since no format tells channels from time points with certainty.

    Raises:
        DataError: If there are several such axes, no voxels, or other channels than wanted.
    """
    text = " x ".join(map(str, sizes))
    if not sizes or min(sizes) < 1:
        raise DataError(f"{path}: has no voxels (its size is {text or 'missing'})", hint="write the file again")
    space = (*sizes[:3], 1, 1)[:3]
    further = [size for size in sizes[3:] if size > 1]
    if len(further) > 1:
        raise DataError(
            f"{path}: has {len(sizes)} axes ({text}), but a volume has X, Y, Z and one of channels",
            hint="save each volume as a file of its own",
        )
    found = further[0] if further else 1
    check_channels(path, found, num_channels, f"is {len(sizes)}D ({text}), which makes " if further else "has ")
    return (space[2], space[1], space[0]), found


def check_channels(path: Path, found: int, wanted: int | None, begin: str = "has ") -> None:
    """Raise DataError if a volume has other channels than the network takes."""
    if wanted not in {None, found}:
        raise DataError(
            f"{path}: {begin}{counted(found, 'channel')}, but the network takes {wanted}",
            hint="take the volumes apart if they are time points, or lay the channels of a case into one file",
        )


def check_type(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise DataError for values that are not integers or real numbers of at most 64 bits."""
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        colours = dtype.names is not None
        raise DataError(
            f"{path}: has {'colours' if colours else 'values'} of type {'RGB' if colours else dtype}, "
            "but must be integers or real numbers",
            hint="save it as grey values, or its colours as channels along a fourth axis",
        )


def scaled_type(stored: np.dtype[Any], slope: float, intercept: float) -> np.dtype[Any]:
    """The smaller of float32 and float64 in which `stored * slope + intercept` keeps all stored values apart."""
    if stored.kind == "f":
        return np.dtype(np.float64 if stored.itemsize > 4 else np.float32)
    limits = np.iinfo(stored.name)
    largest = max(abs(slope * limits.min + intercept), abs(slope * limits.max + intercept))
    fits = largest < float(np.finfo(np.float32).max) and float(np.spacing(np.float32(largest))) <= abs(slope)
    return np.dtype(np.float32 if fits else np.float64)


def scale(stored: Array, slope: float, intercept: float) -> Array:
    """`stored * slope + intercept`, rounded once to the type of `scaled_type`; works along the first axes."""
    result = np.empty(stored.shape, scaled_type(stored.dtype, slope, intercept))
    for index in np.ndindex(stored.shape[:2]):  # a slice at a time, so that float64 is only that large
        result[index] = stored[index].astype(np.float64) * slope + intercept
    return result
