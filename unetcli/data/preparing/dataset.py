"""From checked cases to a dataset folder: statistics, splits, duplicates, and the writing itself."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.core.splits import block_folds, zoo_folds
from unetcli.data.cases import LabelledImage, case_hashes, class_shares, weight_shares
from unetcli.data.manifest import (
    CASES_FILE,
    MANIFEST_FILE,
    PREVIEW_FILE,
    Case,
    IntensityStats,
    Manifest,
    Split,
    WeightMapFacts,
    save_manifest,
)
from unetcli.data.mindrecord import write_cases
from unetcli.data.preparing.preview import draw_preview, write_png
from unetcli.data.sources.isbi import CHANNELS, IsbiStack
from unetcli.errors import ConfigError, DataError, counted
from unetcli.files import refuse_existing, replacing_folder

PERCENTS = (0.5, 1.0, 50.0, 99.0, 99.5)
SHOWN_CLASSES = 8
SplitMethod = Literal["zoo", "block"]


def describe_isbi(
    stack: IsbiStack, name: str, method: SplitMethod, num_folds: int, weight_map: WeightMapFacts | None = None
) -> Manifest:
    """The manifest of a membrane stack.

    Args:
        stack: The slices, with weights if there is a weight map.
        name: What the dataset is called.
        method: How to divide the slices.
        num_folds: Into how many folds.
        weight_map: How the weights of pixels were computed; None if there are none.

    Raises:
        ConfigError: If the stack cannot be split into so many folds.
    """
    return Manifest(
        name=name,
        kind="isbi",
        classes=stack.classes,
        channels=CHANNELS,
        weight_map=weight_map,
        spacing=stack.spacing,
        unit="um" if stack.spacing else None,
        intensity=intensity_stats([case.image for case in stack.cases]),
        cases=tuple(describe_case(case, len(stack.classes)) for case in stack.cases),
        split_method=method,
        splits=make_splits([case.id for case in stack.cases], method, num_folds),
    )


def describe_case(case: LabelledImage, num_classes: int) -> Case:
    """A case as the manifest knows it."""
    return Case(
        id=case.id,
        shape=case.image.shape,
        class_shares=class_shares(case.labels, num_classes),
        weight_shares=weight_shares(case, num_classes),
        **case_hashes(case),
    )


def intensity_stats(images: Sequence[NDArray[Any]]) -> IntensityStats:
    """Statistics over the pixels of all images together."""
    values = np.concatenate([image.ravel() for image in images])
    mean = float(values.mean(dtype=np.float64))
    squares = sum(float(np.square(image.astype(np.float64) - mean).sum()) for image in images)
    percentiles = np.percentile(values, PERCENTS)
    return IntensityStats(
        dtype=values.dtype.name,
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=mean,
        std=float(np.sqrt(squares / values.size)),
        percentiles={percent: float(value) for percent, value in zip(PERCENTS, percentiles, strict=True)},
    )


def make_splits(ids: Sequence[str], method: SplitMethod, num_folds: int) -> tuple[Split, ...]:
    """Folds of these cases, in their order.

    Raises:
        ConfigError: If they cannot be split so.
        DataError: If there is but one case.
    """
    if len(ids) < 2:
        raise DataError(f"{len(ids)} slice cannot be split", hint="training and validation need at least 2")
    try:
        folds = zoo_folds(len(ids), num_folds) if method == "zoo" else block_folds(len(ids), num_folds)
    except ValueError as error:
        raise ConfigError(
            f"--split {method} --folds {num_folds}: {error}", hint="choose another --folds, or --split block"
        ) from error
    return tuple(
        Split(train=tuple(ids[i] for i in train), validation=tuple(ids[i] for i in validation))
        for train, validation in folds
    )


def empty_class_warnings(manifest: Manifest) -> Iterator[str]:
    """A sentence on the classes that no pixel is of, which a network cannot learn."""
    shares = zip(manifest.class_names, manifest.class_shares, strict=True)
    if empty := [name for name, share in shares if share == 0]:
        more = f" and {len(empty) - SHOWN_CLASSES} more" if len(empty) > SHOWN_CLASSES else ""
        yield f"no pixel is of {counted(len(empty), 'class', 'classes')}: {', '.join(empty[:SHOWN_CLASSES])}{more}"


def duplicate_warnings(manifest: Manifest, cases: Sequence[LabelledImage]) -> Iterator[str]:
    """A sentence for each set of cases with the same image, and whether a fold trains on what it validates on.

    Blank images are the same without being copies, and are left out.
    """
    blank = {case.id for case in cases if case.image.min() == case.image.max()}
    same: defaultdict[str, list[Case]] = defaultdict(list)
    for case in manifest.cases:
        if case.id not in blank:
            same[case.image_sha256].append(case)
    for copies in same.values():
        if len(copies) < 2:
            continue
        ids = {case.id for case in copies}
        leaking = [
            str(number)
            for number, split in enumerate(manifest.splits)
            if ids & set(split.train) and ids & set(split.validation)
        ]
        differ = len({case.labels_sha256 for case in copies}) > 1
        yield (
            f"images of {', '.join(case.id for case in copies)} are the same"
            + (", but their labels differ" if differ else "")
            + (f"; validation of fold {', '.join(leaking)} contains what it trains on" if leaking else "")
        )


def refuse_output(folder: Path, *, overwrite: bool) -> None:
    """Raise `ConfigError` if `folder` may not become a dataset folder.

    Even with `overwrite` only a dataset folder or an empty one is replaced, never a folder of anything else.
    """
    refuse_existing(folder, overwrite=overwrite)
    if folder.is_dir() and ((folder / MANIFEST_FILE).is_file() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise ConfigError(
            f"{folder}: is not a dataset folder, so it is not replaced",
            hint="name another place with --output",
        )


def write_dataset(folder: Path, manifest: Manifest, cases: Sequence[LabelledImage], *, overwrite: bool) -> None:
    """Write a dataset folder whole: manifest, cases and preview.

    Raises:
        ConfigError: If something is there that may not be replaced.
        DataError: If the cases cannot be written.
    """
    refuse_output(folder, overwrite=overwrite)
    with replacing_folder(folder) as temporary:
        save_manifest(temporary, manifest)
        write_cases(temporary / CASES_FILE, cases)
        for path in (temporary / CASES_FILE, temporary / f"{CASES_FILE}.db"):
            shutil.copymode(temporary / MANIFEST_FILE, path)  # MindRecord's files are closed to the group
        write_png(temporary / PREVIEW_FILE, draw_preview(manifest, cases))
