"""What there is to do to make a dataset of volumes: found out from headers, before a voxel is read."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetcli.core.geometry import Triple
from unetcli.core.splits import block_folds, last_part, random_folds, random_part
from unetcli.data.manifest import ClassInfo, Kind, Split
from unetcli.data.preparing.volume_cases import Outline, outline_case
from unetcli.data.preparing.volume_labels import LabelRule
from unetcli.data.preparing.volume_records import CaseSettings, Finished, RawCase, Skipped, load_record
from unetcli.data.preparing.volume_work import default_jobs
from unetcli.data.sources.class_names import sides_of
from unetcli.errors import ConfigError, DataError, UnetError, counted

DEFAULT_FOLDS = 5
DEFAULT_SEED = 12345
SPARE_BYTES = 64_000_000
"""For the manifest, the preview and what a file system needs itself."""


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How cases are divided.

    Args:
        num_folds: Folds drawn at random; None for `DEFAULT_FOLDS`, or as many as there are cases or groups if fewer.
        seed: Of the drawing.
        is_published: Whether the source itself says which cases validate, in one fold.
        num_validation: Cases drawn at random to validate on, in one fold; None for `num_folds`.

    Raises:
        ConfigError: If both folds and validation cases are to be drawn.
    """

    num_folds: int | None = None
    seed: int = DEFAULT_SEED
    is_published: bool = False
    num_validation: int | None = None

    def __post_init__(self) -> None:
        if self.num_folds is not None and self.num_validation is not None:
            raise ConfigError(
                f"--folds {self.num_folds}, --validation {self.num_validation}: one leaves no choice to the other",
                hint="give the number of folds, or that of the validation cases of a single one",
            )


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """What was found in a source, before a header is read.

    Args:
        kind: Where it comes from.
        cases: Images that have labels, in the order of their names.
        classes: What the labels mean.
        channels: Names of the channels.
        rule: From the masks' values to class indices.
        split: How to divide the cases.
        skipped: What has no partner, or cannot be used.
        warnings: What may be wrong, as sentences.
        has_ignored: Whether a value stands for voxels to ignore.
    """

    kind: Kind
    cases: tuple[RawCase, ...]
    classes: tuple[ClassInfo, ...]
    channels: tuple[str, ...]
    rule: LabelRule
    split: SplitPlan = SplitPlan()
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    has_ignored: bool = False


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """What the user wants of the work.

    Args:
        output: The dataset folder to make.
        spacing: To resample to, along Z Y X in mm; None to leave the grids.
        compress: Write `.nii.gz`, and an uncompressed copy for training.
        jobs: Processes; None for a number that suits the work.
        is_strict: Whether a skipped case is an error.
        overwrite: Whether a dataset that is there may be replaced.
    """

    output: Path
    spacing: Triple | None = None
    compress: bool = False
    jobs: int | None = None
    is_strict: bool = False
    overwrite: bool = False

    @property
    def work_folder(self) -> Path:
        """Where unfinished work lies."""
        return self.output.parent / f".{self.output.name}-preparing"


@dataclass(frozen=True, slots=True, eq=False)
class WorkPlan:
    """What there is to do, from the headers.

    Args:
        outlines: Cases that can be made, each with its header.
        finished: Cases that an earlier run has finished, by id.
        skipped: Cases that are left out.
        num_bytes: What will be written at most.
        jobs: Processes to work in.
        settings: What is made of each case.
    """

    outlines: tuple[tuple[RawCase, Outline], ...]
    finished: dict[str, Finished] = field(repr=False)
    skipped: tuple[Skipped, ...]
    num_bytes: int
    jobs: int
    settings: CaseSettings

    @property
    def unfinished(self) -> tuple[RawCase, ...]:
        """The cases to make."""
        return tuple(raw for raw, _ in self.outlines if raw.id not in self.finished)


def plan_work(source: VolumeSource, options: WorkOptions, advance: Callable[[], None] = lambda: None) -> WorkPlan:
    """Read the headers of all cases, and find out what is to be done; nothing is written.

    Raises:
        ConfigError: If the spacing is not positive, or the cases cannot be divided as wanted.
        DataError: If no case can be used, one cannot under `is_strict`, or the disk is too small.
    """
    if options.spacing and not all(0 < size < math.inf for size in options.spacing):
        raise ConfigError(
            f"--spacing {' '.join(f'{size:g}' for size in options.spacing)}: must be three positive numbers",
            hint="sizes of a voxel along Z, Y and X in mm, such as --spacing 2 1 1",
        )
    settings = CaseSettings(
        rule=source.rule,
        num_classes=len(source.classes),
        num_channels=len(source.channels),
        spacing=options.spacing,
        compress=options.compress,
        sides=sides_of(source.classes),
    )
    outlines: list[tuple[RawCase, Outline]] = []
    skipped = list(source.skipped)
    for raw in source.cases:
        try:
            outlines.append((raw, outline_case(raw, settings)))
        except UnetError as error:
            skipped.append(Skipped(raw.id, str(error)))
        advance()
    refuse_skipped(skipped, len(outlines), options)
    make_volume_splits([raw for raw, _ in outlines], source.split)  # what cannot be split must not cost any work
    records = ((raw, load_record(options.work_folder, raw, settings)) for raw, _ in outlines)
    finished = {raw.id: record for raw, record in records if record is not None}
    waiting = [outline for raw, outline in outlines if raw.id not in finished]
    num_bytes = sum(outline.num_bytes for outline in waiting)
    jobs = min(options.jobs or default_jobs(num_bytes), max(len(waiting), 1))
    largest = max((outline.num_unpacked for outline in waiting), default=0)
    _check_space(options.output, num_bytes, jobs * largest)
    return WorkPlan(tuple(outlines), finished, tuple(skipped), num_bytes, jobs, settings)


