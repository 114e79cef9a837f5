"""Reading and writing NIfTI-1 and NIfTI-2 files.

nibabel knows the header. The voxels are read and written here, since on disk they lie as `(C, Z, Y, X)` in C order
already: X runs fastest and the channels slowest.

Orientation is that of the standard (nifti1.h): the sform if its code is above 0, else the qform if its is, else only
the sizes of voxels, which tell of no orientation; those are then laid along x, y and z from 0, as ITK does.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Geometry, geometry_from_affine
from unetcli.data.formats.large_files import write_bytes
from unetcli.data.formats.tif import damage_told
from unetcli.data.formats.volume_file import Array, VolumeFile, check_type, scale, scaled_type, split_axes
from unetcli.errors import DataError

Header = Any  # nibabel's Nifti1Header or Nifti2Header, whose fields are not typed
GZIP_BEGINS = b"\x1f\x8b"
GZIP_BITS = 31  # of zlib, for the form of gzip
NIFTI1_BYTES, NIFTI2_BYTES = 348, 540
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
XYZ_TO_ZYX = [2, 1, 0, 3]
MILLIMETRES = {1: 1e3, 2: 1.0, 3: 1e-3}  # nifti1.h, xyzt_units: metre, millimetre, micrometre
PIECE = 2**24  # bytes
ONE_GO = 2**28  # bytes up to which a file is packed or unpacked as a whole
FAMILIAR_SIZE = 2**15 - 1  # the largest that the header of NIfTI-1 holds


@dataclass(frozen=True, slots=True, eq=False)
class NiftiHeader:
    """What is needed of a header.

    Args:
        header: As nibabel reads it.
        stored: The type on disk, with its byte order.
        offset: Where the voxels begin.
        slope: What values are multiplied by.
        intercept: What is added to them then.
    """

    header: Header
    stored: np.dtype[Any]
    offset: int
    slope: float
    intercept: float

    @property
    def sizes(self) -> tuple[int, ...]:
        """Length of each axis, X first."""
        return tuple(int(size) for size in self.header.get_data_shape())

    @property
    def is_scaled(self) -> bool:
        """Whether the values on disk are not those that are meant."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def num_bytes(self) -> int:
        """Bytes of all voxels on disk."""
        return math.prod(self.sizes) * self.stored.itemsize


def is_nifti(begin: bytes) -> bool:
    """Whether a file's first bytes are those of a NIfTI header, of either version and byte order."""
    sizes = {int.from_bytes(begin[:4], order) for order in ("little", "big")}
    return (NIFTI1_BYTES in sizes and begin[344:347] in {b"n+1", b"ni1"}) or (
        NIFTI2_BYTES in sizes and begin[4:7] in {b"n+2", b"ni2"}
    )


def open_nifti(path: Path, *, num_channels: int | None = None) -> VolumeFile:
    """Read the header of a NIfTI file, compressed by gzip or not; see `unetcli.data.formats.volumes.open_volume`.

    Raises:
        DataError: If it is damaged, or of values, axes or an affine that no volume has.
    """
    info = read_header(path)
    check_type(path, info.stored)
    size, channels = split_axes(path, info.sizes, num_channels)
    geometry, is_told = _geometry(path, info.header, size)
    with path.open("rb") as file:
        is_plain = file.read(2) != GZIP_BEGINS
    if is_plain and path.stat().st_size < info.offset + info.num_bytes:
        raise DataError(
            f"{path}: cut off; {path.stat().st_size} of {info.offset + info.num_bytes} bytes are there",
            hint="copy or download the file again",
        )
    dtype = scaled_type(info.stored, info.slope, info.intercept) if info.is_scaled else info.stored.newbyteorder("=")
    notes = () if is_told else ("it tells no orientation; its axes are taken for those of the patient",)
    read = partial(_read_voxels, path, info, (channels, *size))
    return VolumeFile(path, "nifti", geometry, channels, dtype, read, notes=notes)


