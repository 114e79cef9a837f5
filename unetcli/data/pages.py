"""Grey pages from TIF and PNG files, told apart by their first bytes."""

from __future__ import annotations

import contextlib
import logging
import struct
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.errors import DataError

PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
TIF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_BEGINS = {b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP", b"\x1f\x8b": "gzip", b"PK\3\4": "ZIP"}
MICROMETRES = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3}
# what the decoders raise for a file that is cut off or damaged; imagecodecs' own errors are RuntimeErrors
BROKEN = (ValueError, RuntimeError, OSError, LookupError, TypeError, EOFError, struct.error, zlib.error, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """The pages of one file.

    Args:
        path: Where they come from.
        pixels: `(N, H, W)` in the file's own type.
        spacing: Height and width of a pixel in um, if the file says so.
    """

    path: Path
    pixels: NDArray[Any]
    spacing: tuple[float, float] | None = None


def read_pages(path: Path) -> Pages:
    """Read every page of a grey TIF or PNG file.

    A file that stores grey as three equal channels is read as grey.

    Raises:
        DataError: If the file is missing, neither TIF nor PNG, damaged, coloured, or has more axes than pages.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if begin.startswith(PNG_BEGINS):
        return _read_png(path)
    if begin.startswith(TIF_BEGINS):
        return _read_tif(path)
    kind = next((name for start, name in OTHER_BEGINS.items() if begin.startswith(start)), "")
    found = f"is a {kind} file" if kind else f"begins with {begin!r}" if begin else "is empty"
    raise DataError(f"{path}: must be TIF or PNG, but {found}", hint="save the original images as TIF or PNG")


def _read_png(path: Path) -> Pages:
    import imagecodecs

    with _damage_told(path):
        pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    grey = _grey(path, pixels, channel_axis=2) if pixels.ndim == 3 else pixels
    return Pages(path, grey[None])


def _read_tif(path: Path) -> Pages:
    import tifffile

    with _damage_told(path), _complaints() as complaints, tifffile.TiffFile(path) as tif:
        if len(tif.series) == 1:
            axes, pixels = str(tif.series[0].axes), np.asarray(tif.series[0].asarray())
        else:
            axes, pixels = "QYX", _stacked(path, [np.asarray(page.asarray()) for page in tif.pages])
        palette = getattr(tif.pages[0], "photometric", None) == tifffile.PHOTOMETRIC.PALETTE
        spacing = _spacing(tif)
    if complaints:
        raise DataError(f"{path}: damaged or cut off ({complaints[0]})", hint="copy or download the file again")
    if palette:
        raise DataError(f"{path}: has a colour palette, so its values are not intensities", hint="save it as grey")
    if "S" in axes:
        pixels = _grey(path, pixels, channel_axis=axes.index("S"))
    shape = pixels.shape
    pixels = pixels.reshape([n for n in shape[:-2] if n > 1] + list(shape[-2:]))
    if pixels.ndim not in {2, 3}:
        raise DataError(
            f"{path}: has axes {axes} of size {shape}, but only one axis beside rows and columns can be pages",
            hint="save one channel and one time point as a stack of pages",
        )
    return Pages(path, pixels.reshape(-1, *pixels.shape[-2:]), spacing)


def _stacked(path: Path, pages: list[NDArray[Any]]) -> NDArray[Any]:
    """One array of a file whose pages were not written as one series."""
    for number, page in enumerate(pages):
        if page.ndim != 2 or page.shape != pages[0].shape or page.dtype != pages[0].dtype:
            raise DataError(
                f"{path}: page 0 is {pages[0].shape} {pages[0].dtype}, but page {number} is {page.shape} {page.dtype}",
                hint="all pages of a stack must have one size and type, and be grey",
            )
    return np.stack(pages)


def _grey(path: Path, pixels: NDArray[Any], channel_axis: int) -> NDArray[Any]:
    """The one channel of an image whose colour channels are all equal; a fourth, alpha, is left out."""
    channels = np.moveaxis(pixels, channel_axis, 0)
    colours = channels[: 1 if len(channels) == 2 else 3]
    if any(not np.array_equal(colours[0], other) for other in colours[1:]):
        raise DataError(
            f"{path}: has {len(channels)} channels that differ, as a colour image does, but must be grey",
            hint="micrographs and their labels have one channel; save the file as grey",
        )
    return colours[0]


def _spacing(tif: Any) -> tuple[float, float] | None:
    """Pixel size in um as ImageJ writes it. Dots per inch are left aside: they tell of paper, not of the specimen."""
    metadata: dict[str, Any] = tif.imagej_metadata or {}
    factor = MICROMETRES.get(str(metadata.get("unit", "")).lower())
    tags = tif.pages[0].tags
    if factor is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    (y_pixels, y_units), (x_pixels, x_units) = tags["YResolution"].value, tags["XResolution"].value
    if not all((y_pixels, y_units, x_pixels, x_units)):
        return None
    return y_units / y_pixels * factor, x_units / x_pixels * factor


@contextlib.contextmanager
def _damage_told(path: Path) -> Generator[None]:
    try:
        yield
    except BROKEN as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise DataError(
            f"{path}: damaged or cut off ({reason[:200]})", hint="copy or download the file again"
        ) from error


@contextlib.contextmanager
def _complaints() -> Generator[list[str]]:
    """Errors that tifffile logs where it goes on with what is left of a file; nothing reaches the terminal."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.ERROR and "TiffTag" not in message:
                found.append(message.rpartition("> ")[2])

    logger, collector = logging.getLogger("tifffile"), Collector()
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates
