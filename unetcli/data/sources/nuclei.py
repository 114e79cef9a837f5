"""Nuclei as the Data Science Bowl 2018 published them, and two forms that they are passed on in.

Published is a folder for each image, `<id>/images/<id>.png` with one PNG for each nucleus in `<id>/masks`. The
MindSpore model zoo writes `<id>/image.png` and `<id>/mask.png` of it. Others pass on stacks of images of one size,
`volume.tif` and `labels-instances.tif`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.images import SUFFIXES, grey_of, natural_key, open_image
from unetcli.data.formats.jpeg import refuse_jpeg
from unetcli.data.formats.png import is_opaque
from unetcli.data.formats.tif import page_name
from unetcli.data.preparing.volume_labels import whole_numbers
from unetcli.data.preparing.weighting import connected_pieces
from unetcli.data.sources.isbi import ALLOWED_TYPES
from unetcli.errors import DataError, counted

STACK, STACK_LABELS = "volume.tif", "labels-instances.tif"
IMAGE, MASK = "image.png", "mask.png"
IMAGES, MASKS = "images", "masks"
PART = "stage1_train"
LAYOUTS = (
    f"a folder for each image, with {IMAGES} and {MASKS} (or {IMAGE} and {MASK}) in it, or {STACK} and {STACK_LABELS}"
)
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class NucleiFiles:
    """Where one image and its nuclei lie.

    Args:
        id: What it is called.
        image: The file of the image.
        masks: A file for each nucleus, or one in which they are numbered, or form one class.
        page: Of a stack, counted from 0.
        fault: Why it cannot be used, if that is known from the names of its files.
    """

    id: str
    image: Path
    masks: tuple[Path, ...] | Path
    page: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Nuclei:
    """An image with its nuclei.

    Args:
        id: What it is called.
        image: `(C, H, W)` with C 1 for grey and 3 for colour.
        instances: `(H, W)` int32; 0 is background, each nucleus has a number from 1.
        spacing: Height and width of a pixel in um, if the file says so.
        warnings: What may be wrong, as sentences.
    """

    id: str
    image: Array
    instances: NDArray[np.int32]
    spacing: tuple[float, float] | None
    warnings: tuple[str, ...]


def find_nuclei(source: Path) -> tuple[NucleiFiles, ...]:
    """Find images and their nuclei by the names of files and folders.

    Args:
        source: The folder itself, or that in which `stage1_train` lies.

    Raises:
        DataError: If the source is missing or in no known layout.
    """
    if not source.is_dir():
        raise DataError(
            f"{source}: {'is a file' if source.exists() else 'no such folder'}, but a folder is needed: {LAYOUTS}",
            hint="unpack stage1_train.zip there, or name its folder: unet prepare nuclei FOLDER",
        )
    for root in (source / PART, source):
        if (root / STACK).is_file() or (root / STACK_LABELS).is_file():
            return _pages_of(root)
        folders = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
        found = [_in_folder(path) for path in sorted(folders, key=natural_key) if _is_image_folder(path)]
        if found:
            return tuple(found)
    names = ", ".join(sorted(path.name for path in source.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{source}: holds no nuclei; looked for {LAYOUTS}; found {names}",
        hint="name the folder that holds them, or prepare other layouts with: unet prepare folder",
    )


def read_nuclei(files: NucleiFiles) -> Nuclei:
    """Read and check an image and its nuclei.

    A pixel in two masks belongs to the nucleus whose file comes first. In a `mask.png` that holds 0 and one other
    value, the connected pieces are the nuclei; otherwise each value from 1 is one.

    Raises:
        DataError: If a file is missing or damaged, of another size than the image, or not of a form it must be.
    """
    if files.fault:
        raise DataError(f"{files.image}: {files.fault}")
    with open_image(files.image) as image:
        where = page_name(files.image, files.page, image.num_pages)
        pixels, spacing = image.read(files.page), image.pixel_size.micrometres
        is_png = image.format == "png"
    _check_image(pixels, where)
    warnings = []
    if is_png and not is_opaque(files.image):
        warnings.append(f"{files.image}: is transparent in places; what it shows there is used all the same")
    grey = grey_of(pixels)
    pixels = pixels if grey is None else grey
    size = (pixels.shape[1], pixels.shape[2])
    if isinstance(files.masks, Path):
        instances = _all_in_one(files.masks, files.page, size)
    else:
        instances, more = _one_each(files.masks, size)
        warnings += more
    return Nuclei(files.id, pixels, instances, spacing, tuple(warnings))


def _pages_of(root: Path) -> tuple[NucleiFiles, ...]:
    volume, labels = root / STACK, root / STACK_LABELS
    for path in (volume, labels):
        if not path.is_file():
            raise DataError(f"{path}: no such file, but the other stack needs it", hint="take both from one source")
    with open_image(volume) as images, open_image(labels) as masks:
        number = images.num_pages
        if masks.num_pages != number:
            raise DataError(
                f"{labels}: has {counted(masks.num_pages, 'page')}, but {volume.name} has {number}",
                hint="take both files from the same source",
            )
    digits = len(str(number - 1))
    return tuple(NucleiFiles(f"{page:0{digits}d}", volume, labels, page) for page in range(number))


def _is_image_folder(path: Path) -> bool:
    return any((path / name).exists() for name in (IMAGES, IMAGE, MASKS, MASK))


def _in_folder(path: Path) -> NucleiFiles:
    if (path / IMAGE).is_file():
        fault = "" if (path / MASK).is_file() else f"there is no {MASK} beside it"
        return NucleiFiles(path.name, path / IMAGE, path / MASK, fault=fault)
    images, masks = list(_files_in(path / IMAGES)), tuple(_files_in(path / MASKS))
    fault = ""
    if len(images) != 1:
        fault = f"holds {len(images)} images, but must hold one"
    elif not (path / MASKS).is_dir():
        fault = f"there is no folder {MASKS} beside its folder, as in the parts of the Bowl that were for testing"
    elif not masks:
        fault = f"the folder {MASKS} beside its folder is empty"
    return NucleiFiles(path.name, images[0] if len(images) == 1 else path / IMAGES, masks, fault=fault)


def _files_in(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir(), key=natural_key):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                yield path


def _check_image(pixels: Array, where: str) -> None:
    if pixels.dtype.name not in ALLOWED_TYPES:
        raise DataError(f"{where}: is {pixels.dtype}, but must be one of {', '.join(ALLOWED_TYPES)}")
    if len(pixels) not in {1, 3}:
        raise DataError(f"{where}: has {len(pixels)} channels, but must be grey or in colour")
    if not np.isfinite(pixels).all():
        raise DataError(f"{where}: has intensities that are NaN or infinite")
    if pixels.min() == pixels.max():
        raise DataError(f"{where}: the image is {pixels.flat[0]:g} everywhere")


def _read_mask(path: Path, page: int, size: tuple[int, int]) -> Array:
    refuse_jpeg(path)
    with open_image(path) as image:
        where = page_name(path, page, image.num_pages)
        pixels, has_palette = image.read(page), image.has_palette
    grey = grey_of(pixels)
    if grey is None:
        found = "has a palette of colours" if has_palette else "is in colour"
        raise DataError(f"{where}: the mask {found}, but must be of one value a pixel", hint="save it as grey")
    if grey.shape[1:] != size:
        height, width = grey.shape[1:]
        raise DataError(f"{where}: the mask is {height} x {width} px, but its image is {size[0]} x {size[1]} px")
    return grey[0]


def _one_each(masks: tuple[Path, ...], size: tuple[int, int]) -> tuple[NDArray[np.int32], list[str]]:
    """The nuclei of a file each, and what may be wrong with them."""
    instances = np.zeros(size, np.int32)
    warnings: list[str] = []
    for number, path in enumerate(masks, start=1):
        is_set = _read_mask(path, 0, size) != 0
        is_free = instances == 0
        if not is_set.any():
            warnings.append(f"{path}: the mask is empty, and left out")
        elif shared := int((is_set & ~is_free).sum()):
            warnings.append(f"{path}: {shared} of {int(is_set.sum())} px are in the masks before it, which keep them")
        instances[is_set & is_free] = number
    return instances, warnings


def _all_in_one(path: Path, page: int, size: tuple[int, int]) -> NDArray[np.int32]:
    """The nuclei of one file, numbered in it, or the connected pieces of its one class."""
    values = whole_numbers(_read_mask(path, page, size))
    found = np.unique(values)
    if found[0] < 0:
        raise DataError(f"{path}: the mask holds {found[0]}, but nuclei are numbered from 1", hint="0 is background")
    is_one_class = path.name == MASK and len(found[found > 0]) == 1
    return connected_pieces(values > 0) if is_one_class else values.astype(np.int32)
