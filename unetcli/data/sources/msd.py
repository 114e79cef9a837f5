"""The form of the Medical Segmentation Decathlon, and that of nnU-Net v2, which grew from it.

Both have a `dataset.json` beside `imagesTr` and `labelsTr`. The Decathlon lists its pairs and writes labels as
`{"1": "name"}`; nnU-Net writes `{"name": 1}` and finds channels by their names, `<id>_0000.nii.gz`, `<id>_0001.nii.gz`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unetcli.data.formats.images import natural_key
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.volume_plan import SplitPlan, VolumeSource
from unetcli.data.preparing.volume_records import RawCase, Skipped
from unetcli.data.sources.class_names import IGNORE, numbered_classes, rule_of, with_mirrors
from unetcli.errors import ConfigError, DataError, counted

DESCRIPTION = "dataset.json"
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".tif", ".tiff", ".png")


@dataclass(frozen=True, slots=True)
class MsdDescription:
    """What `dataset.json` says.

    Args:
        name: The dataset's name, or its folder's.
        classes: Its classes, with background.
        ignored: The value of voxels to ignore; empty if there is none.
        channels: Names of the channels.
        pairs: Each case as the paths of its images and labels; None if they are to be found by name.
        num_cases: How many it says there are; None if it does not.
        ending: Of the files, such as `.nii.gz`.
    """

    name: str
    classes: tuple[ClassInfo, ...]
    ignored: tuple[int, ...]
    channels: tuple[str, ...]
    pairs: tuple[tuple[tuple[Path, ...], Path], ...] | None
    num_cases: int | None
    ending: str


def read_description(source: Path) -> MsdDescription:
    """Read and check a `dataset.json`.

    Raises:
        DataError: If it is missing, not JSON, or lacks labels or channels; if labels are regions.
    """
    path = source / DESCRIPTION
    content = _read_json(path)
    names = _label_names(path, content.get("labels"))
    try:
        classes = numbered_classes(names)
    except ConfigError as error:
        raise DataError(f"{path}: {error}", hint=error.hint) from error
    return MsdDescription(
        name=str(content.get("name") or source.resolve().name),
        classes=classes,
        ignored=tuple(value for value, name in names.items() if name == IGNORE),
        channels=_channel_names(path, content.get("channel_names", content.get("modality"))),
        pairs=_listed_pairs(path, content),
        num_cases=number if isinstance(number := content.get("numTraining"), int) else None,
        ending=str(content.get("file_ending") or ""),
    )


def read_msd(source: Path, split: SplitPlan, mirrors: Sequence[str] = ()) -> VolumeSource:
    """Find the cases of a source.

    Args:
        source: The folder of `dataset.json`.
        split: How to divide the cases.
        mirrors: Pairs of classes, as `left=right`, beside those whose names say so.

    Raises:
        DataError: If `read_description` refuses it, or it has no cases.
        ConfigError: If a mirror pair names no classes.
    """
    description = read_description(source)
    classes = with_mirrors(description.classes, mirrors)
    found = description.pairs or tuple(_pairs_by_name(source, description))
    cases: dict[str, RawCase] = {}
    skipped: list[Skipped] = []
    for images, labels in found:
        name = stem_of(labels)
        missing = [path for path in (*images, labels) if not path.exists()]
        if missing or not images:
            what = f"{missing[0]}: no such file" if missing else "there is no image for its labels"
            skipped.append(Skipped(name, what))
        elif name in cases:
            skipped.append(Skipped(name, f"{labels}: a case of this name is there already"))
        else:
            cases[name] = RawCase(name, images, labels)
    warnings = list(_warnings(source, description, found))
    return VolumeSource(
        kind="msd",
        cases=tuple(cases.values()),
        classes=classes,
        channels=description.channels,
        rule=rule_of(classes, description.ignored),
        split=split,
        skipped=tuple(skipped),
        warnings=tuple(warnings),
        has_ignored=bool(description.ignored),
    )


def stem_of(path: Path) -> str:
    """A file's name without its ending, of which `.nii.gz` is one."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), path.suffix)
    return path.name.removesuffix(path.name[len(path.name) - len(ending) :]) if ending else path.name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path.parent}: holds no {DESCRIPTION}",
            hint="name the folder of a Decathlon or nnU-Net task; `unet prepare folder` takes images without it",
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="take it from the source again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: must be a JSON object, but is {type(content).__name__}")
    return cast("dict[str, Any]", content)


