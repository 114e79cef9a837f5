"""Pairs of images and masks in two dimensions: read, checked, and described as a dataset."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import IGNORED, LabelledImage, content_hash
from unetcli.data.formats.images import ImageFile, grey_of, open_image
from unetcli.data.formats.jpeg import refuse_jpeg
from unetcli.data.formats.tif import page_name
from unetcli.data.manifest import Manifest, Split, WeightMapFacts
from unetcli.data.preparing.dataset import describe_case, empty_class_warnings, intensity_stats
from unetcli.data.preparing.volume_labels import map_labels, value_counts
from unetcli.data.preparing.volume_plan import SplitPlan, draw_splits, published_split
from unetcli.data.preparing.volume_records import Skipped
from unetcli.data.preparing.weighting import pieces_of_classes, with_weights
from unetcli.data.sources.class_names import rule_of, with_mirrors
from unetcli.data.sources.folder import Pair, Pairs
from unetcli.data.sources.isbi import ALLOWED_TYPES
from unetcli.data.sources.label_map import Colour, LabelMap, Meaning, meaning_of, unmet, untold
from unetcli.data.sources.mask_files import DrawnMask, palette_warnings, read_mask
from unetcli.errors import DataError, UnetError, counted

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class FolderImages:
    """A dataset of images that is read and not yet written.

    Args:
        manifest: What it holds.
        cases: Its cases.
        skipped: What is left out, and why.
        values: Pixels of each value that the masks held.
        warnings: What may be wrong, as sentences.
    """

    manifest: Manifest
    cases: tuple[LabelledImage, ...]
    skipped: tuple[Skipped, ...]
    values: Counter[int]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Page:
    """A page with its mask; `file` is the pair that it comes from, `group` what it must not be parted from."""

    id: str
    file: str
    image: Array
    mask: DrawnMask
    group: str | None
    spacing: tuple[float, float] | None
    is_validation: bool


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What the user says of a folder of images.

    Args:
        name: What the dataset is called.
        split: How to divide the cases.
        labels: `VALUE=NAME` of the masks' values; found from the masks if empty.
        mirrors: `A=B` pairs of classes.
        is_strict: Whether a skipped case is an error.
        label_map: What values or colours of the masks become.
        weight_map: How to weigh pixels; None for not at all. The pieces of a class are taken for its cells.
    """

    name: str
    split: SplitPlan
    labels: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    is_strict: bool = False
    label_map: LabelMap = field(default_factory=LabelMap)
    weight_map: WeightMapFacts | None = None


def read_images(pairs: Pairs, options: ImageOptions, advance: Callable[[], None] = lambda: None) -> FolderImages:
    """Read all images and masks of a folder into memory, and check them.

    The pages of a file are cases of one group. Images of three equal channels are grey; if some of a dataset are in
    colour, all are. Images that are the same everywhere, or a copy of another, are skipped.

    Raises:
        DataError: If a mask is a JPEG, the masks' values tell no classes, no case is left, or one is skipped under
            `is_strict`.
        ConfigError: If an option does not fit what was found.
    """
    for pair in pairs.pairs:
        refuse_jpeg(pair.mask)
    skipped = list(pairs.alone)
    pages = _read_pairs(pairs, options.label_map.colours, skipped, advance)
    values: Counter[int] = Counter()
    for page in pages:
        values.update(dict(zip(*(array.tolist() for array in value_counts(page.mask.values)), strict=True)))
    try:
        meaning = meaning_of(values, options.labels, options.label_map)
        meaning = replace(meaning, classes=with_mirrors(meaning.classes, options.mirrors))
    except DataError as error:
        raise DataError(f"{pairs.source}: {error}", hint=error.hint) from error
    labelled = _label(pages, meaning, skipped)
    if not labelled and (error := untold(values, meaning, options.label_map)):
        raise DataError(f"{pairs.source}: {error}", hint=error.hint)
    if options.weight_map and labelled:
        labelled = _weigh(labelled, len(meaning.classes), options.weight_map)
    cases = tuple(case for case, _ in labelled)
    if skipped and options.is_strict:
        raise DataError(
            f"{pairs.source}: {counted(len(skipped), 'case')} cannot be used: {_told(skipped)}",
            hint="mend or remove them, or leave out --strict to skip them",
        )
    if not cases:
        raise DataError(
            f"{pairs.source}: no case can be used: {_told(skipped)}", hint="look at the files that are named"
        )
    manifest = _describe(labelled, meaning, options)
    unseen = unmet(values, options.label_map) or empty_class_warnings(manifest)
    warnings = (*pairs.warnings, *palette_warnings(page.mask for page in pages), *unseen)
    return FolderImages(manifest, cases, tuple(skipped), values, warnings)


def _told(skipped: Sequence[Skipped]) -> str:
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return "; ".join(f"{each.id}: {each.reason}" for each in skipped[:5]) + more


def _read_pairs(
    pairs: Pairs, colours: Mapping[Colour, int], skipped: list[Skipped], advance: Callable[[], None]
) -> list[_Page]:
    """All pages; what cannot be read is added to `skipped`, and an error if nothing can."""
    pages: list[_Page] = []
    hint = ""
    for pair in pairs.pairs:
        try:
            pages += _read_pair(pair, colours)
        except UnetError as error:
            skipped.append(Skipped(pair.id, str(error)))
            hint = hint or error.hint
        advance()
    if not pages:
        raise DataError(
            f"{pairs.source}: no case can be used: {_told(skipped)}", hint=hint or "look at the files that are named"
        )
    return pages


