"""What a new run will be, or which one is to go on. Imported in the commands' bodies, since it is not light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unetcli import __version__
from unetcli.cli.networks import load_engine
from unetcli.cli.options import ALL_FOLDS
from unetcli.cli.wiring import dataset_of
from unetcli.config import load_config, preset_names, translation_of
from unetcli.data.manifest import fingerprint, load_manifest, mirror_pairs, newest_dataset, split_of
from unetcli.data.resolve import resolve
from unetcli.errors import ConfigError, RunError
from unetcli.files import refuse_existing
from unetcli.report import say, say_translation
from unetcli.runs import ClassFacts, Run, RunFacts, new_run_path, open_run, read_metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetcli.cli.initial import Initial
    from unetcli.config import Config
    from unetcli.data.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for, under the names of its options."""

    dataset: Path | None
    preset: str | None
    config: Path | None
    assignments: list[str]
    fold: int | str | None
    epochs: int | None
    seed: int | None
    amp: str | None
    output: Path | None
    resume: Path | None
    initial: Initial | None
    overwrite: bool


def settle(request: Request) -> tuple[Config, Path, Manifest]:
    """The settings of a new run, with what the dataset fills in, and that dataset."""
    preset, file, assignments = request.preset, request.config, request.assignments
    options = {
        "data.fold": None if request.fold == ALL_FOLDS else request.fold,
        "train.epochs": request.epochs,
        "train.seed": request.seed,
        "train.amp": request.amp,
    }
    chooses = preset is None and file is None
    # without a preset the data choose one, so that not all that is assigned can be checked yet
    known = (
        [text for text in assignments if text.partition("=")[0].strip() == "data.dataset"] if chooses else assignments
    )
    config = load_config(preset, file, known, {} if chooses else options)
    folder = request.dataset or config.data.dataset
    if folder is None:
        folder = newest_dataset()
        say(f"dataset: {folder} (the newest in datasets/)")
    if file is not None and (translation := translation_of(file)):
        say_translation(translation.facts(), file, weights="" if request.initial else translation.weights)
    manifest = load_manifest(folder)
    if chooses:
        name = _preset_for(manifest, preset_names())
        config = load_config(name, None, assignments, options)
        if name:
            why = "named like the data" if name in (manifest.kind, manifest.name) else "for any volumes"
            say(f"preset: {name} ({why}; see --preset)")
    return resolve(config, folder, manifest), folder, manifest


def _preset_for(manifest: Manifest, names: Sequence[str]) -> str | None:
    """The preset of the data's name or source; that for any volumes; or none."""
    for name in (manifest.name, manifest.kind):
        if name in names:
            return name
    return "volume" if manifest.num_axes == 3 else None


def plan(request: Request, config: Config, manifest: Manifest, *, num_ranks: int) -> Run:
    """The run to be made; nothing is written yet."""
    split = split_of(manifest, config.data.fold)
    path = request.output or new_run_path(manifest.name, config.preset, config.data.fold)
    refuse_existing(path, overwrite=request.overwrite)
    if path.exists() and not (path / "run.json").is_file():
        raise ConfigError(f"{path}: is not a run folder, so it is not replaced", hint="name another place for the run")
    facts = RunFacts(
        unet_version=__version__,
        dataset=manifest.name,
        kind=manifest.kind,
        dataset_path=config.data.dataset or Path(),
        fingerprint=fingerprint(manifest),
        classes=tuple(
            ClassFacts(index=info.index, name=info.name, value=max(info.source_values)) for info in manifest.classes
        ),
        channels=manifest.channels,
        mirror_pairs=mirror_pairs(manifest),
        spacing=manifest.spacing if manifest.num_axes == 3 else None,
        is_resampled=manifest.is_resampled,
        has_ignored=manifest.has_ignored,
        has_instances=manifest.has_instances and manifest.num_axes == 2,
        num_ranks=num_ranks,
        train=split.train,
        validation=split.validation,
    )
    return Run(path, config, facts)


def take_up(request: Request) -> tuple[Run, Path, Manifest]:
    """A run to go on with, and its dataset, which may have moved but must be what it was.

    Raises:
        RunError: If its last checkpoint has gone, so that to go on would be to train anew over it.
    """
    path = request.resume or Path()
    refuse_changes(request)
    run = open_run(path)
    found = dataset_of(run, request.dataset, otherwise=f"name its new place: unet train DATASET --resume {path}")
    if not run.last_checkpoint.is_file() and run.metrics_path.is_file():
        epochs = max((event["epoch"] for event in read_metrics(run.metrics_path)), default=1)
        if epochs > 1:  # within the first epoch there is none yet
            raise RunError(
                f"{run.last_checkpoint}: is missing, though training had come to epoch {epochs}",
                hint=f"put it back, or train anew with: unet train --config {run.path / 'config.yaml'}",
            )
    return run, *found


def refuse_changes(request: Request) -> None:
    """Raise `ConfigError` if something is given beside --resume that would make another run of it."""
    names = ("preset", "config", "fold", "seed", "amp", "output")
    given = {f"--{name}": getattr(request, name) for name in names}
    given |= {"--set": request.assignments or None, "--overwrite": request.overwrite or None}
    given |= {"--init-from": request.initial}
    if refused := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"--resume: {', '.join(refused)} cannot change in a run that is taken up", hint="only --epochs may grow"
        )


def check_device(config: Config, device: str) -> None:
    """That it is there, and can do what is asked of it."""
    load_engine()
    from unetcli.engine.device import choose_device
    from unetcli.engine.precision import check_precision

    check_precision(config, choose_device(device))
