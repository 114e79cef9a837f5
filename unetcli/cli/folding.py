"""All folds of a dataset, one after the other. Imported in the commands' bodies, since it is not light."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from unetcli import __version__
from unetcli.cli.planning import check_device, plan, refuse_changes, settle
from unetcli.cli.selecting import selecting_measures
from unetcli.cli.wiring import check_dataset
from unetcli.data.manifest import fingerprint
from unetcli.errors import ConfigError, DataError, RunError, counted
from unetcli.evaluation import over_folds
from unetcli.evaluation.folds import STATISTICS
from unetcli.files import refuse_existing
from unetcli.folds import (
    Folds,
    FoldsFacts,
    create_folds,
    extend_folds,
    fold_names,
    is_folds,
    open_folds,
)
from unetcli.launching import Succession
from unetcli.report import emit_json, say, score_text, table
from unetcli.runs import new_run_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unetcli.cli.distributing import Spread
    from unetcli.cli.planning import Request
    from unetcli.folds import Result

OF_CASES = ("hd95_mm", "assd_mm", "surface_dice")
"""Measures over cases that are shown; the files have all."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What the calls for every fold have in common.

    Args:
        device: Where to compute.
        spread: In how many processes.
        dataset: Where the dataset has moved to.
    """

    device: str
    spread: Spread
    dataset: Path | None = None

    def begin(self, folds: Folds, fold: int) -> list[str]:
        """Arguments that begin the run of a fold."""
        name = folds.facts.runs[fold]
        settings = ["--config", str(folds.settings_path), "--fold", str(fold), "--output", str(folds.path / name)]
        settings += ["--init-from", str(folds.facts.init_from)] if folds.facts.init_from else []
        settings += [text for part in folds.facts.filter_weights for text in ("--filter-weight", part)]
        return ["train", str(self.dataset or folds.facts.dataset_path), *settings, *self._common()]

    def go_on(self, folds: Folds, name: str) -> list[str]:
        """Arguments that take it up."""
        epochs = ["--epochs", str(folds.config.train.epochs)]
        dataset = [str(self.dataset)] if self.dataset else []
        return ["train", *dataset, "--resume", str(folds.path / name), *epochs, *self._common()]

    def evaluate(self, folds: Folds, name: str) -> list[str]:
        """Arguments that measure it."""
        dataset = ["--dataset", str(self.dataset)] if self.dataset else []
        return ["eval", "--run", str(folds.path / name), *dataset, *self._common()]

    def _common(self) -> list[str]:
        processes = [] if self.spread.number is None else ["--distribute", str(self.spread.number)]
        return ["--device", self.device, *(text for text in processes if text != "all"), "--json"]


def train_folds(request: Request, device: str, spread: Spread, *, as_json: bool) -> None:
    """Train the runs of all folds, or go on with them, measure each, and show the measures over all.

    Raises:
        ConfigError: If the options do not fit, or the dataset has no folds.
        RunError: If the process of a fold is killed, or another trains these folds.
    """
    if spread.nodes > 1:
        raise ConfigError("--fold all: on one machine only", hint="train the folds one by one, with --fold N")
    folds = _begin(request, device) if request.resume is None else _take_up(request)
    calls = Calls(device, spread, request.dataset)
    with folds.training(), Succession() as processes:
        results = folds.results()
        for fold, name in enumerate(folds.facts.runs):
            if folds.is_done(name, results.get(name)):
                say(f"{name}: is done")
                continue
            say(f"{name}: {fold + 1} of {len(folds.facts.runs)}")
            is_begun = (folds.path / name / "run.json").is_file()
            training = _call(processes, folds, name, calls.go_on(folds, name) if is_begun else calls.begin(folds, fold))
            score = training["best_score"]
            if score is not None:
                say(f"{name}: {training['outcome']}, best {score_text(training['select_by'], score)}")
            evaluation = _call(processes, folds, name, calls.evaluate(folds, name))
            results[name] = {
                "training": training,
                "asked_epochs": folds.config.train.epochs,
                "weights": folds.weights(name),
                "evaluation": evaluation,
            }
            _keep(folds, results)
        summary = _keep(folds, results)
    _show(folds, summary, as_json=as_json)


def evaluate_folds(path: Path, calls: Calls, refused: Sequence[str], *, as_json: bool) -> None:
    """Show the measures over the folds, once those that were not measured yet are.

    Args:
        path: Their folder.
        calls: How to measure what is not measured yet.
        refused: Options that were given and are for a single run.
        as_json: Whether to show them for a program.

    Raises:
        ConfigError: If there are such options.
        RunError: If no fold has weights yet.
    """
    if refused:
        raise ConfigError(
            f"{path}: holds the runs of all folds, which {', '.join(refused)} cannot measure in another way",
            hint=f"name one of them, such as --run {path / 'fold-0'}",
        )
    folds = open_folds(path)
    say(f"folds: {path}")
    results = folds.results()
    with Succession() as processes:
        for name in folds.facts.runs:
            if folds.weights(name) is None or folds.is_measured(name, results.get(name)):
                continue
            say(f"{name}: measuring")
            evaluation = _call(processes, folds, name, calls.evaluate(folds, name))
            results[name] = {"weights": folds.weights(name), "evaluation": evaluation}
            _keep(folds, results)
    if not results:
        raise RunError(f"{path}: no fold has weights yet", hint=_go_on(folds))
    if left := [name for name in folds.facts.runs if not folds.is_done(name, results.get(name))]:
        say(f"not trained to the end: {', '.join(left)}; {_go_on(folds)}")
    _show(folds, _keep(folds, results), as_json=as_json)


def _begin(request: Request, device: str) -> Folds:
    """The folder of folds, made once it is known that the first of them can begin."""
    config, folder, manifest = settle(request)
    if len(manifest.splits) < 2:
        raise ConfigError(
            f"--fold all: {folder} has one fold", hint="prepare it with --folds N, or leave the option out"
        )
    path = request.output or new_run_path(manifest.name, config.preset, None)
    refuse_existing(path, overwrite=request.overwrite)
    if path.exists() and not is_folds(path):
        raise ConfigError(
            f"{path}: does not hold the runs of all folds, so it is not replaced", hint="name another place"
        )
    names = fold_names(len(manifest.splits))
    first = plan(replace(request, output=path / names[0]), config, manifest, num_ranks=1)
    selecting_measures(first)
    check_device(config, device)
    if request.initial:
        request.initial.take_over(first)
    facts = FoldsFacts(
        unet_version=__version__,
        dataset=manifest.name,
        dataset_path=config.data.dataset or folder,
        fingerprint=fingerprint(manifest),
        runs=names,
        init_from=request.initial.checkpoint.resolve() if request.initial else None,
        filter_weights=request.initial.filters if request.initial else (),
    )
    folds = create_folds(path, config, facts)
    say(f"folds: {path}   runs: {', '.join(names)}")
    return folds


def _take_up(request: Request) -> Folds:
    refuse_changes(request)
    folds = open_folds(request.resume or Path())
    folder = request.dataset or folds.facts.dataset_path
    if request.dataset is None and not folder.exists():
        raise DataError(
            f"{folder}: the dataset of {folds.path} is no longer there",
            hint=f"name its new place: unet train DATASET --resume {folds.path}",
        )
    check_dataset(folder, folds.path, folds.facts.fingerprint, hint="prepare it as it was, or name its new place")
    return folds if request.epochs is None else extend_folds(folds, request.epochs)


def _call(processes: Succession, folds: Folds, name: str, arguments: Sequence[str]) -> Any:
    """What a call says as JSON; where it does not end well this process leaves as it did."""
    ended = processes.run(arguments)
    if ended.code == 130 or (processes.is_interrupted and ended.code):
        say(_go_on(folds))
        raise typer.Exit(130)
    if ended.code < 0:
        raise RunError(f"{folds.path / name}: its process was killed, or ran out of memory", hint=_go_on(folds))
    if ended.code:
        say(f"{name}: could not {arguments[0]}; once that is mended, {_go_on(folds)}")
        raise typer.Exit(ended.code)
    return json.loads(ended.output)


def _go_on(folds: Folds) -> str:
    return f"go on with: unet train --resume {shlex.quote(str(folds.path))}"


def _keep(folds: Folds, results: Mapping[str, Result]) -> dict[str, Any]:
    return folds.keep(results, over_folds({name: result["evaluation"] for name, result in results.items()}))


def _show(folds: Folds, summary: Mapping[str, Any], *, as_json: bool) -> None:
    """The measures over the folds as a table, or as JSON."""
    if as_json:
        emit_json({"path": str(folds.path), **summary})
        return
    measured = list(summary["folds"])
    rows = [
        [name.removeprefix("classes."), of["mean"], of["sd"], *(of["folds"].get(fold) for fold in measured)]
        for name, of in summary["measures"].items()
        if not name.startswith(STATISTICS) or name.split(".")[-2] in OF_CASES
    ]
    title = f"{summary['num_measured']} of {counted(summary['num_folds'], 'fold')}"
    table(title, ["measure", "mean", "sd", *measured], rows)
    say(f"table, JSON and runs: {folds.path}")
    say(f"next: unet predict IMAGE --run {shlex.quote(str(folds.path))}")
