"""The ISBI 2012 challenge's form of a membrane stack, read and checked.

Either two TIF stacks, `train-volume.tif` and `train-labels.tif`, or numbered pages `train/image/N.png` and
`train/label/N.png`. In the labels 255 (or 1) is the inside of a cell and 0 its membrane.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetcli.data.cases import LabelledImage
from unetcli.data.formats.jpeg import refuse_jpeg
from unetcli.data.formats.pages import Pages, read_pages
from unetcli.data.formats.tif import first_place
from unetcli.data.manifest import ClassInfo
from unetcli.errors import DataError, counted

VOLUME, LABELS, TEST = "train-volume", "train-labels", "test-volume"
SUFFIXES = (".tif", ".tiff", ".png")
CHANNELS = ("EM",)
ALLOWED_TYPES = ("uint8", "int8", "uint16", "int16", "float32")
LAYOUTS = "train-volume.tif and train-labels.tif, or folders train/image and train/label of numbered PNG or TIF pages"


@dataclass(frozen=True, slots=True, eq=False)
class IsbiStack:
    """A membrane stack that passed the checks.

    Args:
        cases: One slice each, in the order of the stack.
        classes: Membrane and cell, with the values that stood for them.
        spacing: Height and width of a pixel in um, if the files say so.
        warnings: What may be wrong with single slices, as sentences.
    """

    cases: tuple[LabelledImage, ...]
    classes: tuple[ClassInfo, ...]
    spacing: tuple[float, float] | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IsbiFiles:
    """Where a stack lies: pairs of an image file and its label file, one of stacks or many of single pages."""

    pairs: tuple[tuple[str, Path, Path], ...]
    is_stack: bool


def find_isbi(source: Path) -> IsbiFiles:
    """Find the files of a stack by their names, without reading them.

    Raises:
        DataError: If the source is missing, in no known layout, or an image lacks its labels.
    """
    if not source.is_dir():
        found = "is a file" if source.exists() else "no such folder"
        raise DataError(
            f"{source}: {found}, but a folder is needed that holds {LAYOUTS}",
            hint="unpack the challenge's files there, or name their folder: unet prepare isbi FOLDER",
        )
    stacks = {path.stem.lower(): path for path in _image_files(source) if path.suffix.lower() != ".png"}
    if VOLUME in stacks or LABELS in stacks:
        for name in (VOLUME, LABELS):
            if name not in stacks:
                raise DataError(f"{source}: holds no {name}.tif, which the other stack needs")
        return IsbiFiles((("", stacks[VOLUME], stacks[LABELS]),), is_stack=True)
    for root in (source / "train", source):
        images, labels = _subfolder(root, "image"), _subfolder(root, "label")
        if images and labels:
            return IsbiFiles(tuple(_page_pairs(images, labels)), is_stack=False)
        if images or labels:
            missing = "label" if images else "image"
            raise DataError(f"{root}: holds no folder {missing}, which {images or labels} needs")
    names = sorted(path.name for path in source.iterdir())[:8]
    raise DataError(
        f"{source}: holds neither {LAYOUTS.replace(', or', ', nor')}; found {', '.join(names) or 'nothing'}",
        hint="name the folder that holds them: unet prepare isbi FOLDER",
    )


def read_isbi(source: Path) -> IsbiStack:
    """Read and check a stack.

    Raises:
        DataError: If files are missing or damaged, images and labels differ in number or size, the images are
            in colour, of a type other than 8 or 16 bit or float32, or not finite, or the labels hold anything
            but 0 and 255, or 0 and 1.
    """
    files = find_isbi(source)
    images = [read_pages(image) for _, image, _ in files.pairs]
    for _, _, mask in files.pairs:
        refuse_jpeg(mask)
    masks = [read_pages(mask) for _, _, mask in files.pairs]
    _check_sizes(images, masks, is_stack=files.is_stack)
    _check_images(images)
    cell_value = _check_labels(masks)
    pairs = zip(files.pairs, images, masks, strict=True)
    cases = tuple(
        LabelledImage(_case_id(name, page), image.pixels[page][None], (mask.pixels[page] != 0).astype(np.uint8))
        for (name, _, _), image, mask in pairs
        for page in range(len(image.pixels))
    )
    classes = (
        ClassInfo(index=0, name="membrane", source_values=(0,)),
        ClassInfo(index=1, name="cell", source_values=(cell_value,)),
    )
    return IsbiStack(cases, classes, images[0].spacing, tuple(_blank_warnings(cases, classes)))


def _image_files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def _subfolder(root: Path, name: str) -> Path | None:
    return next((root / form for form in (name, f"{name}s") if (root / form).is_dir()), None)


def _page_pairs(images: Path, labels: Path) -> Iterator[tuple[str, Path, Path]]:
    """Match pages by their number, in the order of the numbers."""
    left, right = _by_number(images), _by_number(labels)
    if not left:
        raise DataError(f"{images}: holds no PNG or TIF page")
    for ours, theirs, origin, folder in ((left, right, images, labels), (right, left, labels, images)):
        if alone := sorted(ours.keys() - theirs.keys()):
            names = ", ".join(ours[key].name for key in alone[:5])
            raise DataError(
                f"{folder}: holds no page for {len(alone)} of the {len(ours)} in {origin}: {names}",
                hint="an image and its labels must bear the same number; add what is missing, or take the others out",
            )
    for number, name in sorted(left):
        yield name if number < 0 else f"{number:03d}", left[number, name], right[number, name]


def _by_number(folder: Path) -> Mapping[tuple[int, str], Path]:
    """Pages by the last number in their name; by the name itself where it has none."""
    pages: dict[tuple[int, str], Path] = {}
    for path in sorted(_image_files(folder)):
        numbers = re.findall(r"\d+", path.stem)
        key = (int(numbers[-1]), "") if numbers else (-1, path.stem)
        if key in pages:
            raise DataError(f"{path}: has the same number as {pages[key].name}", hint="take one of the two out")
        pages[key] = path
    return pages


def _case_id(name: str, page: int) -> str:
    return f"slice-{name or f'{page:03d}'}"


def _check_sizes(images: Sequence[Pages], masks: Sequence[Pages], *, is_stack: bool) -> None:
    first = images[0]
    for image, mask in zip(images, masks, strict=True):
        for pages in (image, mask):
            if not is_stack and len(pages.pixels) != 1:
                raise DataError(f"{pages.path}: has {len(pages.pixels)} pages, but a numbered file must have one")
        if len(mask.pixels) != len(image.pixels):
            raise DataError(
                f"{mask.path}: has {counted(len(mask.pixels), 'page')}, but {image.path.name} has {len(image.pixels)}",
                hint="each slice needs its labels; take both files from the same source",
            )
        if mask.pixels.shape != image.pixels.shape:
            raise DataError(
                f"{mask.path}: labels are {_size(mask)} px, but {image.path.name} is {_size(image)} px",
                hint="labels must be drawn on the image itself; export them at its full size",
            )
        if image.pixels.shape != first.pixels.shape or image.pixels.dtype != first.pixels.dtype:
            raise DataError(
                f"{image.path}: is {_size(image)} px {image.pixels.dtype}, "
                f"but {first.path.name} is {_size(first)} px {first.pixels.dtype}",
                hint="all slices of a stack must have one size and type",
            )


def _size(pages: Pages) -> str:
    return f"{pages.pixels.shape[1]} x {pages.pixels.shape[2]}"


def _check_images(images: Sequence[Pages]) -> None:
    for pages in images:
        if pages.pixels.dtype.name not in ALLOWED_TYPES:
            raise DataError(
                f"{pages.path}: images are {pages.pixels.dtype.name}, but must be one of {', '.join(ALLOWED_TYPES)}",
                hint="save them with 8 or 16 bits a pixel",
            )


def _check_labels(masks: Sequence[Pages]) -> int:
    """The value that stands for a cell, 1 or 255, the same in all pages."""
    where: dict[float, Pages] = {}
    counts: defaultdict[float, int] = defaultdict(int)
    for pages in masks:
        for value, count in zip(*np.unique(pages.pixels, return_counts=True), strict=True):
            where.setdefault(float(value), pages)
            counts[float(value)] += int(count)
    cell = 255 if 255 in counts else 1
    strange = sorted(value for value in counts if value not in {0, cell})
    if strange:
        shown = ", ".join(f"{value:g} ({counts[value]} px)" for value in strange[:6])
        more = f" and {len(strange) - 6} more" if len(strange) > 6 else ""
        beside = " and ".join(str(value) for value in (0, cell) if value in counts)
        pages = where[strange[0]]
        first = _place(pages, strange[0])
        raise DataError(
            f"{pages.path}: labels must be 0 and 255, or 0 and 1, but hold {shown}{more}"
            f"{' beside ' + beside if beside else ''}; the first {strange[0]:g} is {first}",
            hint="write 0 for membrane and 255 for all else; resampling, JPEG and numbered cells make other values",
        )
    if len(counts) < 2:
        raise DataError(
            f"{masks[0].path}: labels hold nothing but {next(iter(counts)):g}, so there is nothing to tell apart",
            hint="0 must mark membranes and 255 (or 1) the inside of cells",
        )
    return cell


def _place(pages: Pages, value: float) -> str:
    """Where a value first stands; pages are counted from 1, as `page_name` does."""
    hits = pages.pixels == np.asarray(value, pages.pixels.dtype)
    page = int(hits.any(axis=(1, 2)).argmax())
    on_page = f"on page {page + 1} of {len(hits)} " if len(hits) > 1 else ""
    return f"{on_page}at {first_place(hits[page])}"


def _blank_warnings(cases: Sequence[LabelledImage], classes: Sequence[ClassInfo]) -> Iterator[str]:
    blank = [case.id for case in cases if case.image.min() == case.image.max()]
    if len(blank) == len(cases):
        raise DataError(
            "the image is blank" if len(cases) == 1 else f"all {len(cases)} images are blank",
            hint="export the images again",
        )
    if blank:
        yield f"{len(blank)} of {len(cases)} images {'is' if len(blank) == 1 else 'are'} blank: {', '.join(blank)}"
    for info in classes:
        uniform = [case.id for case in cases if (case.labels == info.index).all()]
        if uniform:
            verb = "holds" if len(uniform) == 1 else "hold"
            yield f"{len(uniform)} of {len(cases)} label slices {verb} nothing but {info.name}: {', '.join(uniform)}"