def read_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI file as it stands.

    Raises:
        DataError: If it cannot be read, or is the header of a pair of files.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    begin = first_bytes(path, NIFTI2_BYTES)
    if not is_nifti(begin):
        raise DataError(f"{path}: is not a NIfTI file", hint="write it again")
    version = 1 if NIFTI1_BYTES in {int.from_bytes(begin[:4], order) for order in ("little", "big")} else 2
    kind, length = (Nifti1Header, NIFTI1_BYTES) if version == 1 else (Nifti2Header, NIFTI2_BYTES)
    with damage_told(f"{path}"):
        header: Header = kind(begin[:length], check=False)
    if bytes(header["magic"])[:2] == b"ni":
        raise DataError(
            f"{path}: is the header of a pair of files (.hdr and .img)",
            hint="save it as one .nii file, with nibabel or `fslchfiletype NIFTI`",
        )
    try:
        slope, intercept = header.get_slope_inter()
        stored = header.get_data_dtype()
        header.get_data_shape()
        offset = max(int(header["vox_offset"]), length + 4)
    except (HeaderDataError, ValueError, KeyError, OverflowError) as error:
        raise DataError(f"{path}: has a damaged header ({error})", hint="write the file again") from error
    return NiftiHeader(header, stored, offset, 1.0 if slope is None else slope, intercept or 0.0)


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, or of what gzip has packed in it, even if the rest of it is damaged.

    Raises:
        DataError: If it cannot be read.
    """
    with damage_told(f"{path}"), path.open("rb") as file:
        begin = file.read(2**13)
        if not begin.startswith(GZIP_BEGINS):
            return begin[:count]
        return zlib.decompressobj(GZIP_BITS).decompress(begin, count) or begin[:count]


@contextmanager
def opened(path: Path) -> Generator[BinaryIO]:
    """A file to read, through gzip if it is compressed."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == GZIP_BEGINS
        file.seek(0)
        if is_compressed:
            with gzip.open(file) as inner:
                yield cast("BinaryIO", inner)
        else:
            yield file


