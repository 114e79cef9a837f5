"""`unet train`: from a dataset folder to a run folder."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.distributing import DistributeOption, MasterOption, NodeRankOption, NodesOption
from unetcli.cli.options import ALL_FOLDS, Device, DeviceOption, FoldOption, JsonOption, OverwriteOption, one_of
from unetcli.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unetcli.cli.planning import Request
    from unetcli.core.spatial import MirrorRule
    from unetcli.data.cases import LabelledImage
    from unetcli.data.patches import PatchSampler, Share
    from unetcli.engine import Company, Engine
    from unetcli.engine.training import Validate
    from unetcli.runs import Run

    WriteInitial = Callable[[Path], None]
    Split = tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]


class Precision(StrEnum):
    """MindSpore's levels of mixed precision."""

    o0 = "O0"
    o1 = "O1"
    o2 = "O2"
    o3 = "O3"
    auto = "auto"


def train(
    dataset: Annotated[
        Path | None, typer.Argument(help="Dataset folder; the newest in datasets/ if left out.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Proven settings; those named like the data if left out.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML file of settings, ours or the model zoo's, laid over the preset."),
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="One setting; may be repeated.")
    ] = None,
    fold: FoldOption = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all; with --resume it may grow.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, patches and dropout.")] = None,
    amp: Annotated[
        Precision | None,
        typer.Option("--amp", **one_of(Precision), help="Mixed precision, by MindSpore's levels; O0 on a CPU."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder to make; one in runs/ if left out.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder, or folder of all folds, to go on with, bit for bit from its last checkpoint."),
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from", help="Run or .ckpt file to take the first weights from; files of the model zoo too."
        ),
    ] = None,
    filter_weight: Annotated[
        list[str] | None,
        typer.Option("--filter-weight", metavar="NAME", help="Leave parameters with this in their name; repeatable."),
    ] = None,
    device: DeviceOption = Device.auto,
    distribute: DistributeOption = None,
    nodes: NodesOption = 1,
    node_rank: NodeRankOption = 0,
    master: MasterOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all of it and say what would be trained, but write nothing.")
    ] = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Train a U-Net on a prepared dataset.

    The run folder holds the settings, the metrics of every step, and the last and the best checkpoint
    ('keep_checkpoint_max'). A settings file of the MindSpore model zoo is translated, and every key is told of.
    Ctrl-C ends training after the running step; --resume RUN goes on from there.
    """
    from unetcli import report
    from unetcli.cli.distributing import Spread, is_started_among_others, leave_to, meet
    from unetcli.cli.initial import Initial
    from unetcli.cli.planning import Request
    from unetcli.folds import is_folds
    from unetcli.runs import locked

    precision = amp.value if amp else None
    request = Request(
        dataset,
        preset,
        config,
        assignments or [],
        fold,
        epochs,
        seed,
        precision,
        output,
        resume,
        Initial.asked(init_from, filter_weight),
        overwrite,
    )
    spread = Spread(distribute, nodes, node_rank, master)
    if fold == ALL_FOLDS or (resume is not None and is_folds(resume)):
        from unetcli.cli.folding import train_folds

        if dry_run:
            one = f"--resume {resume / 'fold-0'}" if resume else "--fold 0"
            raise ConfigError("--dry-run: is of one run, not of all folds", hint=f"name one fold, such as {one}")
        if is_started_among_others():
            raise ConfigError("--fold all: not in a process that is one of several", hint="start it with --distribute")
        train_folds(request, device.value, spread, as_json=json_report)
        return
    if dry_run:
        from unetcli.cli.rehearsing import show

        cluster = spread.cluster(device.value)
        num_processes = cluster.size if cluster else 1
        run, cases, _ = _checked(request, device.value, num_ranks=num_processes)
        show(run, cases, request, device.value, num_processes=num_processes, as_json=json_report)
        return
    company = meet(device.value)
    if company is None:
        cluster = spread.cluster(device.value)
        if cluster and cluster.num_nodes > 1:  # the process that is the first of all machines begins the run
            leave_to(cluster, sys.argv[1:], Path("unet-logs"))
        run, cases = _begin(request, device.value, num_ranks=cluster.size if cluster else 1)
        if cluster:
            with locked(run.path):  # or it would be found out in the processes
                pass
            arguments = ["train", *([str(dataset)] if dataset else []), "--resume", str(run.path)]
            arguments += ["--device", device.value, *(["--json"] if json_report else [])]
            leave_to(cluster, arguments, run.path / "logs")
    else:
        run, cases = _begin_together(request, device.value, company)
    outcome = _fit(run, cases, device.value, company)
    if company is None or company.is_main:
        report.show_training(outcome, as_json=json_report)
    if outcome["outcome"] == "interrupted":
        raise typer.Exit(130)


def _checked(request: Request, device: str, *, num_ranks: int) -> tuple[Run, Split, WriteInitial | None]:
    """The run to train, known or yet to be made, its cases for training and validation, and what writes its weights.

    Nothing is written yet: a run that cannot begin must not be made, or it would be the newest.
    """
    from unetcli.cli.planning import check_device, plan, settle, take_up
    from unetcli.cli.selecting import selecting_measures
    from unetcli.data.manifest import load_split

    if request.resume is not None:
        run, folder, manifest = take_up(request)
    else:
        resolved, folder, manifest = settle(request)
        run = plan(request, resolved, manifest, num_ranks=num_ranks)
    _share(run, 0, num_ranks)  # or nobody could train it so
    selecting_measures(run)  # or it would be found out at the first validation
    check_device(run.config, device)
    cases = load_split(folder, manifest, run.config.data.fold)
    if request.initial is None:
        return run, cases, None
    facts, write = request.initial.take_over(run)
    return replace(run, facts=facts), cases, write


def _begin(request: Request, device: str, *, num_ranks: int) -> tuple[Run, Split]:
    """The same run, made or taken up."""
    from unetcli.config import translation_of
    from unetcli.files import write_json
    from unetcli.runs import create_run, extend_run

    run, cases, write = _checked(request, device, num_ranks=num_ranks)
    if request.resume is None:
        run = create_run(run.path, run.config, run.facts, write_initial=write)
        if request.config and (translation := translation_of(request.config)):
            write_json(run.path / "translation.json", translation.facts())
        return run, cases
    return run if request.epochs is None else extend_run(run, request.epochs), cases


def _begin_together(request: Request, device: str, company: Company) -> tuple[Run, Split]:
    """The same in several processes: the main one begins, and the others take up what it has made."""
    from unetcli.cli.wiring import dataset_of
    from unetcli.data.manifest import load_split
    from unetcli.runs import open_run

    begun = _begin(request, device, num_ranks=company.size) if company.is_main else None
    path = company.from_main(lambda: str(begun[0].path) if begun else None)
    if begun:
        return begun
    run = open_run(Path(path))
    folder, manifest = dataset_of(run, request.dataset, otherwise="name its new place")
    return run, load_split(folder, manifest, run.config.data.fold)


def _fit(run: Run, cases: Split, device: str, company: Company | None) -> dict[str, Any]:
    """Train, and say how it ended. Of several processes the main one writes into the run, and the others help."""
    from unetcli import report
    from unetcli.cli.networks import keep_for_prediction
    from unetcli.data.cases import IGNORED
    from unetcli.data.patches import PatchSampler
    from unetcli.engine import Company, Engine, Runtime
    from unetcli.framework import cache_folder
    from unetcli.runs import Journal, locked, sweep

    config, facts = run.config, run.facts
    company = company or Company()
    share = _share(run, company.rank, company.size)
    batches = PatchSampler(cases[0], config, mirror=_mirror(run), has_ignored=facts.has_ignored, share=share)
    runtime = Runtime(device, graphs=cache_folder("graphs"))
    with locked(run.path) if company.is_main else contextlib.nullcontext():
        if company.is_main:
            sweep(run)
        ignored = IGNORED if facts.has_ignored else None
        engine = Engine.start(config, runtime, ignored=ignored, company=company)
        if checkpoint := run.starting_point():
            engine.load(checkpoint)
        journal = Journal(run.metrics_path, step=engine.step) if company.is_main else None
        _say_beginning(run, cases, batches, engine)
        with report.TrainingDisplay(config.train.epochs, batches.steps_per_epoch, share.patches_per_step) as display:

            def record(event: Mapping[str, Any]) -> None:
                if journal:
                    journal(event)
                    display(event)

            result = engine.fit(batches, _validation(run, cases[1], engine), record, run.path)
        if result.outcome != "interrupted" and company.is_main:
            if result.best_score is None:
                report.say(
                    f"warning: {config.train.select_by} was undefined in every validation, so there is no best.ckpt; "
                    "name the last with --checkpoint last, or train with another train.select_by"
                )
            else:
                keep_for_prediction(run, engine.device)
    return {
        "run": str(run.path),
        "outcome": result.outcome,
        "steps": result.step,
        "epochs": result.step // batches.steps_per_epoch,
        "select_by": config.train.select_by,
        "best_score": result.best_score,
    }


def _share(run: Run, rank: int, num_ranks: int) -> Share:
    """What a process trains on; a ConfigError if so many cannot share the run."""
    from unetcli.data.patches import Share

    return Share(run.patches_per_step, rank, num_ranks, run.config.train.accumulation)


def _mirror(run: Run) -> MirrorRule | None:
    from unetcli.core.spatial import MirrorRule

    return MirrorRule(run.facts.mirror_pairs) if run.facts.mirror_pairs else None


def _say_beginning(run: Run, cases: Split, batches: PatchSampler, engine: Engine) -> None:
    from unetcli.report import say

    train_cases, validation_cases = cases
    largest = [max(case.size[axis] for case in train_cases) for axis in range(run.config.model.ndim)]
    if any(wanted > found for wanted, found in zip(batches.label_size, largest, strict=True)):
        say(
            f"warning: patches of {batches.label_size} px are larger than the largest image, {tuple(largest)} px; "
            "what is beyond is mirrored"
        )
    together = f"   processes: {engine.world_size}" if engine.world_size > 1 else ""
    say(
        f"run: {run.path}   device: {engine.device}{together}   "
        f"cases: {len(train_cases)} train, {len(validation_cases)} validation"
    )


def _validation(run: Run, cases: Sequence[LabelledImage], engine: Engine) -> Validate:
    """Measures the network as it stands on all cases, which the processes share out."""
    from unetcli.cli.networks import Member
    from unetcli.cli.segmenting import segmenter
    from unetcli.cli.selecting import selecting_measures
    from unetcli.evaluation import evaluate

    segment = segmenter([Member(engine.predict, run.config)], tta=False, cases=cases).case
    names = [info.name for info in run.facts.classes]
    measures = selecting_measures(run)
    return lambda: evaluate(cases, segment, names, measures, in_turn=engine.company.in_turn).summary()
