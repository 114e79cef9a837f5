"""From published volumes to a dataset folder: planned from headers, worked off case by case, put in place whole.

Work goes into `.<name>-preparing` beside the dataset, where every finished case leaves a record. After a kill the
next run takes up what is finished; see `volume_records.py`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetcli.data.manifest import PREVIEW_FILE, Case, CaseFiles, Manifest, load_cases, save_manifest
from unetcli.data.preparing.dataset import refuse_output
from unetcli.data.preparing.intensities import intensity_record, merge_distributions
from unetcli.data.preparing.preview import draw_preview, preview_ids, write_png
from unetcli.data.preparing.volume_cases import IMAGES, LABELS, MAPPED_IMAGES, MAPPED_LABELS, POINTS
from unetcli.data.preparing.volume_plan import VolumeSource, WorkOptions, WorkPlan, make_volume_splits, refuse_skipped
from unetcli.data.preparing.volume_records import DATASET, PARTS, RECORDS, Finished, RawCase, Skipped, written_files
from unetcli.data.preparing.volume_work import work_on
from unetcli.errors import ConfigError, DataError, counted
from unetcli.files import replacing_folder


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A dataset that is in place, and what was left out of it.

    Args:
        manifest: What it holds.
        skipped: Cases left out.
        warnings: What may be wrong, as sentences.
        values: Voxels of each value that the masks held.
    """

    manifest: Manifest
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    values: Counter[int]


def make_dataset(
    source: VolumeSource, plan: WorkPlan, options: WorkOptions, advance: Callable[[], None] = lambda: None
) -> Prepared:
    """Make all cases and put the dataset in place; `advance` is called after each case that is made.

    Raises:
        ConfigError: If something is there that may not be replaced, or the cases cannot be split so.
        DataError: If no case is left, one is skipped under `is_strict`, or something cannot be written.
    """
    refuse_output(options.output, overwrite=options.overwrite)
    folder = options.work_folder
    with _locked(folder):
        _take_back(folder)
        results = dict(plan.finished)
        skipped = list(plan.skipped)
        for result in work_on(plan.unfinished, plan.settings, folder, plan.jobs):
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                results[result.case.id] = result
            advance()
        raws = [raw for raw, _ in plan.outlines if raw.id in results]
        kept, copies = _without_copies([results[raw.id] for raw in raws])
        try:
            refuse_skipped([*skipped, *copies], len(kept), options)
        except DataError:
            shutil.rmtree(folder)
            raise
        kept_ids = {finished.case.id for finished in kept}
        manifest = _describe(source, [raw for raw in raws if raw.id in kept_ids], kept, options)
        _put_in_place(folder, manifest, options)
    warnings = (*source.warnings, *_warnings(manifest, kept, plan))
    values = sum((Counter(finished.values) for finished in kept), Counter[int]())
    return Prepared(manifest, (*skipped, *copies), warnings, values)


def _without_copies(results: Sequence[Finished]) -> tuple[list[Finished], list[Skipped]]:
    """The first of the cases with the same image, and the others as skipped."""
    first: dict[str, Case] = {}
    kept: list[Finished] = []
    copies: list[Skipped] = []
    for result in results:
        case = result.case
        other = first.setdefault(case.image_sha256, case)
        if other is case:
            kept.append(result)
        else:
            differ = "" if other.labels_sha256 == case.labels_sha256 else ", but its labels differ"
            copies.append(Skipped(case.id, f"its image is the same as that of {other.id}{differ}"))
    return kept, copies


def _describe(
    source: VolumeSource, raws: Sequence[RawCase], kept: Sequence[Finished], options: WorkOptions
) -> Manifest:
    splits = make_volume_splits(raws, source.split)
    validation = set(splits[0].validation)
    merged = merge_distributions([finished.distribution for finished in kept])
    dtype = np.result_type(*[np.dtype(finished.dtype) for finished in kept]).name
    cases = tuple(_placed_case(finished.case, is_validation=finished.case.id in validation) for finished in kept)
    spacings = np.array([case.files.spacing for case in cases if case.files])
    return Manifest(
        name=options.output.resolve().name,
        kind=source.kind,
        classes=source.classes,
        channels=source.channels,
        num_axes=3,
        has_ignored=source.has_ignored,
        spacing=tuple(map(float, np.median(spacings, axis=0))),
        unit="mm",
        is_resampled=options.spacing is not None,
        intensity=intensity_record(merged, dtype),
        cases=cases,
        split_method="published" if source.split.is_published else "random",
        splits=splits,
    )


def _placed_case(case: Case, *, is_validation: bool) -> Case:
    """A case with the paths that it has in the dataset folder."""
    files, part = _files_of(case), PARTS["validation" if is_validation else "train"]
    places = {name: _place(value, part) for name, value in files.model_dump().items() if isinstance(value, str)}
    return case.model_copy(update={"files": files.model_copy(update=places)})


def _place(path: str, part: str) -> str:
    """Where a file of the work folder lies in the dataset: images and labels by part, all else as it is."""
    return f"{part}/{path}" if Path(path).parts[0] in (IMAGES, LABELS) else path


def _put_in_place(folder: Path, manifest: Manifest, options: WorkOptions) -> None:
    """Move the files of finished cases into a dataset folder, complete it, and put it where it belongs."""
    dataset = folder / DATASET
    for case in manifest.cases:
        for name in written_files(_files_of(case)):
            target = dataset / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / _origin(name)).replace(target)
    chosen = preview_ids(manifest)
    write_png(dataset / PREVIEW_FILE, draw_preview(manifest, load_cases(dataset, manifest, chosen)))
    save_manifest(dataset, manifest)
    refuse_output(options.output, overwrite=options.overwrite)
    with replacing_folder(options.output) as temporary:
        temporary.rmdir()
        dataset.replace(temporary)
    shutil.rmtree(folder)


def _origin(name: str) -> Path:
    """Where a file of the dataset folder came from; the inverse of `_place`."""
    path = Path(name)
    return Path(*path.parts[1:]) if path.parts[0] in PARTS.values() else path


def _take_back(folder: Path) -> None:
    """Undo the moves of a run that was killed while it put its dataset in place."""
    for name in (IMAGES, LABELS, MAPPED_IMAGES, MAPPED_LABELS, POINTS, RECORDS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    dataset = folder / DATASET
    for path in sorted(dataset.rglob("*")) if dataset.is_dir() else ():
        name = path.relative_to(dataset)
        if path.is_file() and len(name.parts) > 1:
            path.replace(folder / _origin(name.as_posix()))
    shutil.rmtree(dataset, ignore_errors=True)


def _files_of(case: Case) -> CaseFiles:
    if case.files is None:
        raise ValueError(f"case {case.id} is not of volumes")
    return case.files


@contextlib.contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep a second run from working in the same folder, where the system can."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"{folder}: another `unet prepare` is at work there", hint="wait for it, or name another --output"
            ) from error
        yield


def _warnings(manifest: Manifest, kept: Sequence[Finished], plan: WorkPlan) -> Iterator[str]:
    without = [raw.id for raw, outline in plan.outlines if not outline.has_spacing]
    if without:
        verb = "does" if len(without) == 1 else "do"
        yield (
            f"{len(without)} of {counted(len(plan.outlines), 'image')} {verb} not tell the size of their voxels, "
            f"which is taken for 1 mm: {', '.join(without[:5])}"
        )
    for finished in kept:
        for warning in finished.warnings:
            yield f"{finished.case.id}: {warning}"
    for info in manifest.classes:
        if not any(case.class_shares[info.index] for case in manifest.cases):
            yield f"no case has voxels of {info.name}"