def refuse_skipped(skipped: Sequence[Skipped], num_usable: int, options: WorkOptions) -> None:
    """Raise `DataError` if no case is left, or one is skipped under `is_strict`."""
    told = "; ".join(f"{each.id}: {each.reason}" for each in skipped[:5])
    if len(skipped) > 5:
        told += f"; and {len(skipped) - 5} more"
    if not num_usable or (num_usable == 1 and skipped):
        number = "only 1 case can be used, but 2 are needed" if num_usable else "no case can be used"
        raise DataError(f"{number}: {told or 'there is none'}", hint="look at the files that are named")
    if skipped and options.is_strict:
        raise DataError(
            f"{len(skipped)} of {counted(len(skipped) + num_usable, 'case')} cannot be used: {told}",
            hint="mend or remove them, or leave out --strict to skip them",
        )


def _check_space(output: Path, num_bytes: int, num_unpacked: int) -> None:
    place = next(parent for parent in (output.resolve(), *output.resolve().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if num_bytes + num_unpacked + SPARE_BYTES > free:
        meanwhile = f", and {readable_bytes(num_unpacked)} unpacked meanwhile" if num_unpacked else ""
        raise DataError(
            f"{output}: {readable_bytes(num_bytes)} will be written{meanwhile}, "
            f"but the disk has {readable_bytes(free)} left",
            hint="make room, or name a place on another disk with --output",
        )


def readable_bytes(number: int) -> str:
    """A number of bytes for people, such as `1.5 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number} bytes"


def make_volume_splits(raws: Sequence[RawCase], plan: SplitPlan) -> tuple[Split, ...]:
    """The folds of these cases.

    Raises:
        ConfigError: If they cannot be divided into so many.
        DataError: If one part would be empty.
    """
    ids = [raw.id for raw in raws]
    if plan.is_published and len(ids) > 1:
        return published_split(ids, [raw.is_validation for raw in raws])
    return draw_splits(ids, [raw.group for raw in raws], plan)


def published_split(ids: Sequence[str], is_validation: Sequence[bool]) -> tuple[Split, ...]:
    """The one fold that a source itself tells of.

    Raises:
        DataError: If one part is empty.
    """
    validation = tuple(name for name, validates in zip(ids, is_validation, strict=True) if validates)
    train = tuple(name for name, validates in zip(ids, is_validation, strict=True) if not validates)
    if not train or not validation:
        raise DataError(
            f"all {len(ids)} usable cases are for {'validation' if validation else 'training'}",
            hint="draw the folds at random with --folds",
        )
    return (Split(train=train, validation=validation),)


def draw_splits(
    ids: Sequence[str], groups: Sequence[str | None], plan: SplitPlan, *, in_blocks: bool = False
) -> tuple[Split, ...]:
    """Folds drawn at random, or `in_blocks` of neighbours; a case without a group is one of its own.

    Where so many validation cases are wanted, there is one fold, and blocks validate on the last cases.

    Raises:
        ConfigError: If the cases cannot be divided into so many.
        DataError: If there are fewer than two cases or groups.
    """
    if len(ids) < 2:
        raise DataError(f"{counted(len(ids), 'case')} cannot be split", hint="training and validation need at least 2")
    keys = [(name, False) if group is None else (group, True) for name, group in zip(ids, groups, strict=True)]
    if len(set(keys)) < 2:
        raise DataError(f"all {len(ids)} cases are of one group", hint="training and validation need at least 2")
    if plan.num_validation is not None:
        return (_single_split(ids, None if in_blocks else keys, plan.num_validation, plan.seed),)
    num_folds = plan.num_folds or min(DEFAULT_FOLDS, len(set(keys)))
    try:
        folds = block_folds(len(ids), num_folds) if in_blocks else random_folds(len(ids), num_folds, plan.seed, keys)
    except ValueError as error:
        raise ConfigError(f"--folds {num_folds}: {error}", hint="choose another --folds") from error
    return tuple(
        Split(train=tuple(ids[i] for i in train), validation=tuple(ids[i] for i in validation))
        for train, validation in folds
    )


def _single_split(ids: Sequence[str], keys: Sequence[tuple[str, bool]] | None, num_validation: int, seed: int) -> Split:
    try:
        if keys is None:
            train, validation = last_part(len(ids), num_validation)
        else:
            train, validation = random_part(len(ids), num_validation, seed, keys)
    except ValueError as error:
        raise ConfigError(f"--validation {num_validation}: {error}", hint="choose another --validation") from error
    return Split(train=tuple(ids[i] for i in train), validation=tuple(ids[i] for i in validation))
