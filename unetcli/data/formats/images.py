"""Finding and reading images: TIF, PNG and JPEG, page by page.

A file is what its content says, whatever its suffix. What the pages and values of a TIF are is told in `tif.py`,
those of a PNG in `png.py`, and of a JPEG in `jpeg.py`.
"""

from __future__ import annotations

import contextlib
import glob
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.jpeg import JPEG_BEGINS, read_jpeg
from unetcli.data.formats.jpeg import SUFFIXES as JPEG_SUFFIXES
from unetcli.data.formats.png import PNG_BEGINS, read_palette, read_png, read_png_header
from unetcli.data.formats.tif import Indexed, PixelSize, open_tif, page_name
from unetcli.errors import DataError, counted

Array = NDArray[Any]
Format = Literal["tif", "png", "jpeg"]
SUFFIXES = frozenset({".tif", ".tiff", ".png"}) | JPEG_SUFFIXES
TIF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
OTHER_BEGINS = {b"GIF8": "GIF", b"BM": "BMP", b"\x1f\x8b": "gzip", b"PK\3\4": "ZIP"}


def _no_palette(_: int) -> Indexed | None:
    return None


def _indexed_png(path: Path, _: int) -> Indexed:
    return read_palette(path)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFile:
    """An open image, read page by page; iterating gives its pages.

    Args:
        path: Where it lies.
        format: What its content is, whatever its name says.
        page_sizes: Height and width of each page.
        pixel_size: What it says of the size of its pixels.
        layout: The axes of its images taken as one array, as the file calls them, each with its size, such as
            `(("Z", 30), ("Y", 512), ("X", 512))`; S are the samples of a colour. Empty where they form no one array.
        has_palette: Whether its values are indices of colours, which `read` puts in their place.
        read_palette: Reads the page of an index as the indices of a palette, `(H, W)`, and its colours; None of a page
            that has no palette.
        read: Reads the page of an index from 0, as `(C, H, W)` in the file's own type.
            Raises DataError, naming file and page, for one that is damaged or does not have the channels wanted.
    """

    path: Path
    format: Format
    page_sizes: tuple[tuple[int, int], ...]
    read: Callable[[int], Array]
    pixel_size: PixelSize = field(default_factory=PixelSize)
    layout: tuple[tuple[str, int], ...] = ()
    has_palette: bool = False
    read_palette: Callable[[int], Indexed | None] = _no_palette

    @property
    def num_pages(self) -> int:
        """How many pages there are."""
        return len(self.page_sizes)

    def __iter__(self) -> Iterator[Array]:
        return map(self.read, range(self.num_pages))


@dataclass(frozen=True, slots=True)
class Searched:
    """What arguments of a command line are looked through for.

    Args:
        noun: What messages call it.
        hint: What to name where nothing is.
        suffixes: How the names of such files end, in lower case.
        passed_over: Suffixes of files that are parts of others, and left out even where they are named.
        is_one: Whether a folder as a whole is one of what is looked for.
    """

    noun: str
    hint: str
    suffixes: frozenset[str]
    passed_over: frozenset[str] = frozenset()
    is_one: Callable[[Path], bool] = lambda _: False


IMAGES = Searched("images", "name TIF, PNG or JPEG files, or folders of them", SUFFIXES)


def find_images(places: Iterable[Path | str]) -> list[Path]:
    """The image files that arguments of a command line mean, each once; see `find_files`.

    Raises:
        DataError: If a file is not there, or a folder or pattern has no images.
    """
    return find_files(places, IMAGES)


