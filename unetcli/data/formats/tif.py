"""Reading TIF files page by page: what a page is, what its values are, and whether the file is whole.

What a page is: along the axes Z, T and those whose meaning the file does not tell, every image is a page. C, and
the samples of a colour image, are the channels of a page. Of a pyramid, only the full resolution counts.

What a pixel's value is: the one stored, whatever the display range, look-up table or "white is zero" of the file
say of how to show it. A palette is different: its indices are no intensities, so its colours take their place,
unless ImageJ wrote the file, whose palettes are only a way of showing grey images. Declared alpha is left out;
other extra samples are channels.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unetcli.errors import DataError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

Array = NDArray[Any]
Indexed = tuple[Array, list[tuple[int, int, int]]]
"""Indices of a palette, and its colours."""
PAGE_AXES = frozenset("ZTIQR")
IMAGEJ_KEYS = frozenset(
    {"unit", "yunit", "zunit", "spacing", "finterval", "fps", "tunit", "xorigin", "yorigin", "zorigin"}
)
# errors that tifffile logs of files whose pixels are whole: a tag that it cannot read, which is missed later if it
# matters; a last page that names an earlier one as the next; and no byte counts, of which it logs another error
# where they cannot be told from the size of the image
HARMLESS = ("TiffTag", "circular reference", "missing data ByteCounts tag")
MICROMETRES = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3}
ALPHA = frozenset({1, 2})  # TIFF 6.0, ExtraSamples: associated and unassociated alpha
# TIFF 6.0, section 2, and BigTIFF: bytes of a value of each type
TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {16: 8, 17: 8, 18: 8}
# what the decoders raise for a file that is damaged; imagecodecs' own errors are RuntimeErrors
BROKEN = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError,
    TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PixelSize:
    """What a file says of the size of its pixels, kept as it stands so that a mask can repeat it.

    Args:
        resolution: Pixels per unit along X and Y, as fractions; the TIF tags XResolution and YResolution.
        unit: The TIF tag ResolutionUnit: 1 none, 2 inch, 3 centimetre.
        imagej: ImageJ's own lines on spacing and unit, such as `spacing=0.5`.
        slices: Pages along Z by ImageJ; 0 if it does not say.
        frames: Pages along T by ImageJ; 0 if it does not say.
        png_chunk: The pHYs chunk of a PNG, whole.
    """

    resolution: tuple[tuple[int, int], tuple[int, int]] | None = None
    unit: int = 1
    imagej: tuple[str, ...] | None = None
    slices: int = 0
    frames: int = 0
    png_chunk: bytes = b""

    @property
    def micrometres(self) -> tuple[float, float] | None:
        """Height and width of a pixel, if ImageJ wrote them.

        Resolutions without ImageJ's unit are left aside: dots per inch tell of paper, not of the specimen.
        """
        lines = dict(line.split("=", 1) for line in self.imagej or ())
        unit = lines.get("unit", "")
        y_factor, x_factor = (MICROMETRES.get(name.lower()) for name in (lines.get("yunit", unit), unit))
        if self.resolution is None or y_factor is None or x_factor is None:
            return None
        (x_pixels, x_units), (y_pixels, y_units) = self.resolution
        return y_units / y_pixels * y_factor, x_units / x_pixels * x_factor


@dataclass(frozen=True, slots=True, eq=False)
class TifPages:
    """The pages of an open TIF file.

    Args:
        sizes: Height and width of each.
        read: Reads the page of an index from 0, as `(C, H, W)` in the file's own type and native byte order.
        pixel_size: What the file says of the size of its pixels.
        layout: The axes of all images as one array, with their sizes; empty where they form no one array.
        read_palette: Reads the same page as the indices of a palette, `(H, W)`, with the colours that they stand for,
            which `read` puts in their place; None of a page whose values are its own.
    """

    sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], Array]
    pixel_size: PixelSize
    layout: tuple[tuple[str, int], ...]
    read_palette: Callable[[int], Indexed | None]
    has_palette: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """Where one page lies: images of a series whose channels are laid together."""

    series: TiffPageSeries
    images: tuple[int, ...]
    size: tuple[int, int]


@contextlib.contextmanager
def open_tif(path: Path) -> Generator[TifPages]:
    """Open a TIF file to read one page at a time, of any compression that tifffile knows.

    Raises:
        DataError: If it is damaged, cut off, or its pages and channels cannot be told apart. Reading raises it
            too, naming the page, for values that are damaged, complex or not finite.
    """
    import tifffile

    with contextlib.ExitStack() as stack:
        with tifffile_told(f"{path}"):
            tif = stack.enter_context(tifffile.TiffFile(path))
            arrays = [level for series in tif.series for level in _levels(series)]
            pages = tuple(page for series in arrays for page in _pages(path, series))
            _check_whole(path, tif, sum(len(page.images) for page in pages))
            pixel_size = _pixel_size(tif)
            layout = tuple(zip(arrays[0].axes, arrays[0].shape, strict=True)) if len(arrays) == 1 else ()
            has_palette = _has_palette(tif.pages.first)

        def read(index: int) -> Array:
            where = page_name(path, index, len(pages))
            page = pages[index]
            with tifffile_told(where):
                pixels = np.concatenate([_read_image(tif, page.series, image) for image in page.images])
            _check_values(pixels, where)
            return pixels

        def read_palette(index: int) -> Indexed | None:
            page = pages[index]
            if not _has_palette(page.series.keyframe):
                return None
            with tifffile_told(page_name(path, index, len(pages))):
                colours = _palette(page.series.keyframe).T.tolist()
                return _read_stored(tif, page.series, page.images[0]), [tuple(colour) for colour in colours]

        yield TifPages(tuple(page.size for page in pages), read, pixel_size, layout, read_palette, has_palette)


def page_name(path: Path, index: int, num_pages: int) -> str:
    """How messages call a page: its file, and its number from 1 if there are others."""
    return f"{path}: page {index + 1} of {num_pages}" if num_pages > 1 else f"{path}"


def first_place(hits: NDArray[np.bool_]) -> str:
    """How messages call the first of the pixels found on a page `(H, W)`: its row and column, from 0."""
    row, column = np.unravel_index(int(hits.argmax()), hits.shape)
    return f"row {row}, column {column}"


def _levels(series: TiffPageSeries) -> list[TiffPageSeries]:
    """The series itself, and pages that tifffile takes for its pyramid only since they are half as large."""
    lower = series.levels[1:] if series.kind == "generic" else []
    return [series, *(level for level in lower if not (level.keyframe.is_reduced or level.keyframe.is_subifd))]


def _pages(path: Path, series: TiffPageSeries) -> list[_Page]:
    """The pages of one series of images of one size and type."""
    keyframe = series.keyframe
    if series.is_multifile:
        raise DataError(f"{path}: is one of several files of one image", hint="save it as a single TIF")
    if keyframe.axes not in {"YX", "YXS", "SYX"}:
        raise DataError(f"{path}: has images of axes {keyframe.axes}", hint="save it as a stack of 2D pages")
    height, width = (keyframe.shape[keyframe.axes.index(axis)] for axis in "YX")
    if not series.axes.endswith(keyframe.axes):  # images of a single row or column, whose axes tifffile mixes up
        return [_Page(series, (image,), (height, width)) for image in range(len(series))]
    outer = zip(series.axes[: -len(keyframe.axes)], series.shape, strict=False)
    long = [(axis, size) for axis, size in outer if size > 1]
    axes, shape = "".join(axis for axis, _ in long), [size for _, size in long]
    order = np.arange(math.prod(shape)).reshape(shape)
    channels = [axis for axis in axes if axis in "CS"]
    if not set(axes) <= PAGE_AXES | {"C", "S"} or axes.count("Q") > 1 or len(channels) + keyframe.axes.count("S") > 1:
        raise DataError(
            f"{path}: has axes {series.axes} of size {series.shape}, which cannot be told into pages and channels",
            hint="save it with axes Z, T and C only, or as a plain stack of pages",
        )
    order = np.moveaxis(order, axes.index(channels[0]), -1) if channels else order[..., None]
    rows = order.reshape(-1, order.shape[-1]).tolist()
    return [_Page(series, tuple(images), (height, width)) for images in rows]


def _read_image(tif: TiffFile, series: TiffPageSeries, index: int) -> Array:
    """Image `index` of a series, `(C, H, W)`."""
    return _as_channels(_read_stored(tif, series, index), series.keyframe)


def _read_stored(tif: TiffFile, series: TiffPageSeries, index: int) -> Array:
    """Image `index` of a series as it is stored: grey or indices of a palette `(H, W)`, or samples on an axis S."""
    keyframe = series.keyframe
    num_images = math.prod(series.shape) // math.prod(keyframe.shape)
    if len(series) == num_images:
        page = series[index]
        if page is None:
            raise ValueError("the file has no data for it")
        _check_segments(tif, page)
        pixels: Array = np.asarray(page.asarray())
        if pixels.shape != keyframe.shape:
            raise ValueError(f"it is of shape {pixels.shape}, but the first of its series is {keyframe.shape}")
    elif series.dataoffset is not None:  # one header for a whole stack that lies in one piece, as ImageJ writes it
        dtype = np.dtype(tif.byteorder + series.dtype.char)
        offset = series.dataoffset + index * math.prod(keyframe.shape) * dtype.itemsize
        tif.filehandle.seek(offset)
        pixels = tif.filehandle.read_array(dtype, math.prod(keyframe.shape)).reshape(keyframe.shape)
    else:
        raise ValueError(f"{num_images} images are compressed under {len(series)} headers")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _as_channels(pixels: Array, page: TiffPage) -> Array:
    """`(C, H, W)` from the samples of a TIF page."""
    from tifffile import PHOTOMETRIC

    if _has_palette(page):
        return _palette(page)[:, pixels.astype(np.intp)]
    if page.photometric not in {
        PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.PALETTE, PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR
    }:  # fmt: skip
        raise ValueError(f"its colours are of kind {page.photometric}, neither grey nor RGB")
    if "S" not in page.axes:
        return pixels[None]
    pixels = np.moveaxis(pixels, page.axes.index("S"), 0)
    first_extra = len(pixels) - len(page.extrasamples)
    is_alpha = [i >= first_extra and int(page.extrasamples[i - first_extra]) in ALPHA for i in range(len(pixels))]
    return pixels[~np.array(is_alpha)]


def _palette(page: TiffPage) -> NDArray[np.uint8]:
    """The colours `(3, N)` of a palette."""
    return (np.asarray(page.colormap) >> 8).astype(np.uint8)


def _has_palette(page: TiffPage) -> bool:
    """Whether values are indices of colours; ImageJ's palettes only show intensities in colour."""
    from tifffile import PHOTOMETRIC

    return page.photometric == PHOTOMETRIC.PALETTE and not page.is_imagej and page.colormap is not None