def _read_voxels(path: Path, info: NiftiHeader, shape: tuple[int, ...]) -> Array:
    with damage_told(f"{path}"):
        voxels = _unpacked(path, info)
        if voxels is None:
            voxels = np.empty(info.num_bytes // info.stored.itemsize, info.stored)
            with opened(path) as file:
                file.seek(info.offset)
                _fill(file, voxels)
                file.read(1)  # at the end of its data, gzip compares the checksum
    voxels = voxels.reshape(shape)
    if not info.stored.isnative:
        voxels = voxels.byteswap(inplace=True).view(info.stored.newbyteorder("="))
    return scale(voxels, info.slope, info.intercept) if info.is_scaled else voxels


def _unpacked(path: Path, info: NiftiHeader) -> Array | None:
    """The voxels of a compressed file, decoded in one go; None for any other, and where that fails for any reason.

    libdeflate is thrice as fast as zlib, but knows only plain files of one piece, and gives no reasons.
    """
    import imagecodecs

    with path.open("rb") as file:
        if file.read(2) != GZIP_BEGINS or info.num_bytes > ONE_GO:
            return None
        file.seek(0)
        packed = file.read()
    content = np.empty(info.offset + info.num_bytes, np.uint8)
    try:
        decoded = imagecodecs.gzip_decode(packed, out=content.data)
    except imagecodecs.DeflateError:
        return None
    is_aligned = info.offset % info.stored.itemsize == 0
    return content[info.offset :].view(info.stored) if len(decoded) == len(content) and is_aligned else None


def _fill(file: BinaryIO, array: Array) -> None:
    """Fill an array from a file, whatever pieces it comes in."""
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = file.readinto(view[done : done + PIECE])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise EOFError(f"{done} of {len(view)} bytes of voxels are there")
        done += count


def _geometry(path: Path, header: Header, size: tuple[int, int, int]) -> tuple[Geometry, bool]:
    """The grid, and whether the file tells how it lies in the patient."""
    from nibabel.spatialimages import HeaderDataError

    is_told = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
    try:
        if header["sform_code"] > 0:
            affine = RAS_TO_LPS @ np.asarray(header.get_sform(), np.float64)
        elif header["qform_code"] > 0:
            affine = RAS_TO_LPS @ _qform(header)
        else:
            affine = np.diag([*np.abs(np.asarray(header["pixdim"][1:4], np.float64)), 1.0])
        affine = affine[:, XYZ_TO_ZYX]
        affine[:3] *= MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
        return geometry_from_affine(_with_thickness(affine, size), size), is_told
    except (HeaderDataError, ValueError) as error:
        name = "sform" if header["sform_code"] > 0 else "qform" if header["qform_code"] > 0 else "size of voxels"
        raise DataError(
            f"{path}: its {name} does not place the voxels ({error})",
            hint="write a sound affine into it, with nibabel for example",
        ) from error


def _qform(header: Header) -> NDArray[np.float64]:
    """The affine of the qform, with the sign 0 of the standard read as 1 and sizes without sign."""
    sound = header.copy()
    sound["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    sound["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
    return np.asarray(sound.get_qform(), np.float64)


def _with_thickness(affine: NDArray[np.float64], size: tuple[int, int, int]) -> NDArray[np.float64]:
    """The affine of a single slice, or row, whose thickness is not told, with 1 mm across it."""
    flat = [axis for axis in range(3) if size[axis] == 1 and not affine[:3, axis].any()]
    if len(flat) == 1:
        first, second = (affine[:3, axis] for axis in range(3) if axis != flat[0])
        across = np.cross(first, second)
        affine = affine.copy()
        affine[:3, flat[0]] = across / max(float(np.linalg.norm(across)), 1e-300)
    return affine


def header_of(geometry: Geometry, num_channels: int, dtype: np.dtype[Any]) -> Header:
    """A new little-endian header: the affine as sform, and as qform too where that can hold it, in mm."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    sizes = (*geometry.size[::-1], *([num_channels] if num_channels > 1 else []))
    header = (Nifti1Header if max(sizes) <= FAMILIAR_SIZE else Nifti2Header)(endianness="<")
    affine = RAS_TO_LPS @ geometry.affine[:, XYZ_TO_ZYX]
    prepare_header(header, sizes, dtype)
    header.set_zooms((*geometry.spacing[::-1], *([1.0] if num_channels > 1 else [])))
    header.set_xyzt_units("mm")
    header.set_qform(affine, 1)
    corners = np.array(np.meshgrid(*[(0, n) for n in geometry.size[::-1]], [1], indexing="ij")).reshape(4, -1)
    offsets = np.abs((np.asarray(header.get_qform(), np.float64) - affine) @ corners).max()
    if offsets > 1e-3 * min(geometry.spacing):
        header.set_qform(None, 0)
        header["pixdim"][0] = 1
    header.set_sform(affine, 1)
    return header


def prepare_header(header: Header, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Make a header that of a single file of these axes (X first) and this type, unscaled."""
    header.set_data_shape(sizes)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    header["cal_min"] = header["cal_max"] = 0


def copied_header(source: Header, num_channels: int, dtype: np.dtype[Any]) -> Header:
    """The little-endian header of a file on just the grid of another, unscaled and without what its values mean."""
    header = source.as_byteswapped("<")
    sizes = tuple(int(size) for size in header.get_data_shape())[:3]
    sizes = (*sizes, *[1] * (3 - len(sizes)), num_channels) if num_channels > 1 else sizes
    prepare_header(header, sizes, dtype)
    header["intent_code"] = 0
    header["intent_name"] = b""
    return header


def write_nifti(path: Path, header: Header, voxels: Array, *, level: int) -> None:
    """Write a file; without compression, voxels in C order are written from where they lie.

    Args:
        path: Where to.
        header: Its header.
        voxels: `(C, Z, Y, X)` or `(Z, Y, X)`.
        level: Of gzip; 0 for none.
    """
    import imagecodecs

    begin = header.binaryblock + bytes(int(header["vox_offset"]) - len(header.binaryblock))  # without extensions
    content = np.ascontiguousarray(voxels, header.get_data_dtype()).reshape(-1).view(np.uint8)
    if not level:
        write_bytes(path, (begin, content.data))
        return
    with path.open("wb") as file:
        if len(content) <= ONE_GO:  # libdeflate is twice as fast as zlib
            file.write(imagecodecs.gzip_encode(b"".join((begin, content.data)), level=level))
        else:
            with gzip.GzipFile("", "wb", level, file, mtime=0) as packed:
                packed.write(begin)
                packed.write(content.data)


def is_as_written(path: Path, header: Header, voxels: Array) -> bool:
    """Whether a file that `write_nifti` wrote reads back with this header, to the bit, and these voxels.

    Raises:
        DataError: If it cannot be read.
    """
    content = np.ascontiguousarray(voxels, header.get_data_dtype()).reshape(-1).view(np.uint8)
    with damage_told(f"{path}"), opened(path) as file:
        if file.read(len(header.binaryblock)) != header.binaryblock:
            return False
        file.read(int(header["vox_offset"]) - len(header.binaryblock))
        for begin in range(0, len(content), PIECE):
            part = content[begin : begin + PIECE]
            if not np.array_equal(np.frombuffer(file.read(len(part)), np.uint8), part):
                return False
        return not file.read(1)
