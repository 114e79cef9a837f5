"""Reading and writing MetaImage (.mhd, .mha) and NRRD (.nrrd, .nhdr).

SimpleITK reads the headers, since both formats have many ways to say where voxels lie. It reads the voxels too, but for
plain MetaImage files: of those that are cut off ITK prints to the terminal, and it copies voxels twice.

Masks repeat the grid of their source to the last bit. MetaImage holds spacing and directions apart, as `Geometry`
does, so that their decimals repeat them; NRRD holds their products, so that the source's own words are repeated.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unetcli.core.geometry import Directions, Geometry, Triple, geometry_from_affine
from unetcli.data.formats.tif import damage_told
from unetcli.data.formats.volume_file import Array, VolumeFile, VolumeFormat, check_channels, check_type, split_axes
from unetcli.errors import DataError

Fields = dict[str, str]
NRRD_BEGINS = b"NRRD"
HEADER_LIMIT = 2**20
LEVEL = 4  # of zlib and gzip for masks, which are mostly of equal values
META_TYPES = {
    "MET_CHAR": "int8", "MET_UCHAR": "uint8", "MET_SHORT": "int16", "MET_USHORT": "uint16",
    "MET_INT": "int32", "MET_UINT": "uint32", "MET_FLOAT": "float32", "MET_DOUBLE": "float64",
}  # fmt: skip
NRRD_TYPES = {"uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned int"}


def is_metaimage(begin: bytes) -> bool:
    """Whether a file's first bytes are those of a MetaImage header."""
    return re.match(rb"\s*(Comment|ObjectType|ObjectSubType|NDims|Name|ID)\s*=", begin) is not None


def open_itk(path: Path, kind: VolumeFormat, *, num_channels: int | None = None) -> VolumeFile:
    """Read the header of a MetaImage or NRRD file; see `unetcli.data.formats.volumes.open_volume`.

    Raises:
        DataError: If it is damaged, its voxels are in a file that is not there, or it is of values, axes or a grid
            that no volume has.
    """
    fields = header_fields(path, kind)
    _check_header(path, kind, fields)
    reader = itk_reader(path, "MetaImageIO" if kind == "metaimage" else "NrrdImageIO")
    with itk_told(f"{path}"):
        reader.ReadImageInformation()
    dtype = numpy_type(path, reader.GetPixelIDValue())
    components = int(reader.GetNumberOfComponents())
    size, further = split_axes(path, tuple(map(int, reader.GetSize())), None if components > 1 else num_channels)
    if components > 1 < further:
        raise DataError(f"{path}: has {components} values a voxel in each of {further} volumes", hint="take them apart")
    check_channels(path, components * further, num_channels)
    is_told = any(name in fields for name in ("elementspacing", "elementsize", "spacings", "space directions"))
    shape = (components * further, *size)
    is_plain = kind == "metaimage" and _is_plain(fields, dtype)
    read = _read_plain if is_plain else _read_itk
    return VolumeFile(
        path,
        kind,
        geometry_of(path, size, reader),
        shape[0],
        dtype,
        partial(read, path, shape, dtype, components > 1),
        has_spacing=is_told,
        notes=() if is_told else ("it does not tell the size of its voxels",),
    )


def _check_header(path: Path, kind: VolumeFormat, fields: Fields) -> None:
    """Raise DataError for a header that ITK would print complaints of, or whose voxels are not there."""
    lacking = [name for name in ("NDims", "DimSize", "ElementType") if name.lower() not in fields]
    if kind == "metaimage" and lacking:
        raise DataError(f"{path}: has a header without {' and '.join(lacking)}", hint="write its header again")
    for file in _data_files(path, fields):
        if not file.is_file():
            raise DataError(
                f"{path}: its voxels are in {file.name}, which is not beside it",
                hint=f"copy {file} there too; the two files belong together",
            )


