"""Writing volumes: masks and scores on the grid of their source, and NIfTI files to be mapped.

A mask has the format of its source, the same grid to the last bit, and the values of the dataset's labels in the
smallest unsigned type that holds them. It is written beside its place, read back, compared and only then put there.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry
from unetcli.data.formats.images import open_image
from unetcli.data.formats.itk import data_files, write_metaimage, write_nrrd
from unetcli.data.formats.masks import Outputs, check_plan, mask_writer, placing, value_table, writing_told
from unetcli.data.formats.nifti import (
    GZIP_BEGINS,
    Header,
    copied_header,
    header_of,
    is_as_written,
    read_header,
    write_nifti,
)
from unetcli.data.formats.tif import PixelSize
from unetcli.data.formats.volume_file import VolumeFile, split_axes
from unetcli.data.formats.volumes import SUFFIXES, open_volume
from unetcli.errors import DataError

Array = NDArray[Any]
FAST, SMALL = 1, 4  # levels of gzip: for intensities, and for labels, which shrink to a fiftieth
EQUAL, NEAR = 1e-9, 1e-3  # of a voxel: what the rounding of an oblique step costs, and that to NIfTI's float32


def plan_volume_outputs(
    volumes: Sequence[VolumeFile], folder: Path, *, with_scores: bool = False, overwrite: bool = False
) -> list[Outputs]:
    """Name the outputs of volumes: `output_name` in `folder`, and `<stem>_scores.nii.gz`.

    Done before any work, so that a clash costs nothing.

    Raises:
        ConfigError: If two volumes would be written to one file, a volume would be replaced by its own mask, or
            an output is there and `overwrite` is not set.
    """
    plan: list[Outputs] = []
    for volume in volumes:
        scores = folder / f"{volume_stem(volume.path)}_scores.nii.gz" if with_scores else None
        plan.append(Outputs(volume.path, folder / output_name(volume), scores, data_files(volume.path, volume.format)))
    check_plan(plan, overwrite=overwrite)
    return plan


def output_name(source: VolumeFile) -> str:
    """The name of a volume's mask: `<stem>.nii.gz`, `.mhd` for a pair, `.mha`, `.nrrd` or `.tif`.

    A DICOM series, whose format holds no masks that other programs would take for such, gets `.nii.gz`.
    """
    pair = source.path.suffix.lower() == ".mhd"
    suffixes = {"metaimage": ".mhd" if pair else ".mha", "nrrd": ".nrrd", "tif": ".tif"}
    return volume_stem(source.path) + suffixes.get(source.format, ".nii.gz")


def volume_stem(path: Path) -> str:
    """The name of a volume without its suffix, or both of them, as in `.nii.gz` and `.ome.tif`."""
    name = path.absolute().name
    if path.is_dir():
        return name
    suffixes = sorted((*SUFFIXES, ".ome.tif", ".ome.tiff", ".dcm"), key=len, reverse=True)
    suffix = next((end for end in suffixes if name.lower().endswith(end) and len(name) > len(end)), "")
    return name.removesuffix(name[len(name) - len(suffix) :]) if suffix else name


def write_labels(path: Path, labels: NDArray[Any], values: Sequence[int], source: VolumeFile) -> None:
    """Write the labels of a volume as a mask on the same grid, in the format that the suffix of `path` tells.

    Args:
        path: Where to; see `output_name`. With a `.mhd` comes a `.zraw`.
        labels: `(Z, Y, X)` class indices.
        values: What is written for each class.
        source: The volume; of a mask in its format, its header is repeated.

    Raises:
        DataError: If a file cannot be written, or does not read back as it was.
        ValueError: If the labels have another size than the volume, or classes without a value.
    """
    table = value_table(values)
    if labels.shape != source.geometry.size:
        raise ValueError(f"labels must be of {source.geometry.size}, got {labels.shape}")
    if not 0 <= labels.min() <= labels.max() < len(table):
        raise ValueError(f"labels must be in 0..{len(table) - 1}, got {labels.min()}..{labels.max()}")
    is_same = labels.dtype == table.dtype and np.array_equal(table, np.arange(len(table)))
    voxels = labels if is_same else table[labels]  # a large volume is not copied without need
    with _staged(path) as staged:
        match path.suffix.lower():
            case ".mhd" | ".mha":
                with writing_told(path):
                    write_metaimage(staged, voxels, source)
            case ".nrrd":
                with writing_told(path):
                    write_nrrd(staged, voxels, source)
            case ".tif" | ".tiff":
                _write_tif(staged, labels, values, source)
            case _:
                _write_like(path, staged, voxels, source, SMALL)
                return
        _check(path, staged, voxels, source)


def write_scores(path: Path, scores: NDArray[np.float32], source: VolumeFile) -> None:
    """Write the scores of a volume as compressed NIfTI on the same grid, the classes along the fourth axis.

    Args:
        path: Where to; by custom `<stem>_scores.nii.gz`.
        scores: `(K, Z, Y, X)`.
        source: The volume.

    Raises:
        DataError: If the file cannot be written, or does not read back as it was.
        ValueError: If the scores have another size than the volume, or are not finite.
    """
    if scores.ndim != 4 or scores.shape[1:] != source.geometry.size:
        raise ValueError(f"scores must be (K, Z, Y, X) of {source.geometry.size}, got {scores.shape}")
    if not all(np.isfinite(part).all() for one in scores for part in one):
        raise ValueError("scores must be finite")
    with _staged(path) as staged:
        _write_like(path, staged, np.asarray(scores, np.float32), source, FAST)


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
    with placing(path) as temporary, writing_told(path):
        write_nifti(temporary, header, voxels, level=FAST if compress else 0)


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


def _write_like(path: Path, staged: Path, voxels: Array, source: VolumeFile, level: int) -> None:
    """Write NIfTI on the grid of a source, with its header if that is NIfTI too, and compare."""
    num_channels = len(voxels) if voxels.ndim == 4 else 1
    if source.format == "nifti":
        header: Header = copied_header(read_header(source.path).header, num_channels, voxels.dtype)
    else:
        header = header_of(source.geometry, num_channels, voxels.dtype)
    with writing_told(path):
        write_nifti(staged, header, voxels, level=level if path.suffix.lower() == ".gz" else 0)
    tolerance = 0.0 if source.format == "nifti" else NEAR
    is_same = is_as_written(staged, header, voxels)
    if not is_same or open_volume(staged).geometry.difference(source.geometry, tolerance=tolerance):
        raise _unlike(path)


def _write_tif(path: Path, labels: Array, values: Sequence[int], source: VolumeFile) -> None:
    """Write pages as those of a TIF, with the size of voxels in ImageJ's words where the source tells it in others."""
    with open_image(source.path) as image:
        told = image
        if source.has_spacing and image.pixel_size.imagej is None:
            told = replace(image, pixel_size=_imagej_size(source.geometry))
        with mask_writer(path, told, values) as write:
            for page in labels:
                write(page)


