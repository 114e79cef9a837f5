"""Two runs on the same cases. Imported in the command's body, since it is not light."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetcli.cli.distributing import main_first, num_own
from unetcli.cli.networks import load_engine, open_network
from unetcli.cli.segmenting import Tile, segmenter
from unetcli.cli.wiring import dataset_of
from unetcli.data.manifest import load_cases
from unetcli.errors import ConfigError, RunError, counted
from unetcli.evaluation import Measures, evaluate, one_by_one
from unetcli.evaluation.comparison import BY, pair_cases
from unetcli.files import write_json, write_text
from unetcli.folds import is_folds
from unetcli.report import counting, emit_json, say, table
from unetcli.runs import open_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unetcli.engine import Company
    from unetcli.evaluation import Evaluation, LabelledCase, Prediction
    from unetcli.evaluation.comparison import Comparison
    from unetcli.runs import Run

NUM_WORSE = 10
"""Cases that got worse which are shown; the files have all."""


@dataclass(frozen=True, slots=True)
class How:
    """How both runs are measured, by the options of `unet eval`."""

    checkpoint: str
    dataset: Path | None
    tta: bool | None
    tile: Tile | None
    overlap: float | None
    device: str
    runtime: str
    measures: Measures


def compare_runs(run: Run, path: Path, how: How, company: Company | None, *, as_json: bool) -> None:
    """Measure two runs on the cases that both validate on, and show by how much the first differs from the other.

    Args:
        run: The one.
        path: The folder of the other.
        how: How both are measured.
        company: The processes that share the cases out; None for this one alone.
        as_json: For a program.

    Raises:
        ConfigError: If both are the same run, or the weights are named by a file.
        DataError: If their dataset is not there.
        RunError: If the two have no case in common that neither has trained on, or one cannot be read.
    """
    other = open_run(path)
    if other.path.resolve() == run.path.resolve():
        raise ConfigError(f"--compare {path}: is the run itself", hint="name another run")
    if how.checkpoint not in ("best", "last"):
        raise ConfigError(f"--checkpoint {how.checkpoint}: of one run alone", hint="write best or last with --compare")
    common = _common_cases(run, other)
    folder, manifest = dataset_of(run, how.dataset, otherwise="name its new place with --dataset")
    for each in (run, other):
        each.checkpoint(how.checkpoint)
    if manifest.num_axes == 2:
        load_engine()  # MindSpore reads images
    cases = load_cases(folder, manifest, common)
    first, second = (_evaluate(each, cases, how, company) for each in (run, other))
    if company is not None and not company.is_main:
        return
    comparison = pair_cases(first, second)
    place = other.path.resolve()
    name = f"{place.parent.name}-{place.name}" if is_folds(place.parent) else place.name
    result = run.path / "evaluation" / f"compare-{how.checkpoint}-{name}"
    names = {"run": str(run.path), "other": str(other.path)}
    _save(comparison, names, result)
    _show(comparison, names, result, as_json=as_json)


def _evaluate(run: Run, cases: Sequence[LabelledCase], how: How, company: Company | None) -> Evaluation:
    weights = run.checkpoint(how.checkpoint)
    network = main_first(company, lambda: open_network(run, weights, how.device, how.runtime))
    pairs = run.facts.mirror_pairs
    segment = segmenter([network], tta=how.tta, tile=how.tile, overlap=how.overlap, pairs=pairs, cases=cases).case
    names = [info.name for info in run.facts.classes]
    in_turn = company.in_turn if company else one_by_one
    with counting(f"measuring {run.path.name}", num_own(company, len(cases))) as count:

        def counted(case: LabelledCase) -> Prediction:
            prediction = segment(case)
            count()
            return prediction

        return evaluate(cases, counted, names, how.measures, in_turn=in_turn)


def _common_cases(run: Run, other: Run) -> list[str]:
    """The cases that both runs validate on; how many are left out, and why, is said.

    Raises:
        RunError: If their datasets differ, or there is no such case.
    """
    if run.facts.fingerprint != other.facts.fingerprint:
        raise RunError(
            f"{other.path}: was trained on other cases or classes ({other.facts.dataset}) than {run.path} "
            f"({run.facts.dataset})",
            hint="compare runs of the same dataset",
        )
    common = [case for case in run.facts.validation if case in other.facts.validation]
    left = set(run.facts.validation).symmetric_difference(other.facts.validation)
    trained = left & (set(run.facts.train) | set(other.facts.train))
    if not common:
        raise RunError(
            f"{other.path}: validates on fold {other.config.data.fold} and {run.path} on fold {run.config.data.fold}, "
            f"which have no case in common; {len(trained)} of their cases one of the two has trained on",
            hint="compare runs of the same fold",
        )
    if left:
        say(
            f"left out: {counted(len(left), 'case')} that only one of the two validates on, "
            f"{len(trained)} of them since the other has trained on them"
        )
    return common


def _save(comparison: Comparison, runs: Mapping[str, str], folder: Path) -> None:
    """Write `summary.json`, and `cases.csv` with the case first that got worst."""
    write_json(folder / "summary.json", {**runs, **comparison.summary()})
    rows = comparison.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "cases.csv", text.getvalue())


def _show(comparison: Comparison, runs: Mapping[str, str], folder: Path, *, as_json: bool) -> None:
    """The differences as tables, or as JSON."""
    if as_json:
        emit_json({**runs, **comparison.summary(), "folder": str(folder)})
        return
    measures: dict[str, dict[str, Any]] = comparison.summary()["measures"]
    rows = [
        [name, of["mean"], _interval(of), of["num_better"], of["num_worse"], of["num_equal"], of["p_value"]]
        for name, of in measures.items()
        if not name.startswith("background_")
    ]
    columns = ["measure", "difference", "95 % interval", "better", "worse", "equal", "p (Wilcoxon)"]
    table(f"{runs['run']} less {runs['other']}, {counted(len(comparison.cases), 'case')}", columns, rows)
    worse = comparison.worse
    shown = [[case.id, case.first[BY], case.second[BY], case.difference(BY)] for case in worse[:NUM_WORSE]]
    if worse:
        table(f"{counted(len(worse), 'case')} got worse", ["case", BY, "other", "difference"], shown)
    say(f"table and JSON: {folder}")


def _interval(of: Mapping[str, Any]) -> str | None:
    return None if of["low"] is None else f"{of['low']:+.4f} to {of['high']:+.4f}"
