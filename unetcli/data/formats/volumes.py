"""Reading volumes of any format: the front door.

A file is what its content says, whatever its suffix; a folder is a DICOM series. TIF stacks are read here, by way of
`images.py`; the other formats have files of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from unetcli.core.geometry import Geometry
from unetcli.data.formats.dicom import holds_dicom, is_dicom, open_dicom
from unetcli.data.formats.images import OTHER_BEGINS, TIF_BEGINS, ImageFile, Searched, find_files, open_image
from unetcli.data.formats.itk import NRRD_BEGINS, is_metaimage, open_itk
from unetcli.data.formats.jpeg import JPEG_BEGINS
from unetcli.data.formats.nifti import first_bytes, is_nifti, open_nifti
from unetcli.data.formats.png import PNG_BEGINS
from unetcli.data.formats.tif import MICROMETRES, tifffile_told
from unetcli.data.formats.volume_file import Array, VolumeFile
from unetcli.errors import DataError, counted

SUFFIXES = frozenset({".nii", ".nii.gz", ".mhd", ".mha", ".nrrd", ".nhdr", ".tif", ".tiff"})
VOXELS_ONLY = frozenset({".raw", ".zraw"})
BEGIN_BYTES = 600  # more than the header of NIfTI-2
NAMES = {
    **OTHER_BEGINS,
    PNG_BEGINS: "PNG",
    JPEG_BEGINS: "JPEG",
    b"\x89HDF": "HDF5",
    b"CDF": "MINC or NetCDF",
    b"\0\0\0\1": "FreeSurfer MGH",
}
VOLUMES = Searched(
    "volumes",
    "name NIfTI, MetaImage (.mhd, not its .raw), NRRD or TIF files, or folders of them or of a DICOM series",
    SUFFIXES,
    VOXELS_ONLY,
    holds_dicom,
)


def find_volumes(places: Iterable[Path | str]) -> list[Path]:
    """The volumes that arguments of a command line mean, each once; see `unetcli.data.formats.images.find_files`.

    A folder means the volumes directly in it, folders of DICOM files among them, and itself if it holds such. Files
    `.raw` and `.zraw` are passed over, since they are parts of a `.mhd`.

    Raises:
        DataError: If a file is not there, or a folder or pattern has no volumes.
    """
    return find_files(places, VOLUMES)


def open_volume(path: Path, *, num_channels: int | None = None) -> VolumeFile:
    """Read the header of a volume of any format: NIfTI, MetaImage, NRRD, TIF, or a folder of a DICOM series.

    Args:
        path: A file, or a folder that holds one DICOM series.
        num_channels: Channels that it must have. A file of four axes has as many as the fourth is long.

    Raises:
        DataError: If it is missing, none of these, damaged, or has other channels, values that are not real numbers,
            or a grid that is none.
    """
    if path.is_dir():
        return open_dicom(path, num_channels=num_channels)
    begin = first_bytes(path, BEGIN_BYTES)
    if is_nifti(begin):
        return open_nifti(path, num_channels=num_channels)
    if begin.startswith(NRRD_BEGINS):
        return open_itk(path, "nrrd", num_channels=num_channels)
    if is_dicom(begin):  # before TIF, whose first bytes a DICOM file may have too
        return open_dicom(path, num_channels=num_channels)
    if begin.startswith(TIF_BEGINS):
        return _open_tif(path, num_channels)
    if is_metaimage(begin):
        return open_itk(path, "metaimage", num_channels=num_channels)
    kind = next((name for start, name in NAMES.items() if begin.startswith(start)), "")
    found = f"is {kind}" if kind else f"begins with {begin[:8].decode('latin-1')!a}" if begin else "is empty"
    hint = "save it as .nii.gz" + (", as `mri_convert` does" if "MGH" in kind else "")
    hint = "name the header that belongs to it, .mhd or .nhdr" if path.suffix.lower() in VOXELS_ONLY else hint
    raise DataError(f"{path}: must be NIfTI, MetaImage, NRRD, DICOM or TIF, but {found}", hint=hint)


def _open_tif(path: Path, num_channels: int | None) -> VolumeFile:
    """The pages of a TIF as slices."""
    with open_image(path, num_channels=num_channels) as image:
        sizes = set(image.page_sizes)
        lengths = {axis: size for axis, size in image.layout if size > 1}
        if len(sizes) > 1:
            raise DataError(
                f"{path}: has pages of {len(sizes)} sizes, which make no volume", hint="save each image by itself"
            )
        if {"Z", "T"} <= set(lengths):
            raise DataError(
                f"{path}: has {lengths['Z']} slices at {lengths['T']} times, but a volume has one time",
                hint="save each time as a file of its own",
            )
        first = image.read(0)
        spacing, note = _tif_spacing(path, image)
        size = (image.num_pages, *image.page_sizes[0])
    shape = (len(first), *size)
    read = partial(_read_tif, path, num_channels, shape, first.dtype)
    geometry = Geometry(size, spacing or (1.0, 1.0, 1.0))
    notes = (note,) if note else ()
    return VolumeFile(path, "tif", geometry, len(first), first.dtype, read, spacing is not None, notes)


def _tif_spacing(path: Path, image: ImageFile) -> tuple[tuple[float, float, float] | None, str]:
    """Size of a voxel in mm as OME or ImageJ tell it, and what to know of it."""
    sizes = _ome_sizes(path)
    if sizes is None and (plane := image.pixel_size.micrometres) is not None:
        lines = dict(line.split("=", 1) for line in image.pixel_size.imagej or ())
        factor = MICROMETRES.get(lines.get("zunit", lines.get("unit", "")).lower(), 0.0)
        sizes = (_number(lines.get("spacing", "")) * factor, *plane)
    if sizes is None:
        return None, "it does not tell the size of its voxels"
    depth, *plane = (size / 1000 for size in sizes)
    if depth == 0 and image.num_pages > 1:
        return None, "it tells the size of its pixels, but not the distance of its slices"
    if min(plane) <= 0:
        return None, "it does not tell the size of its voxels"
    return (depth or 1.0, plane[0], plane[1]), ""


def _ome_sizes(path: Path) -> tuple[float, float, float] | None:
    """PhysicalSizeZ, Y and X of an OME-TIFF in micrometres, 0 where one is not told; None if it is no OME-TIFF."""
    import tifffile

    with tifffile_told(f"{path}"), tifffile.TiffFile(path) as tif:
        text = tif.pages.first.description if tif.is_ome else ""
    pixels = re.search(r"<(?:\w+:)?Pixels\s[^>]*>", text)
    if pixels is None:
        return None
    found = dict(re.findall(r'(PhysicalSize\w+)\s*=\s*"([^"]*)"', pixels[0]))
    units = (MICROMETRES.get(found.get(f"PhysicalSize{axis}Unit", "um").lower(), 0.0) for axis in "ZYX")
    z, y, x = (_number(found.get(f"PhysicalSize{axis}", "")) * unit for axis, unit in zip("ZYX", units, strict=True))
    return z, y, x


def _number(text: str) -> float:
    """The size that a text tells, without sign; 0 if none."""
    try:
        number = abs(float(text))
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def _read_tif(path: Path, num_channels: int | None, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    voxels = np.empty(shape, dtype)
    with open_image(path, num_channels=num_channels) as image:
        for index, page in enumerate(image):
            if page.shape != voxels[:, index].shape or page.dtype != dtype:
                raise DataError(
                    f"{path}: page {index + 1} is {page.dtype} of {counted(len(page), 'channel')}, "
                    f"but the first is {dtype} of {shape[0]}",
                    hint="save all pages alike",
                )
            voxels[:, index] = page
    return voxels