def _imagej_size(geometry: Geometry) -> PixelSize:
    """The size of voxels as ImageJ writes it."""
    depth, height, width = (size * 1000 for size in geometry.spacing)
    ratios = [Fraction(size).limit_denominator(int(2**31 / max(size, 1.0))) for size in (width, height)]
    x_pixels, y_pixels = ((ratio.denominator, ratio.numerator) for ratio in ratios)  # per micrometre
    return PixelSize((x_pixels, y_pixels), 1, ("unit=um", f"spacing={depth!r}"), geometry.size[0])


def _check(path: Path, staged: Path, voxels: Array, source: VolumeFile) -> None:
    """Raise DataError if a mask does not read back with these voxels, on the grid of its source."""
    written = open_volume(staged)
    is_same = written.dtype == voxels.dtype and np.array_equal(written.read()[0], voxels)
    tolerance = EQUAL if written.format == source.format != "tif" else NEAR
    if not is_same or written.geometry.difference(source.geometry, tolerance=tolerance):
        raise _unlike(path)


def _unlike(path: Path) -> DataError:
    return DataError(f"{path}: was written but does not read back as it was; is the disk full or failing?")


@contextlib.contextmanager
def _staged(path: Path) -> Generator[Path]:
    """A file of the same name in a folder beside it, from which all files go to their place if the block ends well.

    Of a pair, an old header is removed first and the new one comes last, so that no header ever stands beside the
    voxels of another.
    """
    with contextlib.ExitStack() as stack:
        with writing_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".unet-", dir=path.parent)))
        yield folder / path.name
        with writing_told(path):
            parts = [part for part in folder.iterdir() if part.name != path.name]
            if parts:
                path.unlink(missing_ok=True)
            for part in parts:
                part.replace(path.with_name(part.name))
            (folder / path.name).replace(path)


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The little-endian type of NIfTI that holds all values of a type."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"a volume must be of integers or real numbers, not {dtype}")
    wider = {"b": np.dtype(np.uint8), "f": np.dtype(np.float32)}
    kept = wider[dtype.kind] if dtype.kind == "b" or dtype == np.float16 else dtype
    return kept.newbyteorder("<")