def _check_values(pixels: Array, where: str) -> None:
    """Raise DataError for values that no network takes."""
    if pixels.dtype.kind not in "biuf":
        raise DataError(
            f"{where}: has values of type {pixels.dtype}, but must be integers or real numbers",
            hint="save it as 8- or 16-bit grey",
        )
    if pixels.dtype.kind == "f" and not (is_finite := np.isfinite(pixels)).all():
        broken = ~is_finite.all(axis=0)
        raise DataError(
            f"{where}: is NaN or infinite in {int(broken.sum())} px, the first at {first_place(broken)}",
            hint="replace them by numbers; a network would turn the whole page into NaN",
        )


def _check_whole(path: Path, tif: TiffFile, num_images: int) -> None:
    """Raise DataError where tifffile goes on with what is left of a file that was cut off."""
    offsets = [page.offset for page in tif.pages]
    _, following = _header(tif, offsets[-1])
    tags, _ = _header(tif, offsets[0])
    declared = re.search(r"^images=(\d+)", tif.pages.first.description, re.M) if tif.is_imagej else None
    if following not in {0, *offsets}:
        found = f"page {len(offsets) + 1} cannot be read"
    elif any(end > tif.filehandle.size for end in tags):
        found = "its description cannot be read"
    elif declared and int(declared[1]) > num_images:
        found = f"{num_images} of {declared[1]} pages can be read"
    else:
        return
    raise DataError(f"{path}: damaged or cut off ({found})", hint="copy or download the file again")


