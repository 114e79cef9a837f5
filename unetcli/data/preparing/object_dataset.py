"""From images with numbered objects to the cases and the manifest of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import LabelledImage
from unetcli.data.manifest import ClassInfo, Kind, Manifest, Split, WeightMapFacts
from unetcli.data.preparing.dataset import describe_case, duplicate_warnings, empty_class_warnings, intensity_stats
from unetcli.data.preparing.volume_plan import SplitPlan, draw_splits, published_split
from unetcli.data.preparing.volume_records import Skipped
from unetcli.data.preparing.weighting import with_weights
from unetcli.data.sources.folder_images import channel_names
from unetcli.errors import DataError, counted

Channels = Literal["auto", "grey", "rgb"]
Array = NDArray[Any]
SHOWN_WARNINGS = 5


@dataclass(frozen=True, slots=True, eq=False)
class ObjectImage:
    """An image in which objects are told apart.

    Args:
        id: What it is called.
        image: `(C, H, W)` with C 1 for grey and 3 for colour.
        labels: `(H, W)` class of every pixel.
        instances: `(H, W)` number of the object of every pixel, 0 for none.
        spacing: Height and width of a pixel in um, if known.
        is_validation: Whether its source says that it validates.
    """

    id: str
    image: Array
    labels: NDArray[np.uint8]
    instances: NDArray[np.int32]
    spacing: tuple[float, float] | None = None
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class ObjectOptions:
    """What is made of the images.

    Args:
        name: What the dataset is called.
        kind: Where it comes from.
        classes: What the labels mean.
        split: How to divide the cases.
        channels: "grey" makes grey of colours and "rgb" three channels of grey; "auto" keeps grey if all are.
        weight_map: How to weigh pixels; None for not at all.
        has_ignored: Whether labels may be `IGNORED`.
    """

    name: str
    kind: Kind
    classes: tuple[ClassInfo, ...]
    split: SplitPlan
    channels: Channels = "auto"
    weight_map: WeightMapFacts | None = None
    has_ignored: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ObjectImages:
    """A dataset of images with numbered objects that is not yet written.

    Args:
        manifest: What it holds.
        cases: Its cases.
        num_objects: How many objects there are in all.
        warnings: What may be wrong, as sentences.
    """

    manifest: Manifest
    cases: tuple[LabelledImage, ...]
    num_objects: int
    warnings: tuple[str, ...]


def describe_objects(
    images: Sequence[ObjectImage], options: ObjectOptions, advance: Callable[[], None] = lambda: None
) -> ObjectImages:
    """Bring the images to the same channels, weigh their pixels, and describe them all.

    Args:
        images: At least one.
        options: What is made of them.
        advance: Called after each image whose pixels are weighed.

    Raises:
        ConfigError: If the cases cannot be divided as wanted.
        DataError: If no image holds an object, or there are too few to divide.
    """
    num_objects = sum(len(np.unique(image.instances[image.instances > 0])) for image in images)
    if not num_objects:
        raise DataError(f"there is no object in {counted(len(images), 'image')}", hint="choose others to learn from")
    num_channels = 1 if options.channels == "grey" else max(len(image.image) for image in images)
    num_channels = 3 if options.channels == "rgb" else num_channels
    cases = tuple(
        LabelledImage(each.id, with_channels(each.image, num_channels), each.labels, instances=each.instances)
        for each in images
    )
    if options.weight_map is not None:
        cases = with_weights(cases, len(options.classes), options.weight_map, advance=advance)
    spacings = {each.spacing for each in images}
    spacing = next(iter(spacings)) if len(spacings) == 1 else None
    manifest = Manifest(
        name=options.name,
        kind=options.kind,
        classes=options.classes,
        channels=channel_names(num_channels),
        has_ignored=options.has_ignored,
        has_instances=True,
        weight_map=options.weight_map,
        spacing=spacing,
        unit="um" if spacing else None,
        intensity=intensity_stats([case.image for case in cases]),
        cases=tuple(describe_case(case, len(options.classes)) for case in cases),
        split_method="published" if options.split.is_published else "random",
        splits=_splits(images, options.split),
    )
    warnings = (*empty_class_warnings(manifest), *duplicate_warnings(manifest, cases))
    return ObjectImages(manifest, cases, num_objects, warnings)


def with_channels(image: Array, num_channels: int) -> Array:
    """An image `(C, H, W)` of 1 or 3 channels with so many: grey thrice, or the brightness of colours.

    Brightness is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), rounded where the type is of integers.
    """
    if len(image) == num_channels:
        return image
    if len(image) == 1:
        return np.repeat(image, num_channels, axis=0)
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, 2), image.dtype.newbyteorder("="))
    if pixels.dtype.name in {"uint8", "uint16", "float32"}:  # those that OpenCV converts
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), pixels.dtype)[None]
    grey = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2GRAY)
    return np.rint(grey).astype(pixels.dtype)[None]


def refuse_all_skipped(skipped: Sequence[Skipped], num_usable: int, *, is_strict: bool) -> None:
    """Raise `DataError` if no image is left, or one is skipped under `is_strict`."""
    told = "; ".join(f"{each.id}: {each.reason}" for each in skipped[:5])
    told += f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    if not num_usable:
        raise DataError(f"no image can be used: {told or 'there is none'}", hint="look at the files that are named")
    if skipped and is_strict:
        raise DataError(
            f"{len(skipped)} of {counted(len(skipped) + num_usable, 'image')} cannot be used: {told}",
            hint="mend or remove them, or leave out --strict to skip them",
        )


def shortened(warnings: Sequence[str]) -> tuple[str, ...]:
    """The first few warnings, and how many more there are."""
    if len(warnings) <= SHOWN_WARNINGS:
        return tuple(warnings)
    return (*warnings[:SHOWN_WARNINGS], f"and {len(warnings) - SHOWN_WARNINGS} more of this kind")


def _splits(images: Sequence[ObjectImage], plan: SplitPlan) -> tuple[Split, ...]:
    if not plan.is_published:
        return draw_splits([image.id for image in images], [None] * len(images), plan)
    return published_split([image.id for image in images], [image.is_validation for image in images])
