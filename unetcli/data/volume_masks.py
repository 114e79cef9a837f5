"""Writing volumes."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.data.masks import placing, writing_told
from unetcli.data.nifti import GZIP_BEGINS, header_of, read_header, write_nifti
from unetcli.data.volume_file import split_axes
from unetcli.errors import DataError

Array = NDArray[Any]
FAST = 1  # level of gzip


def write_volume(path: Path, array: Array, geometry: Geometry, *, compress: bool) -> None:
    """Write an array as NIfTI, whole or not at all.

    Values keep their type, but for booleans, which become uint8, and float16, which becomes float32: NIfTI has
    neither. Sizes and affine are in mm, as sform and, unless the grid is sheared, as qform, both with code 1.

    Args:
        path: Where to; by custom `.nii.gz` if compressed, else `.nii`.
        array: `(C, Z, Y, X)` or `(Z, Y, X)`; channels become the fourth axis, where there are several.
        geometry: Its grid.
        compress: By gzip, at its fastest level. Without, an array in C order is written as it lies in memory, and
            `map_volume` can map the file.

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the array and the geometry are of different sizes.
        TypeError: If the values are not booleans, integers or real numbers of at most 64 bits.
    """
    voxels = array if array.ndim == 4 else array[None]
    if voxels.ndim != 4 or voxels.shape[1:] != geometry.size:
        raise ValueError(f"array must be (C, Z, Y, X) or (Z, Y, X) of {geometry.size}, got {array.shape}")
    header = header_of(geometry, len(voxels), _storable(array.dtype))
    with placing(path) as temporary, writing_told(path), temporary.open("wb") as file:
        if compress:
            with gzip.GzipFile("", "wb", FAST, file, mtime=0) as compressed:
                write_nifti(compressed, header, voxels)  # pyright: ignore[reportArgumentType]
        else:
            write_nifti(file, header, voxels)


def map_volume(path: Path) -> np.memmap[Any, Any]:
    """Map an uncompressed NIfTI file as `write_volume` writes it.

    Returns:
        `(C, Z, Y, X)`, read from disk where it is looked at; it cannot be changed.

    Raises:
        DataError: If the file is missing, compressed, scaled, of the other byte order, or of another size than its
            header says.
    """
    info = read_header(path)
    with path.open("rb") as file:
        is_compressed = file.read(2) == GZIP_BEGINS
    if is_compressed or info.is_scaled or not info.stored.isnative:
        kind = "compressed" if is_compressed else "scaled" if info.is_scaled else "of the other byte order"
        raise DataError(f"{path}: is {kind}, so it cannot be mapped", hint="prepare the dataset again")
    found, wanted = path.stat().st_size, info.offset + info.num_bytes
    if found != wanted:
        raise DataError(
            f"{path}: has {found} bytes, but its header tells of {wanted}", hint="prepare the dataset again"
        )
    size, num_channels = split_axes(path, info.sizes, None)
    return np.memmap(path, info.stored, "r", info.offset, (num_channels, *size))


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The little-endian type of NIfTI that holds all values of a type."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"a volume must be of integers or real numbers, not {dtype}")
    wider = {"b": np.dtype(np.uint8), "f": np.dtype(np.float32)}
    kept = wider[dtype.kind] if dtype.kind == "b" or dtype == np.float16 else dtype
    return kept.newbyteorder("<")
