"""LUNA16 as it is published: `subset0` to `subset9` of CT volumes, and `seg-lungs-LUNA16` of masks.

Volumes are `.mhd` headers with their `.raw`, masks `.mhd` with `.zraw`, paired by name. Any of the subsets may be
there, in folders or in the archives as they were downloaded. The masks were drawn by an algorithm, and are no reference
standard. Their values are 3 for the left lung, 4 for the right and 5 for the trachea; others occur here and there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from unetcli.data.preparing.volume_plan import SplitPlan, VolumeSource
from unetcli.data.preparing.volume_records import RawCase, Skipped
from unetcli.data.sources.archives import ArchivedFile, FileSource, Member, list_members
from unetcli.data.sources.class_names import ignored_values, numbered_classes, parse_labels, rule_of, with_mirrors
from unetcli.errors import DataError, counted

LABELS: Mapping[int, str] = {0: "background", 3: "left_lung", 4: "right_lung", 5: "trachea"}
CHANNELS = ("CT",)
MASKS = "seg-lungs"
LAST_SUBSET = "subset9"
NUM_VALIDATION = 10
LAYOUT = "subset0 to subset9 with .mhd and .raw files, and seg-lungs-LUNA16 with .mhd and .zraw files, or their .zip"


@dataclass(frozen=True, slots=True)
class _Found:
    """A header: the file, the subset it lies in (empty if in none), and whether it is a mask."""

    name: str
    source: FileSource
    subset: str
    is_mask: bool


def read_luna16(source: Path, split: SplitPlan, labels: Sequence[str] = ()) -> VolumeSource:
    """Find the cases of LUNA16, without reading a volume.

    Values that have no name are background, as in the published preparation of these masks.

    Args:
        source: The folder of the subsets and the masks.
        split: How to divide the cases; a published one validates on the last ten volumes of subset 9.
        labels: `VALUE=NAME` in place of the published three.

    Raises:
        DataError: If there are no volumes or no masks, or an archive is not safe to read.
        ConfigError: If a label is not of the form that it must be.
    """
    if not source.is_dir():
        raise DataError(
            f"{source}: {'is a file' if source.exists() else 'no such folder'}, but a folder is needed of {LAYOUT}",
            hint="download LUNA16 there, or name its folder: unet prepare luna16 FOLDER",
        )
    images, masks, skipped = _by_name(source)
    if not images or not masks:
        raise DataError(
            f"{source}: holds no {'masks' if images else 'volumes'}; it must hold {LAYOUT}",
            hint="name the folder that holds them: unet prepare luna16 FOLDER",
        )
    paired = sorted((found for name, found in images.items() if name in masks), key=lambda found: found.name)
    skipped += [
        Skipped(name, f"there is no mask {name}.mhd in {MASKS}") for name in sorted(images.keys() - masks.keys())
    ]
    warnings = []
    chosen: set[str] = set()
    if split.is_published and paired:
        chosen, warning = _validation([(found.name, found.subset) for found in paired])
        warnings += [warning] if warning else []
    names = parse_labels(labels) if labels else LABELS
    classes = with_mirrors(numbered_classes(names))
    ignored = ignored_values(names)
    return VolumeSource(
        kind="luna16",
        cases=tuple(
            RawCase(found.name, (found.source,), masks[found.name].source, is_validation=found.name in chosen)
            for found in paired
        ),
        classes=classes,
        channels=CHANNELS,
        rule=rule_of(classes, ignored, others=0),
        split=split,
        skipped=tuple(skipped),
        warnings=tuple(warnings),
        has_ignored=bool(ignored),
    )


def _by_name(source: Path) -> tuple[dict[str, _Found], dict[str, _Found], list[Skipped]]:
    """Volumes and masks by name, and volumes that are there twice; a file goes before the same in an archive."""
    images: dict[str, _Found] = {}
    masks: dict[str, _Found] = {}
    skipped: list[Skipped] = []
    for found in (*_files(source), *_archived(source)):
        group = masks if found.is_mask else images
        other = group.setdefault(found.name, found)
        if other is not found and isinstance(found.source, Path):
            skipped.append(Skipped(found.name, f"{found.source}: the same name as {other.source}, which is taken"))
    return images, masks, skipped


def _files(source: Path) -> Iterator[_Found]:
    for path in sorted(source.rglob("*.mhd")):
        if not path.name.startswith(".") and path.is_file():
            yield _found(path, path.relative_to(source), "")


def _archived(source: Path) -> Iterator[_Found]:
    for archive in sorted(source.rglob("*.zip")):
        if not re.match(rf"subset\d|{MASKS}", archive.name, re.IGNORECASE):
            continue
        by_stem: dict[PurePath, list[Member]] = {}
        for member in list_members(archive):
            if not member.path.name.startswith("."):
                by_stem.setdefault(member.path.with_suffix(""), []).append(member)
        for members in by_stem.values():
            mains = [member for member in members if member.path.suffix == ".mhd"]
            if mains:
                others = tuple(member for member in members if member not in mains)
                yield _found(ArchivedFile(archive, mains[0], others), mains[0].path, archive.stem)


def _found(source: FileSource, path: PurePath, archive: str) -> _Found:
    folders = [part.lower() for part in (archive, *path.parts[:-1])]
    subset = next((part for part in reversed(folders) if re.fullmatch(r"subset\d", part)), "")
    return _Found(path.stem, source, subset, any(part.startswith(MASKS) for part in folders))


def _validation(names: Sequence[tuple[str, str]]) -> tuple[set[str], str]:
    """The names that validate, and what to say if they are not the published ones."""
    last = [name for name, subset in names if subset == LAST_SUBSET]
    if last and len(names) > NUM_VALIDATION:
        return set(last[-NUM_VALIDATION:]), ""
    number = max(1, math.ceil(len(names) / 10))
    missing = (
        f"there {'is' if len(names) == 1 else 'are'} only {counted(len(names), 'volume')}"
        if last
        else f"there is no {LAST_SUBSET}"
    )
    return {name for name, _ in names[-number:]}, (
        f"{missing}, so validation is not the published one, but the last {number} of all by name"
    )
