"""Reading a DICOM series, a folder of slices, with the grid that the slices' own positions tell.

GDCM, within SimpleITK, reads the files. The step from slice to slice is taken from the first to the last position, so
that a tilted gantry gives the sheared grid that it is, and not the upright one that most readers make of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry, geometry_from_affine
from unetcli.data.formats.itk import geometry_of, itk_reader, itk_told, numpy_type
from unetcli.data.formats.tif import damage_told
from unetcli.data.formats.volume_file import Array, VolumeFile, check_channels, split_axes
from unetcli.errors import DataError, counted

PREAMBLE = 128
MODALITY, DESCRIPTION, POSITION = "0008|0060", "0008|103e", "0020|0032"
THICKNESS, BITS_ALLOCATED = "0018|0050", "0028|0100"
NOT_IMAGES = {
    "SEG": "a segmentation", "RTSTRUCT": "contours", "RTDOSE": "a dose", "RTPLAN": "a plan", "SR": "a report",
    "PR": "a way of showing images", "KO": "a list of images", "REG": "a registration",
}  # fmt: skip
SAME_PLACE = 1e-3  # mm
STRAIGHT = 0.1  # steps that a slice may lie off its place, as where positions are rounded to a tenth of a millimetre


@dataclass(frozen=True, slots=True, eq=False)
class _Slice:
    """What one file tells; of several slices, where it is of many frames."""

    path: Path
    geometry: Geometry
    dtype: np.dtype[Any]
    num_channels: int
    has_position: bool
    thickness: float


def is_dicom(begin: bytes) -> bool:
    """Whether a file's first bytes are those of a DICOM file."""
    return begin[PREAMBLE : PREAMBLE + 4] == b"DICM"


def holds_dicom(folder: Path) -> bool:
    """Whether any file directly in a folder is of DICOM."""
    return any(_is_dicom_file(path) for path in folder.iterdir() if not path.name.startswith("."))


def open_dicom(path: Path, *, num_channels: int | None = None) -> VolumeFile:
    """Read the headers of a DICOM series, or of a single file; see `unetcli.data.formats.volumes.open_volume`.

    Raises:
        DataError: If a folder holds several series or none of images, or its slices do not lie on one grid.
    """
    slices = [_read_slice(file) for file in (_series(path) if path.is_dir() else [path])]
    first = slices[0]
    if len(slices) == 1:
        geometry = first.geometry
        if geometry.size[0] == 1 and first.thickness > 0:
            geometry = replace(geometry, spacing=(first.thickness, *geometry.spacing[1:]))
    else:
        _check_alike(path, slices)
        across = np.cross(first.geometry.direction[2], first.geometry.direction[1])
        slices.sort(key=lambda one: float(np.dot(across, one.geometry.origin)))
        geometry = _stacked(path, slices, across)
    check_channels(path, first.num_channels, num_channels)
    dtype = np.result_type(*(one.dtype for one in slices))
    shape = (first.num_channels, *geometry.size)
    notes = ("it is a single file; name its folder for the whole series",) if path.is_file() and shape[1] == 1 else ()
    read = partial(_read_slices, path, [one.path for one in slices], shape, dtype)
    return VolumeFile(path, "dicom", geometry, shape[0], dtype, read, notes=notes)


def _is_dicom_file(path: Path) -> bool:
    if not path.is_file():
        return False
    with damage_told(f"{path}"), path.open("rb") as file:
        return is_dicom(file.read(PREAMBLE + 4))


def _series(folder: Path) -> list[Path]:
    """The files of the one series of images in a folder, from one end to the other."""
    import SimpleITK

    series: dict[str, list[Path]] = {}
    with itk_told(f"{folder}"):
        for identifier in SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
            names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), identifier)
            series[identifier] = [Path(name) for name in names]
    _check_whole(folder, {path.name for files in series.values() for path in files})
    headers = {identifier: _tags(files[0]) for identifier, files in series.items()}
    others = {identifier for identifier, tags in headers.items() if tags.get(MODALITY) in NOT_IMAGES}
    images = [identifier for identifier in series if identifier not in others]
    if len(images) == 1:
        return series[images[0]]
    if not images:
        kinds = sorted({NOT_IMAGES[headers[identifier][MODALITY]] for identifier in others})
        found = f"of DICOM it holds only {', '.join(kinds)}" if kinds else "holds no DICOM files"
        raise DataError(f"{folder}: {found}", hint="name the folder of a series of images, or a file")
    listed = "; ".join(
        f"{counted(len(series[identifier]), 'file')} of '{headers[identifier].get(DESCRIPTION) or 'no description'}' "
        f"(such as {series[identifier][0].name})"
        for identifier in images
    )
    raise DataError(
        f"{folder}: holds {len(images)} series: {listed}", hint="put each into a folder of its own, and name that"
    )


def _check_whole(folder: Path, known: set[str]) -> None:
    """Raise DataError for a DICOM file that GDCM has left out of every series, since it cannot read it."""
    for path in sorted(folder.iterdir()):
        if path.name not in known and path.name.upper() != "DICOMDIR" and _is_dicom_file(path):
            raise DataError(
                f"{path}: cannot be read as DICOM, so a slice may be missing",
                hint="the file may be damaged or cut off; copy or download it again",
            )


