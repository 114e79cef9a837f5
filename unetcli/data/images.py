"""Finding and reading the images that a trained network is to segment: TIF and PNG, page by page.

A file is what its content says, whatever its suffix. What the pages and values of a TIF are is told in `tif.py`;
a PNG is one page, its palette replaced by colours, its alpha left out, and one bit made 0 and 255.
"""

from __future__ import annotations

import contextlib
import glob
import re
import struct
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.data.tif import PixelSize, damage_told, open_tif, page_name
from unetcli.errors import DataError

Array = NDArray[Any]
Format = Literal["tif", "png"]
SUFFIXES = frozenset({".tif", ".tiff", ".png"})
PNG_BEGINS = b"\x89PNG\r\n\x1a\n"
TIF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
CENTIMETRE = 3  # the TIF tag ResolutionUnit


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An open image, read page by page; iterating gives its pages.

    Args:
        path: Where it lies.
        format: What its content is, whatever its name says.
        page_sizes: Height and width of each page.
        pixel_size: What it says of the size of its pixels.
        read: Reads the page of an index from 0, as `(C, H, W)` in the file's own type.
            Raises DataError, naming file and page, for one that is damaged or does not have the channels wanted.
    """

    path: Path
    format: Format
    page_sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], Array]
    pixel_size: PixelSize = field(default_factory=PixelSize)

    @property
    def num_pages(self) -> int:
        """How many pages there are."""
        return len(self.page_sizes)

    def __iter__(self) -> Iterator[Array]:
        return map(self.read, range(self.num_pages))


def find_images(places: Iterable[Path | str]) -> list[Path]:
    """The image files that arguments of a command line mean, each once.

    Args:
        places: Files; folders, which mean the images directly in them; and patterns such as `scans/*.tif`, where
            the shell has not put files in their place. A file whose name looks like a pattern is that file.

    Returns:
        Paths in the order of `places`, those of one folder or pattern in natural order (2 before 10).

    Raises:
        DataError: If a file is not there, or a folder or pattern has no images.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for path in _at_place(Path(place)):
            found.setdefault(path.resolve(), path)
    if not found:
        raise DataError("no images given", hint="name TIF or PNG files, or folders of them")
    return list(found.values())


def _at_place(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if place.is_dir():
        paths = [path for path in place.iterdir() if path.is_file() and _looks_like_image(path)]
        if not paths:
            raise DataError(
                f"{place}: no images in this folder; looked for {', '.join(sorted(SUFFIXES))}",
                hint="folders within it are not searched; name them too",
            )
    elif glob.has_magic(str(place)):
        paths = [path for path in map(Path, glob.glob(str(place), recursive=True)) if path.is_file()]  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not paths:
            raise DataError(f"{place}: no file matches this pattern", hint=f"looked from {Path.cwd()}")
    else:
        raise DataError(f"{place}: no such file or folder", hint=f"looked from {Path.cwd()}")
    return sorted(paths, key=natural_key)


def _looks_like_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """A sorting key by which 'page2' comes before 'page10'."""
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def image_format(path: Path) -> Format:
    """What a file's first bytes say it is.

    Raises:
        DataError: If it cannot be read, or is neither TIF nor PNG.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if begin == PNG_BEGINS:
        return "png"
    if begin.startswith(TIF_BEGINS):
        return "tif"
    found = f"begins with {begin!r}" if begin else "is empty"
    raise DataError(f"{path}: must be TIF or PNG, but {found}", hint="save the image as TIF or PNG")


@contextlib.contextmanager
def open_image(path: Path, *, num_channels: int | None = None) -> Generator[ImageFile]:
    """Open a TIF or PNG file, told apart by content, to read one page at a time.

    Args:
        path: The file.
        num_channels: Channels that every page must have. A colour image whose channels are all equal is taken
            for one channel, and a grey image for three, since both are ways to write the same image.

    Raises:
        DataError: If the file is missing, neither TIF nor PNG, damaged, cut off, or of a layout whose pages and
            channels cannot be told apart.
    """

    def fitted(read: Callable[[int], Array], num_pages: int) -> Callable[[int], Array]:
        return lambda index: fit_channels(read(index), num_channels, page_name(path, index, num_pages))

    if image_format(path) == "png":
        size, pixel_size = _png_header(path)
        yield ImageFile(path, "png", (size,), fitted(lambda _: _read_png(path), 1), pixel_size)
    else:
        with open_tif(path) as tif:
            yield ImageFile(path, "tif", tif.sizes, fitted(tif.read, len(tif.sizes)), tif.pixel_size)


def _read_png(path: Path) -> Array:
    import imagecodecs

    with damage_told(f"{path}"):
        pixels: Array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    pixels = np.moveaxis(np.atleast_3d(pixels), 2, 0)
    return pixels[:-1] if len(pixels) in {2, 4} else pixels  # PNG has these numbers of channels only with alpha


def _png_header(path: Path) -> tuple[tuple[int, int], PixelSize]:
    """Height and width of a PNG, and its pHYs chunk, which stands before the pixels if there is one."""
    with damage_told(f"{path}"), path.open("rb") as file:
        file.seek(len(PNG_BEGINS))
        width, height = struct.unpack(">8xII5x4x", file.read(25))
        pixel_size = PixelSize()
        while len(begin := file.read(8)) == 8 and begin[4:] != b"IDAT":
            (length,) = struct.unpack(">I4x", begin)
            if begin[4:] == b"pHYs":
                body = file.read(length + 4)
                x, y, is_metre = struct.unpack(">IIB4x", body)
                pixel_size = PixelSize(
                    ((x, 100), (y, 100)) if x and y and is_metre else None, CENTIMETRE, png_chunk=begin + body
                )
            else:
                file.seek(length + 4, 1)
    return (height, width), pixel_size


def fit_channels(pixels: Array, num_channels: int | None, where: str) -> Array:
    """A page `(C, H, W)` with the channels wanted, where that is the same image; see `open_image`.

    Raises:
        DataError: If it is not, beginning with `where`.
    """
    if num_channels in {None, len(pixels)}:
        return pixels
    if num_channels == 1 and len(pixels) == 3 and all(np.array_equal(pixels[0], other) for other in pixels[1:]):
        return pixels[:1]
    if num_channels == 3 and len(pixels) == 1:
        return np.repeat(pixels, 3, axis=0)
    raise DataError(
        f"{where}: has {len(pixels)} channel{'s' if len(pixels) > 1 else ''}, but the network takes {num_channels}",
        hint="save it with the channels that the network was trained on, and slices along Z or T, not C",
    )