def find_files(places: Iterable[Path | str], searched: Searched) -> list[Path]:
    """The files that arguments of a command line mean, each once.

    Args:
        places: Files; folders, which mean what is looked for directly in them, or themselves; and patterns such as
            `scans/*.tif`, where the shell has not put files in their place. A file whose name looks like a pattern is
            that file.
        searched: What is looked for.

    Returns:
        Paths in the order of `places`, those of one folder or pattern in natural order (2 before 10).

    Raises:
        DataError: If a file is not there, or a folder or pattern has nothing of what is looked for.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for path in _at_place(Path(place), searched):
            found.setdefault(path.resolve(), path)
    if not found:
        raise DataError(f"no {searched.noun} given", hint=searched.hint)
    return list(found.values())


def _at_place(place: Path, searched: Searched) -> list[Path]:
    if place.is_file():
        return [] if place.suffix.lower() in searched.passed_over else [place]
    if place.is_dir():
        paths = [path for path in place.iterdir() if path.is_file() and _is_searched(path, searched)]
        paths += [path for path in (place, *place.iterdir()) if path.is_dir() and searched.is_one(path)]
        if not paths:
            raise DataError(
                f"{place}: no {searched.noun} in this folder; looked for {', '.join(sorted(searched.suffixes))}",
                hint="folders within it are not searched; name them too",
            )
    elif glob.has_magic(str(place)):
        matches = [Path(name) for name in glob.glob(str(place), recursive=True)]  # noqa: PTH207 - Path.glob takes no absolute pattern
        paths = [path for path in matches if path.is_file() and path.suffix.lower() not in searched.passed_over]
        paths += [path for path in matches if path.is_dir() and searched.is_one(path)]
        if not paths:
            raise DataError(f"{place}: no file matches this pattern", hint=f"looked from {Path.cwd()}")
    else:
        raise DataError(f"{place}: no such file or folder", hint=f"looked from {Path.cwd()}")
    return sorted(paths, key=natural_key)


def _is_searched(path: Path, searched: Searched) -> bool:
    return path.name.lower().endswith(tuple(searched.suffixes)) and not path.name.startswith(".")


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """A sorting key by which 'page2' comes before 'page10'."""
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts)


def image_format(path: Path) -> Format:
    """What a file's first bytes say it is.

    Raises:
        DataError: If it cannot be read, or is neither TIF nor PNG nor JPEG.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if begin == PNG_BEGINS:
        return "png"
    if begin.startswith(JPEG_BEGINS):
        return "jpeg"
    if begin.startswith(TIF_BEGINS):
        return "tif"
    kind = next((name for start, name in OTHER_BEGINS.items() if begin.startswith(start)), "")
    found = f"is a {kind} file" if kind else f"begins with {begin.decode('latin-1')!a}" if begin else "is empty"
    raise DataError(f"{path}: must be TIF, PNG or JPEG, but {found}", hint="save the original image as TIF or PNG")


@contextlib.contextmanager
def open_image(path: Path, *, num_channels: int | None = None) -> Generator[ImageFile]:
    """Open a TIF, PNG or JPEG file, told apart by content, to read one page at a time.

    Args:
        path: The file.
        num_channels: Channels that every page must have. A colour image whose channels are all equal is taken
            for one channel, and a grey image for three, since both are ways to write the same image.

    Raises:
        DataError: If the file is missing, none of these, damaged, cut off, or of a layout whose pages and channels
            cannot be told apart.
    """

    def fitted(read: Callable[[int], Array], num_pages: int) -> Callable[[int], Array]:
        return lambda index: fit_channels(read(index), num_channels, page_name(path, index, num_pages))

    kind = image_format(path)
    if kind == "png":
        header = read_png_header(path)
        read = fitted(lambda _: read_png(path), 1)
        layout = tuple(zip("YX", header.size, strict=True))
        read_indexed = partial(_indexed_png, path) if header.has_palette else _no_palette
        yield ImageFile(path, kind, (header.size,), read, header.pixel_size, layout, header.has_palette, read_indexed)
    elif kind == "jpeg":
        pixels = read_jpeg(path)
        height, width = pixels.shape[1:]
        yield ImageFile(
            path, kind, ((height, width),), fitted(lambda _: pixels, 1), layout=(("Y", height), ("X", width))
        )
    else:
        with open_tif(path) as tif:
            read = fitted(tif.read, len(tif.sizes))
            yield ImageFile(path, kind, tif.sizes, read, tif.pixel_size, tif.layout, tif.has_palette, tif.read_palette)


def grey_of(pixels: Array) -> Array | None:
    """`(1, H, W)` of a page that has one channel, or three that are all equal; None for any other."""
    is_grey = len(pixels) in {1, 3} and all(np.array_equal(pixels[0], other) for other in pixels[1:])
    return pixels[:1] if is_grey else None


def fit_channels(pixels: Array, num_channels: int | None, where: str) -> Array:
    """A page `(C, H, W)` with the channels wanted, where that is the same image; see `open_image`.

    Raises:
        DataError: If it is not, beginning with `where`.
    """
    if num_channels in {None, len(pixels)}:
        return pixels
    if num_channels == 1 and (grey := grey_of(pixels)) is not None:
        return grey
    if num_channels == 3 and len(pixels) == 1:
        return np.repeat(pixels, 3, axis=0)
    raise DataError(
        f"{where}: has {counted(len(pixels), 'channel')}, but the network takes {num_channels}",
        hint="save it with the channels that the network was trained on, and slices along Z or T, not C",
    )