def _header(tif: TiffFile, offset: int) -> tuple[list[int], int]:
    """The bytes of the file at which the values of a page's tags end, and the offset of the next page's header."""
    layout, handle = tif.tiff, tif.filehandle
    handle.seek(offset)
    (num_tags,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
    tags = handle.read(num_tags * layout.tagsize)
    (following,) = struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))
    ends: list[int] = []
    form = f"{layout.offsetformat[0]}2xH{layout.offsetformat[1:] * 2}"
    for kind, count, value in struct.iter_unpack(form, tags):
        num_bytes = count * TYPE_BYTES.get(kind, 0)
        ends.append(value + num_bytes if num_bytes > layout.offsetsize else 0)
    return ends, following


def _check_segments(tif: TiffFile, page: Any) -> None:
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + count > tif.filehandle.size:
            raise ValueError(f"its data ends at byte {offset + count} of a file of {tif.filehandle.size}")


def _pixel_size(tif: TiffFile) -> PixelSize:
    first = tif.pages.first
    values = [first.tags.valueof(name) for name in ("XResolution", "YResolution")]
    is_told = all(isinstance(value, tuple) and len(value) == 2 and min(value) > 0 for value in values)
    unit = first.tags.valueof("ResolutionUnit", default=1 if tif.is_imagej else 2)
    lines = dict(line.split("=", 1) for line in first.description.splitlines() if "=" in line) if tif.is_imagej else {}
    return PixelSize(
        resolution=(values[0], values[1]) if is_told else None,
        unit=int(unit),
        imagej=tuple(f"{key}={value}" for key, value in lines.items() if key in IMAGEJ_KEYS) if tif.is_imagej else None,
        slices=int(lines.get("slices", 0)),
        frames=int(lines.get("frames", 0)),
    )


@contextlib.contextmanager
def damage_told(where: str) -> Generator[None]:
    """Turn what a decoder raises for a damaged file into a DataError that begins with `where`."""
    try:
        yield
    except BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise DataError(
            f"{where}: cannot be read ({reason[:200]})",
            hint="the file may be damaged or cut off; copy or download it again",
        ) from error


@contextlib.contextmanager
def tifffile_told(where: str) -> Generator[None]:
    """As `damage_told`, and for the errors that tifffile only logs, going on with what is left of a file.

    Nothing of its log reaches the terminal.
    """
    found: list[str] = []
    logger, collector = logging.getLogger("tifffile"), _Collector(found)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with damage_told(where):
            yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
    if found:
        raise DataError(f"{where}: damaged or cut off ({found[0]})", hint="copy or download the file again")


class _Collector(logging.Handler):
    """Puts the errors logged into a list, but for those in `HARMLESS`."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not any(part in message for part in HARMLESS):
            self._found.append(message.rpartition("> ")[2])