def _read_pair(pair: Pair, colours: Mapping[Colour, int]) -> Iterator[_Page]:
    with contextlib.ExitStack() as stack:
        image, mask = (stack.enter_context(open_image(path)) for path in (pair.image, pair.mask))
        if image.num_pages != mask.num_pages:
            raise DataError(f"{mask.path}: has {counted(mask.num_pages, 'page')}, but its image has {image.num_pages}")
        pages = [_read_page(pair, image, mask, index, colours) for index in range(image.num_pages)]
    return iter(pages)


def _read_page(pair: Pair, image: ImageFile, mask: ImageFile, index: int, colours: Mapping[Colour, int]) -> _Page:
    where = page_name(image.path, index, image.num_pages)
    pixels = image.read(index)
    grey = grey_of(pixels)
    pixels = pixels if grey is None else grey
    if pixels.dtype == np.float64:
        pixels = pixels.astype(np.float32)
    if pixels.dtype.name not in ALLOWED_TYPES:
        raise DataError(f"{where}: is {pixels.dtype}, but must be one of {', '.join(ALLOWED_TYPES)}")
    if not np.isfinite(pixels).all():
        raise DataError(f"{where}: has intensities that are NaN or infinite")
    if pixels.min() == pixels.max():
        raise DataError(f"{where}: the image is {pixels.flat[0]:g} everywhere")
    drawn = read_mask(mask, index, colours)
    if drawn.values.shape != pixels.shape[1:]:
        sizes = (f"{size[0]} x {size[1]}" for size in (drawn.values.shape, pixels.shape[1:]))
        raise DataError(f"{page_name(mask.path, index, mask.num_pages)}: is {' px, but its image is '.join(sizes)} px")
    name = pair.id if image.num_pages == 1 else f"{pair.id}-{index:0{len(str(image.num_pages - 1))}d}"
    group = pair.group if image.num_pages == 1 or pair.group else pair.id
    return _Page(name, pair.id, pixels, drawn, group, image.pixel_size.micrometres, pair.is_validation)


def _label(pages: Sequence[_Page], meaning: Meaning, skipped: list[Skipped]) -> list[tuple[LabelledImage, _Page]]:
    """Cases with class indices; what cannot be used is added to `skipped`."""
    rule = rule_of(meaning.classes, meaning.ignored)
    num_channels = max(len(page.image) for page in pages)
    first: dict[str, str] = {}
    cases: list[tuple[LabelledImage, _Page]] = []
    for page in pages:
        image = np.repeat(page.image, num_channels, axis=0) if len(page.image) == 1 else page.image
        same = first.setdefault(content_hash(image), page.id)
        try:
            labels = map_labels(page.mask.values, rule).labels
        except DataError as error:
            skipped.append(Skipped(page.id, str(error)))
            continue
        if len(image) != num_channels:
            skipped.append(Skipped(page.id, f"has {len(image)} channels, but others have {num_channels}"))
        elif same != page.id:
            skipped.append(Skipped(page.id, f"its image is the same as that of {same}"))
        else:
            cases.append((LabelledImage(page.id, image, labels), page))
    return cases


def _weigh(
    cases: Sequence[tuple[LabelledImage, _Page]], num_classes: int, facts: WeightMapFacts
) -> list[tuple[LabelledImage, _Page]]:
    weighed = with_weights([case for case, _ in cases], num_classes, facts, pieces_of_classes)
    return [(case, page) for case, (_, page) in zip(weighed, cases, strict=True)]


def _describe(cases: Sequence[tuple[LabelledImage, _Page]], meaning: Meaning, options: ImageOptions) -> Manifest:
    classes = meaning.classes
    told = [page.spacing for _, page in cases if page.spacing is not None]
    spacing = tuple(map(float, np.median(np.array(told), axis=0))) if len(told) == len(cases) else None
    # the pages of a single file cannot stay together, so at least neighbours do
    is_stack = len({page.file for _, page in cases}) == 1 and not options.split.is_published
    groups = [None if is_stack else page.group for _, page in cases]
    described = [describe_case(case, len(classes)) for case, _ in cases]
    return Manifest(
        name=options.name,
        kind="folder",
        classes=classes,
        has_ignored=any(bool((case.labels == IGNORED).any()) for case, _ in cases),
        weight_map=options.weight_map,
        channels=channel_names(len(cases[0][0].image)),
        spacing=spacing,
        unit="um" if spacing else None,
        intensity=intensity_stats([case.image for case, _ in cases]),
        cases=tuple(case.model_copy(update={"group": group}) for case, group in zip(described, groups, strict=True)),
        split_method="published" if options.split.is_published else "block" if is_stack else "random",
        splits=_splits(cases, groups, options.split, in_blocks=is_stack),
    )


def _splits(
    cases: Sequence[tuple[LabelledImage, _Page]], groups: Sequence[str | None], plan: SplitPlan, *, in_blocks: bool
) -> tuple[Split, ...]:
    if not plan.is_published:
        return draw_splits([case.id for case, _ in cases], groups, plan, in_blocks=in_blocks)
    return published_split([case.id for case, _ in cases], [page.is_validation for _, page in cases])


def channel_names(number: int) -> tuple[str, ...]:
    """What the channels of an image are called."""
    known = {1: ("grey",), 3: ("red", "green", "blue")}
    return known.get(number) or tuple(f"channel_{index}" for index in range(number))


def output_name(source: Path) -> str:
    """What a dataset of a folder is called."""
    return "".join(source.resolve().name.lower().split()) or "folder"