def _label_names(path: Path, labels: Any) -> dict[int, str]:
    """Names by value, from either dictionary."""
    if not isinstance(labels, dict) or not labels:
        raise DataError(f'{path}: has no labels, such as {{"0": "background", "1": "liver"}}')
    names: dict[int, str] = {}
    for key, value in cast("dict[str, Any]", labels).items():
        if isinstance(value, list):
            raise DataError(
                f"{path}: the label '{key}' is a region of several values, {value}",
                hint="regions overlap, and a pixel here has one class; write a label for each value",
            )
        is_by_value = isinstance(value, str) and not value.strip().lstrip("-").isdigit()
        number, name = (key, value) if is_by_value else (value, key)
        try:
            number = int(number)
        except (TypeError, ValueError):
            raise DataError(f"{path}: the label {key!r}: {value!r} has no whole number") from None
        if number in names:
            raise DataError(f"{path}: two labels have the value {number}: {names[number]} and {name}")
        names[number] = str(name)
    return names


def _channel_names(path: Path, channels: Any) -> tuple[str, ...]:
    if isinstance(channels, dict) and channels:
        numbered = cast("dict[str, Any]", channels)
        if sorted(numbered) == sorted(map(str, range(len(numbered)))):
            return tuple(str(numbered[str(index)]) for index in range(len(numbered)))
    raise DataError(f'{path}: has no channels numbered from 0, such as "modality": {{"0": "CT"}}')


def _listed_pairs(path: Path, content: Mapping[str, Any]) -> tuple[tuple[tuple[Path, ...], Path], ...] | None:
    listed = content.get("training")
    if isinstance(listed, list) and listed:
        entries = cast("list[Any]", listed)
    elif isinstance(content.get("dataset"), dict):
        entries = list(cast("dict[str, Any]", content["dataset"]).values())
    else:
        return None
    pairs: list[tuple[tuple[Path, ...], Path]] = []
    for entry in entries:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        images, labels = fields.get("image", fields.get("images")), fields.get("label")
        images = [images] if isinstance(images, str) else images
        if not isinstance(labels, str) or not isinstance(images, list):
            raise DataError(f"{path}: the training case {entry!r} has no image and label")
        pairs.append((tuple(path.parent / str(image) for image in cast("list[Any]", images)), path.parent / labels))
    return tuple(pairs)


def _pairs_by_name(source: Path, description: MsdDescription) -> Iterator[tuple[tuple[Path, ...], Path]]:
    """Labels in `labelsTr`, and for each the images `<id>_0000` and on, or `<id>`, in `imagesTr`."""
    images, labels = source / "imagesTr", source / "labelsTr"
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder", hint=f"{DESCRIPTION} lists no cases, so it is needed")
    ending = description.ending
    by_stem = {stem_of(path): path for path in images.iterdir() if _is_volume(path, ending)}
    for path in sorted((path for path in labels.iterdir() if _is_volume(path, ending)), key=natural_key):
        name = stem_of(path)
        files = [
            by_stem[each] for index in range(len(description.channels)) if (each := f"{name}_{index:04d}") in by_stem
        ]
        if not files and name in by_stem:
            files = [by_stem[name]]
        yield tuple(files), path


def _is_volume(path: Path, ending: str) -> bool:
    """Whether a file is one of the dataset's; a `._` beside it is what a Mac's archive leaves."""
    return not path.name.startswith(".") and path.name.lower().endswith(ending.lower() or ENDINGS)


def _warnings(
    source: Path, description: MsdDescription, found: Sequence[tuple[tuple[Path, ...], Path]]
) -> Iterator[str]:
    if description.num_cases is not None and description.num_cases != len(found):
        yield f"{DESCRIPTION} tells of {counted(description.num_cases, 'training case')}, but {len(found)} were found"
    listed = {path.resolve() for images, _ in found for path in images}
    folder = source / "imagesTr"
    if folder.is_dir():
        alone = [
            path for path in folder.iterdir() if _is_volume(path, description.ending) and path.resolve() not in listed
        ]
        if alone:
            names = ", ".join(sorted(re.sub(r"^.*/", "", str(path)) for path in alone)[:5])
            verb = "belongs" if len(alone) == 1 else "belong"
            yield f"{counted(len(alone), 'image')} in {folder} {verb} to no case: {names}"
