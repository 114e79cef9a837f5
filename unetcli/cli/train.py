"""`unet train`: from a dataset folder to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.options import Device, DeviceOption, JsonOption, OverwriteOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unetcli.config import Config
    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import Manifest
    from unetcli.runs import Run


def train(
    dataset: Annotated[
        Path | None, typer.Argument(help="Dataset folder; the newest in datasets/ if left out.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Proven settings; those named like the data if left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file of settings, laid over the preset.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="One setting; may be repeated.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Split to validate on, from 0 ('cross_valid_ind').")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all; with --resume it may grow.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, patches and dropout.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder to make; one in runs/ if left out.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder to go on with, bit for bit from its last checkpoint.")
    ] = None,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Train a U-Net on a prepared dataset.

    The run folder holds the settings, the metrics of every step, and the last and the best checkpoint.
    Ctrl-C ends training after the running step; --resume RUN goes on from there.
    """
    from unetcli import report
    from unetcli.data.manifest import load_split
    from unetcli.runs import create_run, extend_run

    if resume is not None:
        given = {"--preset": preset, "--config": config, "--set": assignments or None, "--fold": fold}
        given |= {"--seed": seed, "--output": output, "--overwrite": overwrite or None}
        run, folder, manifest = _take_up(resume, dataset, given)
    else:
        options = {"data.fold": fold, "train.epochs": epochs, "train.seed": seed}
        resolved, folder, manifest = _settle(dataset, preset, config, assignments or [], options)
        run = _plan(output, resolved, manifest, overwrite=overwrite)
    _check_device(device.value)
    cases = load_split(folder, manifest, run.config.data.fold)
    if resume is None:  # not earlier: a run that cannot begin must not be made, or it would be the newest
        run = create_run(run.path, run.config, run.facts)
    elif epochs is not None:
        run = extend_run(run, epochs)
    outcome = _fit(run, *cases, device.value)
    report.show_training(outcome, as_json=json_report)
    if outcome["outcome"] == "interrupted":
        raise typer.Exit(130)


def _settle(
    dataset: Path | None,
    preset: str | None,
    file: Path | None,
    assignments: list[str],
    options: Mapping[str, Any],
) -> tuple[Config, Path, Manifest]:
    """The settings of a new run, with what the dataset fills in, and that dataset."""
    from unetcli import report
    from unetcli.config import load_config, preset_names
    from unetcli.data.manifest import load_manifest, newest_dataset
    from unetcli.data.resolve import resolve

    chooses = preset is None and file is None
    # without a preset the data choose one, so that not all that is assigned can be checked yet
    known = (
        [text for text in assignments if text.partition("=")[0].strip() == "data.dataset"] if chooses else assignments
    )
    config = load_config(preset, file, known, {} if chooses else options)
    folder = dataset or config.data.dataset
    if folder is None:
        folder = newest_dataset()
        report.say(f"dataset: {folder} (the newest in datasets/)")
    manifest = load_manifest(folder)
    if chooses:
        name = _preset_for(manifest, preset_names())
        config = load_config(name, None, assignments, options)
        if name:
            why = "named like the data" if name in (manifest.kind, manifest.name) else "for any volumes"
            report.say(f"preset: {name} ({why}; see --preset)")
    return resolve(config, folder, manifest), folder, manifest


def _preset_for(manifest: Manifest, names: Sequence[str]) -> str | None:
    """The preset of the data's name or source; that for any volumes; or none."""
    for name in (manifest.name, manifest.kind):
        if name in names:
            return name
    return "volume" if manifest.num_axes == 3 else None


def _plan(output: Path | None, config: Config, manifest: Manifest, *, overwrite: bool) -> Run:
    """The run to be made; nothing is written yet."""
    from unetcli import __version__
    from unetcli.data.manifest import fingerprint, mirror_pairs, split_of
    from unetcli.errors import ConfigError
    from unetcli.files import refuse_existing
    from unetcli.runs import ClassFacts, Run, RunFacts, new_run_path

    split = split_of(manifest, config.data.fold)
    path = output or new_run_path(manifest.name, config.preset, config.data.fold)
    refuse_existing(path, overwrite=overwrite)
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
        train=split.train,
        validation=split.validation,
    )
    return Run(path, config, facts)