def itk_reader(path: Path, image_io: str) -> Any:
    """SimpleITK's reader of a file by one of ITK's formats, whatever the file's name says."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    return reader


@contextmanager
def itk_told(where: str) -> Generator[None]:
    """Turn what ITK raises into a DataError that begins with `where`, and keep its warnings off the terminal."""
    import SimpleITK

    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = re.sub(
            r"^(Reason|sitk::ERROR|ITK ERROR): *|\w+\(0x\w+\): *", "", lines[-1] if lines else "no reason given"
        )
        raise DataError(
            f"{where}: cannot be read ({reason[:200]})",
            hint="the file may be damaged or cut off; copy or download it again",
        ) from error


def numpy_type(path: Path, pixel_id: int) -> np.dtype[Any]:
    """The type of a value of SimpleITK's pixel type.

    Raises:
        DataError: If it is not of integers or real numbers.
    """
    import SimpleITK

    name = SimpleITK.GetPixelIDValueAsString(pixel_id)
    number = re.fullmatch(r"(?:vector of )?(\d+)-bit (unsigned integer|signed integer|float)", name)
    if number is None:
        raise DataError(f"{path}: has values of type {name}", hint="save it as integers or real numbers")
    letter = {"unsigned integer": "u", "signed integer": "i", "float": "f"}[number[2]]
    dtype = np.dtype(f"{letter}{int(number[1]) // 8}")
    check_type(path, dtype)
    return dtype


def geometry_of(path: Path, size: tuple[int, int, int], reader: Any) -> Geometry:
    """The grid that SimpleITK found, of two axes or more.

    Raises:
        DataError: If it is no grid.
    """
    ndim = min(int(reader.GetDimension()), 3)
    matrix = np.array(reader.GetDirection(), np.float64).reshape(int(reader.GetDimension()), -1)
    full = np.eye(3)
    full[:ndim, :ndim] = matrix[:ndim, :ndim]
    spacing = [*map(float, reader.GetSpacing()[:ndim]), 1.0][:3]
    origin = [*map(float, reader.GetOrigin()[:ndim]), 0.0][:3]
    direction = tuple(tuple(map(float, full[:, axis])) for axis in (2, 1, 0))
    try:
        if np.abs(np.linalg.norm(full, axis=0) - 1).max() > 1e-4:  # steps that are longer than the spacing
            affine = np.eye(4)
            affine[:3, :3], affine[:3, 3] = (full * spacing)[:, ::-1], origin
            return geometry_from_affine(affine, size)
        return Geometry(
            size, cast("Triple", tuple(spacing[::-1])), cast("Triple", tuple(origin)), cast("Directions", direction)
        )
    except ValueError as error:
        raise DataError(f"{path}: does not place its voxels ({error})", hint="write its header again") from error


def header_fields(path: Path, kind: VolumeFormat) -> Fields:
    """The lines of a header by their names in lower case.

    Raises:
        DataError: If the file cannot be read.
    """
    header, _ = _split_header(path, kind)
    separator = "=" if kind == "metaimage" else ":"
    pairs = (line.split(separator, 1) for line in header.splitlines() if separator in line and line[:1] != "#")
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _split_header(path: Path, kind: VolumeFormat) -> tuple[str, int]:
    """The text of a header, and the byte where voxels begin if they follow it."""
    with damage_told(f"{path}"), path.open("rb") as file:
        begin = file.read(HEADER_LIMIT)
    last = rb"^\s*ElementDataFile\s*=.*$\n?" if kind == "metaimage" else rb"\n\r?\n"
    found = re.search(last, begin, re.MULTILINE)
    if found is None and (kind == "metaimage" or len(begin) == HEADER_LIMIT):
        raise DataError(f"{path}: has a header without an end; it may be cut off", hint="copy or download it again")
    end = found.end() if found else len(begin)
    return begin[:end].decode("utf-8", "replace"), end


def data_files(path: Path, kind: VolumeFormat) -> tuple[Path, ...]:
    """The files beside a header that its voxels are in; none if they are in the file itself, or named by a pattern."""
    if kind not in {"metaimage", "nrrd"}:
        return ()
    return _data_files(path, header_fields(path, kind))


def _data_files(path: Path, fields: Fields) -> tuple[Path, ...]:
    name = fields.get("elementdatafile") or fields.get("data file") or fields.get("datafile") or ""
    if not name or name.upper().startswith(("LOCAL", "LIST")) or "%" in name:
        return ()
    return (path.parent / name,)


def _is_plain(fields: Fields, dtype: np.dtype[Any]) -> bool:
    """Whether the voxels of a MetaImage are in one binary piece."""
    file = fields["elementdatafile"]
    return (
        META_TYPES.get(fields.get("elementtype", "")) == dtype.name
        and _is_true(fields, "binarydata")
        and fields.get("headersize", "0") == "0"
        and not file.upper().startswith("LIST")
        and "%" not in file
    )


def _is_true(fields: Fields, name: str) -> bool:
    return fields.get(name, "").upper() in {"TRUE", "T", "1", "YES"}


def _read_plain(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], is_vector: bool) -> Array:
    """The voxels of a MetaImage for which `_is_plain` holds."""
    fields = header_fields(path, "metaimage")
    files = _data_files(path, fields)
    offset = 0 if files else _split_header(path, "metaimage")[1]
    is_big = _is_true(fields, "binarydatabyteordermsb") or _is_true(fields, "elementbyteordermsb")
    stored = dtype.newbyteorder(">" if is_big else "<")
    on_disk = (*shape[1:], shape[0]) if is_vector else shape
    file = files[0] if files else path
    num_bytes = math.prod(shape) * dtype.itemsize
    with damage_told(f"{path}" if file == path else f"{path}: its {file.name}"):
        if _is_true(fields, "compresseddata"):
            with file.open("rb") as opened:
                opened.seek(offset)
                voxels = _inflated(opened.read(), num_bytes).view(stored).reshape(on_disk)
        else:
            found = file.stat().st_size - offset
            if found < num_bytes:
                raise EOFError(f"{found} of {num_bytes} bytes of voxels are there")
            voxels = np.fromfile(file, stored, math.prod(shape), offset=offset).reshape(on_disk)
    if not stored.isnative:
        voxels = voxels.byteswap(inplace=True).view(dtype)
    return np.ascontiguousarray(np.moveaxis(voxels, -1, 0)) if is_vector else voxels.view(dtype)


def _inflated(packed: bytes, num_bytes: int) -> NDArray[np.uint8]:
    """Bytes that zlib has packed, by libdeflate, which needs an eighth of its time and no copy."""
    import imagecodecs

    content = np.empty(num_bytes, np.uint8)
    try:
        found = len(imagecodecs.deflate_decode(packed, out=content.data))
    except imagecodecs.DeflateError as error:
        raise EOFError(f"its compressed voxels are damaged, or not {num_bytes} bytes") from error
    if found != num_bytes:
        raise EOFError(f"{found} of {num_bytes} bytes of voxels are there")
    return content


def _read_itk(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], is_vector: bool) -> Array:
    """The voxels of any file, by SimpleITK."""
    import SimpleITK

    with path.open("rb") as file:
        is_nrrd = file.read(4) == NRRD_BEGINS
    with itk_told(f"{path}"):
        image = itk_reader(path, "NrrdImageIO" if is_nrrd else "MetaImageIO").Execute()
    voxels = np.asarray(SimpleITK.GetArrayFromImage(image), dtype)
    return np.ascontiguousarray(np.moveaxis(voxels, -1, 0) if is_vector else voxels).reshape(shape)


def write_metaimage(path: Path, labels: Array, source: VolumeFile) -> None:
    """Write labels `(Z, Y, X)` of an unsigned type as MetaImage, compressed, on the grid of `source`.

    For a `.mhd`, the voxels go into a `.zraw` of the same stem. Raises OSError where the system refuses.
    """
    is_pair = path.suffix.lower() == ".mhd"
    fields = header_fields(source.path, "metaimage") if source.format == "metaimage" else {}
    orientation = fields.get("anatomicalorientation")
    ndim = 2 if fields.get("ndims") == "2" else 3
    geometry = source.geometry
    content = zlib.compress(np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")).data, LEVEL)
    letters = {1: "MET_UCHAR", 2: "MET_USHORT", 4: "MET_UINT"}
    matrix = [number for vector in geometry.direction[::-1][:ndim] for number in vector[:ndim]]
    lines = {
        "ObjectType": "Image",
        "NDims": str(ndim),
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": str(len(content)),
        "TransformMatrix": _text(matrix),
        "Offset": _text(geometry.origin[:ndim]),
        "CenterOfRotation": _text([0.0] * ndim),
        **({"AnatomicalOrientation": orientation} if orientation else {}),
        "ElementSpacing": _text(geometry.spacing[::-1][:ndim]),
        "DimSize": " ".join(map(str, labels.shape[::-1][:ndim])),
        "ElementType": letters[labels.dtype.itemsize],
        "ElementDataFile": f"{path.stem}.zraw" if is_pair else "LOCAL",
    }
    header = "".join(f"{name} = {value}\n" for name, value in lines.items()).encode()
    if is_pair:
        path.with_suffix(".zraw").write_bytes(content)
        path.write_bytes(header)
    else:
        path.write_bytes(header + content)


def write_nrrd(path: Path, labels: Array, source: VolumeFile) -> None:
    """Write labels `(Z, Y, X)` of an unsigned type as NRRD, compressed, on the grid of `source`.

    Raises OSError where the system refuses.
    """
    place = _nrrd_place(source)
    ndim = 2 if labels.shape[0] == 1 and _num_axes(place) == 2 else 3
    lines = {
        "type": NRRD_TYPES[labels.dtype.name],
        "dimension": str(ndim),
        "space": place.get("space", ""),
        "space dimension": place.get("space dimension", ""),
        "sizes": " ".join(map(str, labels.shape[::-1][:ndim])),
        **{name: value for name, value in place.items() if not name.startswith("space d") and name != "space"},
        "space directions": place.get("space directions", ""),
        "endian": "little",
        "encoding": "gzip",
    }
    header = "NRRD0004\n" + "".join(f"{name}: {value}\n" for name, value in lines.items() if value) + "\n"
    content = gzip.compress(np.ascontiguousarray(labels, labels.dtype.newbyteorder("<")).data, LEVEL, mtime=0)
    path.write_bytes(header.encode() + content)


def _nrrd_place(source: VolumeFile) -> Fields:
    """The lines of an NRRD header that place the voxels of a source, without those of its channels."""
    geometry = source.geometry
    steps = (geometry.affine[:3, axis].tolist() for axis in (2, 1, 0))
    plain = {
        "space": "left-posterior-superior",
        "space directions": " ".join(f"({_text(step, ',')})" for step in steps),
        "space origin": f"({_text(geometry.origin, ',')})",
    }
    if source.format != "nrrd":
        return plain
    fields = header_fields(source.path, "nrrd")
    vectors = re.findall(r"none|\([^)]*\)", fields.get("space directions", ""))
    numbers = {name: fields[name].split() for name in ("spacings", "axis mins", "axis maxs") if name in fields}
    num_axes = int(fields["dimension"])
    is_space = [True] * num_axes
    if vectors:
        is_space = [vector != "none" for vector in vectors]
    elif num_axes > 1 and source.num_channels > 1:
        kinds = fields.get("kinds", "").split()
        is_space = [kind in {"domain", "space"} for kind in kinds]
    if len(is_space) != num_axes or sum(is_space) not in {2, 3}:
        return plain
    kept = {name: fields[name] for name in ("space", "space dimension", "space origin") if name in fields}
    kept |= {name: " ".join(np.array(parts)[is_space]) for name, parts in numbers.items()}
    for name in ("centers", "centerings"):
        if name in fields:
            kept[name] = " ".join(np.array(fields[name].split())[is_space])
    if vectors:
        kept["space directions"] = " ".join(np.array(vectors)[is_space])
    return kept


def _num_axes(place: Fields) -> int:
    vectors = place.get("space directions", "").count("(")
    return vectors or max(
        (len(place[name].split()) for name in place if name not in {"space", "space origin"}), default=3
    )


def _text(numbers: Any, separator: str = " ") -> str:
    """Numbers as the shortest decimals that stand for just these values."""
    return separator.join(repr(float(number)) for number in numbers)
