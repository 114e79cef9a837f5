"""Images and masks of any source, paired by their names.

Either lie in folders of their own, such as `images` and `labels`, or beside each other as `x.png` and `x_mask.png`, or
as `image.png` and `mask.png` in a folder for each, or where two patterns say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unetcli.data.formats.dicom import holds_dicom
from unetcli.data.formats.images import SUFFIXES as IMAGE_SUFFIXES
from unetcli.data.formats.images import natural_key
from unetcli.data.formats.jpeg import SUFFIXES as JPEG_SUFFIXES
from unetcli.data.formats.volumes import SUFFIXES as VOLUME_SUFFIXES
from unetcli.data.preparing.volume_records import Skipped
from unetcli.errors import ConfigError, DataError, counted

MASK_WORD = r"masks?|seg|segmentations?|labels?|labelstr|annotations?|gt"
IMAGE_WORD = r"images?|imagestr|imgs?|im|raw|volumes?|vol"
TRAIN, VALIDATION = "train", ("val", "valid", "validation")
LAYOUTS = (
    "folders images and labels (or masks), files such as x.png beside x_mask.png, or image.png beside mask.png "
    "in a folder for each; or folders train and val of these"
)


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask.

    Args:
        id: What both are called, without what tells them apart.
        image: The image.
        mask: Its mask.
        group: What it must not be parted from.
        is_validation: Whether it lies in a folder of images to validate on.
    """

    id: str
    image: Path
    mask: Path
    group: str | None = None
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class Pairs:
    """What was found in a folder.

    Args:
        source: The folder.
        pairs: Images with their masks, in natural order of their names.
        alone: What has no partner, and why.
        dimension: Whether they are images or volumes.
        warnings: What may be wrong, as sentences.
        is_published: Whether folders say what trains and what validates.
    """

    source: Path
    pairs: tuple[Pair, ...]
    alone: tuple[Skipped, ...]
    dimension: Literal[2, 3]
    warnings: tuple[str, ...] = ()
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for.

    Args:
        images: A pattern of the images within the folder; by their folder or name if None.
        masks: The same for masks; both or none.
        as_volumes: Whether the pages of a TIF are the slices of one volume.
        group_by: A regular expression; cases in whose names it finds the same stay together.
    """

    images: str | None = None
    masks: str | None = None
    as_volumes: bool = False
    group_by: str | None = None


def find_pairs(source: Path, search: Search) -> Pairs:
    """Find images and their masks by their names; none is read.

    Names agree if they are the same without their ending, a word such as `_mask` or `img_`, and the `_0000` of nnU-Net,
    in the same folder below that of the images and that of the masks. Files that are called nothing but `image` and
    `mask` have the name of their folder. Where there are folders `train` and `val`, each is searched by itself, and
    they say what validates.

    Raises:
        ConfigError: If only one pattern is given, or the regular expression is none or matches no name.
        DataError: If there are no images, no masks or no pairs, or both images and volumes.
    """
    if not source.is_dir():
        raise DataError(
            f"{source}: {'is a file' if source.exists() else 'no such folder'}, but a folder is needed with {LAYOUTS}",
            hint="name the folder that holds images and masks",
        )
    if (parts := _parts_of(source)) and search.images is None:
        return _joined(source, *(find_pairs(part, search) for part in parts))
    images, masks = _files_of(source, search)
    if not images or not masks:
        found = ", ".join(sorted(path.name for path in source.iterdir())[:8]) or "nothing"
        raise DataError(
            f"{source}: holds no {'masks' if images else 'images'}; looked for {LAYOUTS}, found {found}",
            hint="prepare them with: unet prepare nuclei"
            if any((path / "masks").is_dir() for path in source.iterdir())
            else "say where they are: --images 'scans/*.tif' --masks 'drawn/*.tif'",
        )
    (images, copies), (masks, more) = _without_copies(images), _without_copies(masks)
    images, ambiguous = _unique(images, "an image")
    masks, others = _unique(masks, "a mask")
    names = sorted(images.keys() & masks.keys(), key=lambda name: natural_key(Path(name)))
    alone = [Skipped(str(images[name].relative_to(source)), "has no mask") for name in images.keys() - masks.keys()]
    alone += [Skipped(str(masks[name].relative_to(source)), "has no image") for name in masks.keys() - images.keys()]
    if not names:
        raise DataError(
            f"{source}: no image and mask agree in their names, such as "
            f"{next(iter(images.values())).name} and {next(iter(masks.values())).name}",
            hint="rename them alike, such as x.png and x_mask.png",
        )
    groups = _groups([images[name].relative_to(source) for name in names], search.group_by)
    pairs = tuple(
        Pair(name.replace("/", "_"), images[name], masks[name], group)
        for name, group in zip(names, groups, strict=True)
    )
    without = [pair.id for pair in pairs if pair.group is None]
    warnings = _copies_told([*copies, *more], source)
    if search.group_by is not None and without:
        alone_in = "which is a group of its own" if len(without) == 1 else "which are a group each"
        names = counted(len(without), "name")
        warnings.append(f"--group-by does not match {names}, {alone_in}: {', '.join(without[:5])}")
    skipped = sorted((*ambiguous, *others, *alone), key=lambda each: natural_key(Path(each.id)))
    return Pairs(source, pairs, tuple(skipped), _dimension(pairs, search), tuple(warnings))


def _parts_of(source: Path) -> tuple[Path, Path] | None:
    """The folders of what trains and of what validates, if both are there."""
    validation = next((source / name for name in VALIDATION if (source / name).is_dir()), None)
    return (source / TRAIN, validation) if validation and (source / TRAIN).is_dir() else None


def _joined(source: Path, train: Pairs, validation: Pairs) -> Pairs:
    """Both parts as one; if they have a name in common, all names begin with that of their part."""
    if train.dimension != validation.dimension:
        raise DataError(
            f"{source}: {train.source.name} and {validation.source.name} are of images and of volumes, "
            "but a dataset is of one kind",
            hint="prepare them apart",
        )
    is_shared = bool({pair.id for pair in train.pairs} & {pair.id for pair in validation.pairs})
    pairs = tuple(
        replace(pair, id=f"{part.source.name}_{pair.id}" if is_shared else pair.id, is_validation=part is validation)
        for part in (train, validation)
        for pair in part.pairs
    )
    alone = tuple(
        Skipped(f"{part.source.name}/{each.id}", each.reason) for part in (train, validation) for each in part.alone
    )
    warnings = (*train.warnings, *validation.warnings)
    return Pairs(source, pairs, alone, train.dimension, warnings, is_published=True)


Named = list[tuple[str, Path]]
"""Files with the names by which they are paired."""


def _files_of(source: Path, search: Search) -> tuple[Named, Named]:
    """Images and masks, each with the name that it has in common with its partner."""
    if (search.images is None) != (search.masks is None):
        raise ConfigError("--images and --masks: one is no use without the other", hint="give both patterns")
    if search.images is not None and search.masks is not None:
        masks = _matching(source, search.masks)
        # a pattern such as *.png for images would match the masks beside them too
        images = [path for path in _matching(source, search.images) if path not in set(masks)]
        if len(images) == len(masks) == 1:
            return [(_stem(images[0]), images[0])], [(_stem(images[0]), masks[0])]
        stars = _stars(images, source, search.images), _stars(masks, source, search.masks)
        if {name for name, _ in stars[0]} & {name for name, _ in stars[1]}:
            return stars
        return [(_name(path, source), path) for path in images], [(_name(path, source), path) for path in masks]
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    of_images = next((path for path in folders if re.fullmatch(rf"(?i){IMAGE_WORD}", path.name)), None)
    of_masks = next((path for path in folders if re.fullmatch(rf"(?i)({MASK_WORD})([_-].*)?", path.name)), None)
    if of_images and of_masks:
        images, masks = ([(_name(path, root), path) for path in _below(root)] for root in (of_images, of_masks))
        return images, masks
    files = list(_below(source))
    named = [(_name(path, source), path) for path in files]
    return [each for each in named if not _is_mask(each[1])], [each for each in named if _is_mask(each[1])]


def _matching(source: Path, pattern: str) -> list[Path]:
    try:
        found = sorted(source.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"{pattern}: is no pattern within {source} ({error})", hint="such as 'scans/*.tif'"
        ) from error
    return [path for path in found if path.is_file() or (path.is_dir() and holds_dicom(path))]


def _stars(paths: Iterable[Path], source: Path, pattern: str) -> Named:
    """Files named by what the wildcards of a pattern stand for."""
    parts = re.split(r"(\*\*/|\*+|\?|\[[^]]*\])", pattern)
    forms = {"**/": "((?:.*/)?)", "?": "([^/])"}
    expression = "".join(
        (forms.get(part) or ("([^/]*)" if part.startswith("*") else f"({part})")) if index % 2 else re.escape(part)
        for index, part in enumerate(parts)
    )
    matches = [(path, re.fullmatch(expression, path.relative_to(source).as_posix())) for path in paths]
    # a star may stand for the ending too, which is no part of a name
    named = [(map(_bare, found.groups("")), path) for path, found in matches if found]
    return [("_".join(filter(None, parts)), path) for parts, path in named]


def _bare(part: str) -> str:
    return part[: len(part) - len(_ending(Path(part)))].strip("/")


def _below(root: Path) -> Iterable[Path]:
    """Images and volumes in a folder and those below it; a folder of DICOM files is one volume."""
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from [path] if holds_dicom(path) else _below(path)
        elif _ending(path):
            yield path


def _ending(path: Path) -> str:
    name = path.name.lower()
    return next((end for end in (".nii.gz", *sorted(IMAGE_SUFFIXES | VOLUME_SUFFIXES)) if name.endswith(end)), "")


def _stem(path: Path) -> str:
    ending = _ending(path)
    stem = path.name[: -len(ending)] if ending else path.name if path.is_dir() else path.stem
    return stem.removesuffix(".ome")


def _is_mask(path: Path) -> bool:
    return re.search(rf"(?i)[_\-. ]({MASK_WORD})([_-]manual)?$|^({MASK_WORD})([_\-. ]|$)", _stem(path)) is not None


def _name(path: Path, root: Path) -> str:
    """What an image and its mask have in common."""
    stem = re.sub(r"_0000$", "", _stem(path))
    words = rf"{MASK_WORD}|{IMAGE_WORD}"
    if path.parent != root and re.fullmatch(rf"(?i){words}", stem):
        return path.parent.relative_to(root).as_posix()
    bare = re.sub(rf"(?i)[_\-. ]+({words})([_-]manual)?$|^({words})[_\-. ]+", "", stem)
    return (path.parent.relative_to(root) / (bare or stem)).as_posix()


def _without_copies(files: Named) -> tuple[Named, list[tuple[Path, Path]]]:
    """Files, and the JPEGs that are passed over with what is taken instead.

    A JPEG is passed over beside a file of its name that is none, since it was made from it to be looked at.
    """
    others = {name: path for name, path in files if path.suffix.lower() not in JPEG_SUFFIXES}
    copies = [(path, others[name]) for name, path in files if name in others and path.suffix.lower() in JPEG_SUFFIXES]
    passed_over = {path for path, _ in copies}
    return [(name, path) for name, path in files if path not in passed_over], copies


def _copies_told(copies: Sequence[tuple[Path, Path]], source: Path) -> list[str]:
    if not copies:
        return []
    first, taken = (path.relative_to(source).as_posix() for path in copies[0])
    number = counted(len(copies), "JPEG is", "JPEGs are")
    return [f"{source}: {number} passed over for files of the same name that are none, such as {first} beside {taken}"]


def _unique(files: Named, what: str) -> tuple[dict[str, Path], list[Skipped]]:
    """Files by name; those that share a name are told, since none can say which is meant."""
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for name, path in files:
        by_name[name].append(path)
    skipped = [
        Skipped(name, f"{what} of this name is there {len(paths)} times: {', '.join(path.name for path in paths[:3])}")
        for name, paths in by_name.items()
        if len(paths) > 1
    ]
    return {name: paths[0] for name, paths in by_name.items() if len(paths) == 1}, skipped


def _groups(paths: Sequence[Path], group_by: str | None) -> list[str | None]:
    if group_by is None:
        return [None] * len(paths)
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(f"--group-by {group_by}: is no regular expression ({error})") from error
    matches = [pattern.search(path.as_posix()) for path in paths]
    if not any(matches):
        raise ConfigError(
            f"--group-by {group_by}: matches no name, such as {paths[0].as_posix()}",
            hint="such as --group-by 'patient[0-9]+' or '^([^_]+)_'",
        )
    return [match and (match[1] if pattern.groups else match[0]) for match in matches]


def _dimension(pairs: Sequence[Pair], search: Search) -> Literal[2, 3]:
    if search.as_volumes:
        return 3
    flat = [pair.image for pair in pairs if _ending(pair.image) in IMAGE_SUFFIXES]
    if flat and len(flat) < len(pairs):
        other = next(pair.image for pair in pairs if pair.image not in flat)
        raise DataError(
            f"{flat[0]}: is an image, but {other} a volume, and a dataset is of one kind",
            hint="choose by --images and --masks, or take TIF stacks for volumes with --volumes",
        )
    return 2 if flat else 3
