"""What several commands connect in the same way. Imported in their bodies, since it is not light."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unetcli.cli.distributing import say_before
from unetcli.cli.networks import load_engine
from unetcli.data.manifest import fingerprint, load_cases, load_manifest
from unetcli.errors import DataError, RunError
from unetcli.folds import is_folds, open_folds
from unetcli.runs import RUNS, fold_folders, newest_run, open_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import Manifest
    from unetcli.runs import Run


def take_run(path: Path | None) -> Run:
    """The run of a folder, or the newest in `runs/`; which one is said."""
    run = open_run(path)
    say_before(f"run: {run.path}{'' if path else f' (the newest in {RUNS}/)'}")
    return run


def take_runs(paths: Sequence[Path] | None) -> list[Run]:
    """The runs of folders, or the newest in `runs/`; a folder of folds stands for the runs of all of them.

    Which they are is said, and that they are averaged where they are several.

    Raises:
        RunError: If one cannot be read, or a fold has not begun.
    """
    runs: list[Run] = []
    for path in paths or [newest_run()]:
        if folds := _folds_of(path):
            runs += map(open_run, folds)
            newest = "" if paths else f", the newest in {RUNS}/"
            say_before(f"run: {path} (its folds {', '.join(folder.name for folder in folds)}{newest})")
        else:
            runs.append(take_run(path if paths else None))
    unique = {run.path.resolve(): run for run in runs}
    if len(unique) < len(runs):
        say_before("note: a run that is named twice counts once")
    runs = [*unique.values()]
    if len(runs) > 1:
        say_before(f"averaging {len(runs)} runs")
    return runs


def _folds_of(path: Path) -> list[Path]:
    """The runs of all folds in a folder; none if it is itself a run."""
    if not is_folds(path):
        return [] if (path / "run.json").is_file() else fold_folders(path)
    folders = [path / name for name in open_folds(path).facts.runs]
    missing = [folder.name for folder in folders if not (folder / "run.json").is_file()]
    if missing:
        raise RunError(
            f"{path}: not all of its folds have begun; there is no {', '.join(missing)}",
            hint=f"go on with: unet train --resume {path}, or name single folds",
        )
    return folders


def dataset_of(run: Run, dataset: Path | None, *, otherwise: str) -> tuple[Path, Manifest]:
    """The dataset that a run was trained on: `dataset`, or where it was at training.

    Args:
        run: The run.
        dataset: Where the user says it is.
        otherwise: What to do where it is not, to complete "prepare it as it was, or ...".

    Raises:
        DataError: If it is not there any more.
        RunError: If it is another dataset by now.
    """
    folder = dataset or run.facts.dataset_path
    hint = f"prepare it as it was, or {otherwise}"
    if dataset is None and not folder.exists():
        raise DataError(f"{folder}: the dataset that {run.path} was trained on is no longer there", hint=hint)
    return folder, check_dataset(folder, run.path, run.facts.fingerprint, hint=hint)


def check_dataset(folder: Path, run: Path, known: str, *, hint: str) -> Manifest:
    """The manifest of a dataset that must be the one of a fingerprint.

    Args:
        folder: The dataset.
        run: Whose dataset it must be.
        known: The fingerprint of that.
        hint: What to do if it is another.

    Raises:
        RunError: If it is another dataset by now.
    """
    manifest = load_manifest(folder)
    if fingerprint(manifest) != known:
        raise RunError(
            f"{folder}: is not the dataset that {run} was trained on (its cases or classes differ)", hint=hint
        )
    return manifest


def labelled_cases(run: Run, dataset: Path | None, part: str, *, otherwise: str) -> tuple[LabelledImage, ...]:
    """The cases that a run trained or validated on; `part` is "train" or "validation", the rest as for `dataset_of`."""
    ids = run.facts.train if part == "train" else run.facts.validation
    folder, manifest = dataset_of(run, dataset, otherwise=otherwise)
    if manifest.num_axes == 2:
        load_engine()  # MindSpore reads images
    return load_cases(folder, manifest, ids)
