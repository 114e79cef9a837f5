"""From COCO annotations and the images that they belong to, to images with numbered objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import IGNORED
from unetcli.data.formats.images import grey_of, open_image
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.object_dataset import ObjectImage, refuse_all_skipped, shortened
from unetcli.data.preparing.volume_records import Skipped
from unetcli.data.sources.coco import LONGEST_NAME, CocoFile, CocoImage, class_indices, is_usual, refuse_unknown
from unetcli.data.sources.coco_masks import Crowd, draw_objects, outlined
from unetcli.data.sources.isbi import ALLOWED_TYPES
from unetcli.errors import DataError, UnetError, counted


@dataclass(frozen=True, slots=True)
class CocoPart:
    """Annotations and where their images lie.

    Args:
        file: The annotations.
        folder: Of the images.
        is_validation: Whether they are for validation.
    """

    file: CocoFile
    folder: Path
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class CocoWishes:
    """What the user wants of the annotations.

    Args:
        crowd: What becomes of regions in which objects are not told apart.
        keep_empty: Whether images without any object of the classes are kept.
        limit: Most images of each part, the first by their ids; None for all.
        is_strict: Whether a skipped image is an error.
        is_chosen: Whether the classes are some of the categories, and not all that there are.
    """

    crowd: Crowd = "ignore"
    keep_empty: bool = False
    limit: int | None = None
    is_strict: bool = False
    is_chosen: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CocoImages:
    """Images that could be read.

    Args:
        images: With their labels.
        skipped: What is left out, and why.
        warnings: What may be wrong, as sentences.
        has_ignored: Whether some pixels are `IGNORED`.
    """

    images: tuple[ObjectImage, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    has_ignored: bool


def wanted_images(part: CocoPart, classes: Sequence[ClassInfo], wishes: CocoWishes) -> tuple[CocoImage, ...]:
    """The images to read.

    Raises:
        DataError: If the file lacks a category that is a class, or, unless categories are chosen, an annotation of one
            of the images is of a category that the file lacks.
    """
    indices = class_indices(part.file, classes)
    known = part.file.categories

    def is_wanted(image: CocoImage) -> bool:
        is_unknown = not wishes.is_chosen and any(each.category not in known for each in image.objects)
        return wishes.keep_empty or is_unknown or bool(outlined(image, indices))

    images = tuple(filter(is_wanted, part.file.images))[: wishes.limit]
    if not wishes.is_chosen:
        refuse_unknown(part.file, images)
    return images


def read_all_coco(
    parts: Sequence[CocoPart],
    classes: Sequence[ClassInfo],
    wishes: CocoWishes,
    advance: Callable[[], None] = lambda: None,
) -> CocoImages:
    """Read all wanted images and draw their annotations; those that cannot be used are left out and named.

    Raises:
        DataError: If a folder is not there, no image can be used, or one cannot under `is_strict`.
    """
    images: list[ObjectImage] = []
    skipped: list[Skipped] = []
    warnings: list[str] = []
    for part in parts:
        if not part.folder.is_dir():
            raise DataError(f"{part.folder}: no such folder", hint="name the folder of the images")
        indices = class_indices(part.file, classes)
        wanted = wanted_images(part, classes, wishes)
        if (num_empty := len(part.file.images) - len(wanted)) and wishes.limit is None:
            verbs = ("holds", "is") if num_empty == 1 else ("hold", "are")
            told = f"{counted(num_empty, 'image')} {verbs[0]} no object of the classes, and {verbs[1]} left out"
            warnings.append(f"{part.file.path}: {told}")
        for image in wanted:
            try:
                found, more = _read_image(part, image, indices, wishes.crowd)
            except UnetError as error:
                skipped.append(Skipped(image.case_id if is_usual(image.file_name) else image.title, str(error)))
            else:
                images.append(found)
                warnings += more
            advance()
    refuse_all_skipped(skipped, len(images), is_strict=wishes.is_strict)
    _refuse_shared(images)
    has_ignored = any(bool((image.labels == IGNORED).any()) for image in images)
    return CocoImages(tuple(images), tuple(skipped), shortened(warnings), has_ignored)


def _read_image(
    part: CocoPart, image: CocoImage, indices: Mapping[int, int], crowd: Crowd
) -> tuple[ObjectImage, list[str]]:
    if not is_usual(image.file_name):
        raise DataError(f"file_name is of more than {LONGEST_NAME} bytes, or has control characters")
    path = part.folder / image.file_name
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    pixels = _read_pixels(path)
    if pixels.shape[1:] != image.size:
        height, width = pixels.shape[1:]
        raise DataError(f"{path}: is {height} x {width} px, but annotated as {image.size[0]} x {image.size[1]} px")
    labels, instances, warnings = draw_objects(image, indices, crowd)
    return ObjectImage(image.case_id, pixels, labels, instances, is_validation=part.is_validation), warnings


def _read_pixels(path: Path) -> NDArray[Any]:
    with open_image(path) as image:
        pixels = image.read(0)
    if pixels.dtype.name not in ALLOWED_TYPES or len(pixels) not in {1, 3} or not np.isfinite(pixels).all():
        raise DataError(
            f"{path}: is {pixels.dtype} of {counted(len(pixels), 'channel')}, but must be grey or RGB, and finite"
        )
    grey = grey_of(pixels)
    return pixels if grey is None else grey


def _refuse_shared(images: Sequence[ObjectImage]) -> None:
    names: set[str] = set()
    for image in images:
        if image.id in names:
            raise DataError(
                f"{image.id}: is an image for training and for validation", hint="leave it out of one of the files"
            )
        names.add(image.id)