def _take_up(path: Path, dataset: Path | None, given: Mapping[str, Any]) -> tuple[Run, Path, Manifest]:
    """A run to go on with, and its dataset, which may have moved but must be what it was.

    Raises:
        RunError: If its last checkpoint has gone, so that to go on would be to train anew over it.
    """
    from unetcli.cli.wiring import dataset_of
    from unetcli.errors import ConfigError, RunError
    from unetcli.runs import open_run, read_metrics

    if refused := [name for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"--resume: {', '.join(refused)} cannot change in a run that is taken up", hint="only --epochs may grow"
        )
    run = open_run(path)
    found = dataset_of(run, dataset, otherwise=f"name its new place: unet train DATASET --resume {path}")
    if not run.last_checkpoint.is_file() and run.metrics_path.is_file():
        epochs = max((event["epoch"] for event in read_metrics(run.metrics_path)), default=1)
        if epochs > 1:  # within the first epoch there is none yet
            raise RunError(
                f"{run.last_checkpoint}: is missing, though training had come to epoch {epochs}",
                hint=f"put it back, or train anew with: unet train --config {run.path / 'config.yaml'}",
            )
    return run, *found


def _check_device(device: str) -> None:
    from unetcli.cli.networks import load_engine

    load_engine()
    from unetcli.engine.device import choose_device

    choose_device(device)


def _fit(
    run: Run, train_cases: tuple[LabelledImage, ...], validation_cases: tuple[LabelledImage, ...], device: str
) -> dict[str, Any]:
    """Train, and say how it ended."""
    from unetcli import report
    from unetcli.cli.networks import Member, keep_for_prediction
    from unetcli.cli.segmenting import segmenter
    from unetcli.core.spatial import MirrorRule
    from unetcli.data.cases import IGNORED
    from unetcli.data.patches import PatchSampler
    from unetcli.engine import Engine, Runtime
    from unetcli.evaluation import Measures, evaluate
    from unetcli.framework import cache_folder
    from unetcli.runs import Journal, sweep

    config, facts = run.config, run.facts
    ignored = IGNORED if facts.has_ignored else None
    sweep(run)
    mirror = MirrorRule(facts.mirror_pairs) if facts.mirror_pairs else None
    batches = PatchSampler(train_cases, config, mirror=mirror, has_ignored=facts.has_ignored)
    engine = Engine.start(config, Runtime(device, graphs=cache_folder("graphs")), ignored=ignored)
    if run.last_checkpoint.is_file():
        engine.load(run.last_checkpoint)
    largest = [max(case.size[axis] for case in train_cases) for axis in range(config.model.ndim)]
    if any(wanted > found for wanted, found in zip(batches.label_size, largest, strict=True)):
        report.say(
            f"warning: patches of {batches.label_size} px are larger than the largest image, {tuple(largest)} px; "
            "what is beyond is mirrored"
        )
    segment = segmenter([Member(engine.predict, config)], tta=False, cases=validation_cases).case
    names = [info.name for info in facts.classes]
    journal = Journal(run.metrics_path, step=engine.step)
    report.say(
        f"run: {run.path}   device: {engine.device}   "
        f"cases: {len(train_cases)} train, {len(validation_cases)} validation"
    )
    with report.TrainingDisplay(config.train.epochs, batches.steps_per_epoch, config.train.batch_size) as display:

        def record(event: Mapping[str, Any]) -> None:
            journal(event)
            display(event)

        def validate() -> dict[str, Any]:
            return evaluate(validation_cases, segment, names, Measures(ignored=ignored)).summary()

        result = engine.fit(batches, validate, record, run.path)
    if result.outcome != "interrupted":
        keep_for_prediction(run, engine.device)
    return {
        "run": str(run.path),
        "outcome": result.outcome,
        "steps": result.step,
        "epochs": result.step // batches.steps_per_epoch,
        "best_mean_iou": result.best_score,
    }