def _tags(path: Path) -> dict[str, str]:
    """The tags of a file that messages and checks use, as far as it has them."""
    reader = itk_reader(path, "GDCMImageIO")
    try:
        with itk_told(f"{path}"):
            reader.ReadImageInformation()
    except DataError:  # told of when its slices are read, if they are wanted
        return {}
    return _tags_of(reader)


def _tags_of(reader: Any) -> dict[str, str]:
    names = (MODALITY, DESCRIPTION, POSITION, THICKNESS, BITS_ALLOCATED)
    return {name: reader.GetMetaData(name).strip() for name in names if reader.HasMetaDataKey(name)}


def _read_slice(path: Path) -> _Slice:
    """What the header of one file tells."""
    reader = itk_reader(path, "GDCMImageIO")
    with itk_told(f"{path}"):
        reader.ReadImageInformation()
    tags = _tags_of(reader)
    if kind := NOT_IMAGES.get(tags.get(MODALITY, "")):
        raise DataError(f"{path}: is {kind}, not an image", hint="name the folder of the series of images")
    dtype = numpy_type(path, reader.GetPixelIDValue())
    if dtype == np.float64 and int(tags.get(BITS_ALLOCATED, "64")) <= 16:
        dtype = np.dtype(np.float32)  # scaled, from values that float32 holds
    size, _ = split_axes(path, tuple(map(int, reader.GetSize())), None)
    geometry = geometry_of(path, size, reader)
    return _Slice(
        path,
        geometry,
        dtype,
        int(reader.GetNumberOfComponents()),
        POSITION in tags or geometry.size[0] > 1,
        _number(tags.get(THICKNESS, "")),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _check_alike(path: Path, slices: Sequence[_Slice]) -> None:
    """Raise DataError if slices are not of one size, orientation and kind, each with its position."""
    first = slices[0]
    for one in slices:
        ours, theirs = first.geometry, one.geometry
        if one.num_channels != first.num_channels or theirs.size != ours.size:
            what = f"{theirs.size[2]} x {theirs.size[1]} px, but {first.path.name} of {ours.size[2]} x {ours.size[1]}"
            reason = f"is of {what}"
        elif theirs.size[0] > 1:
            reason = f"is a volume of {theirs.size[0]} slices by itself"
        elif not one.has_position:
            reason = "does not tell its position"
        elif np.abs(np.array(ours.direction[1:]) - np.array(theirs.direction[1:])).max() > 1e-3:
            reason = f"is not parallel to {first.path.name}, as with a localizer"
        elif np.abs(np.array(ours.spacing[1:]) - np.array(theirs.spacing[1:])).max() > 1e-3 * min(ours.spacing[1:]):
            reason = f"has pixels of another size than {first.path.name}"
        else:
            continue
        raise DataError(f"{path}: {one.path.name} {reason}", hint="leave only slices of one volume in the folder")


def _stacked(path: Path, slices: Sequence[_Slice], across: NDArray[np.float64]) -> Geometry:
    """The grid of parallel slices in order along the normal `across`, with the step from the first to the last."""
    positions = np.array([one.geometry.origin for one in slices])
    distances = np.diff(positions @ across)
    nearest = int(distances.argmin())
    if distances[nearest] < SAME_PLACE:
        raise DataError(
            f"{path}: {_pair(slices, nearest)} lie in the same place, so the series is of several volumes",
            hint="put the slices of each volume, such as a time or an echo, into a folder of their own",
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    ideal = positions[0] + np.arange(len(slices))[:, None] * step
    if np.linalg.norm(positions - ideal, axis=1).max() > STRAIGHT * np.linalg.norm(step):
        raise _uneven(path, slices, distances)
    affine = slices[0].geometry.affine
    affine[:3, 0] = step
    return geometry_from_affine(affine, (len(slices), *slices[0].geometry.size[1:]))


def _uneven(path: Path, slices: Sequence[_Slice], distances: NDArray[np.float64]) -> DataError:
    """What is wrong with slices that lie on no grid."""
    usual = float(np.median(distances))
    worst = int(np.abs(distances - usual).argmax())
    steps = float(distances[worst]) / usual
    if abs(steps - 1) <= STRAIGHT:
        return DataError(f"{path}: its slices do not lie on a straight line", hint="resample the series to a grid")
    is_gap = steps > 1.5 and abs(steps - round(steps)) <= STRAIGHT
    count = round(steps) - 1
    missing = f", as if {count} slice{'s were' if count > 1 else ' was'} missing" if is_gap else ""
    return DataError(
        f"{path}: {_pair(slices, worst)} lie {distances[worst]:.4g} mm apart, but most others {usual:.4g} mm{missing}",
        hint="copy the series again, or resample it to a grid",
    )


def _pair(slices: Sequence[_Slice], index: int) -> str:
    return f"{slices[index].path.name} and {slices[index + 1].path.name}"


def _read_slices(path: Path, files: Sequence[Path], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """The pixels of all files as one array."""
    voxels = np.empty(shape, dtype)
    for index, file in enumerate(files):
        pixels = _pixels(file)
        target = voxels if len(files) == 1 else voxels[:, index]
        pixels = np.moveaxis(pixels, -1, 0) if shape[0] > 1 else pixels
        if pixels.size != target.size:
            raise DataError(f"{path}: {file.name} has changed since its header was read")
        target[...] = pixels.reshape(target.shape)
    return voxels


def _pixels(path: Path) -> Array:
    import SimpleITK

    with itk_told(f"{path}"):
        return SimpleITK.GetArrayFromImage(itk_reader(path, "GDCMImageIO").Execute())
