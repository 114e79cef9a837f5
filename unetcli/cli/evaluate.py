"""`unet eval`: a run against labelled cases."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.distributing import DistributeOption, MasterOption, NodeRankOption, NodesOption
from unetcli.cli.options import (
    INSTANCES,
    CheckpointOption,
    Device,
    DeviceOption,
    JsonOption,
    OverlapOption,
    RunOption,
    RuntimeName,
    RuntimeOption,
    TileOption,
    TtaOption,
    parse_method,
)
from unetcli.errors import ConfigError

if TYPE_CHECKING:
    from unetcli.evaluation import LabelledCase, Prediction


class Part(StrEnum):
    """Which cases of the run's fold."""

    validation = "validation"
    train = "train"


def evaluate(
    run: RunOption = None,
    checkpoint: CheckpointOption = "best",
    part: Annotated[Part, typer.Option("--split", help="Cases to measure on.")] = Part.validation,
    dataset: Annotated[
        Path | None, typer.Option(help="Dataset folder, where it has moved since training.", show_default=False)
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(help="Another run, to be measured on the same cases and set beside this one.", show_default=False),
    ] = None,
    tta: TtaOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Distance in mm up to which surface Dice counts a surface as found.")
    ] = 1.0,
    distances: Annotated[
        bool, typer.Option("--distances/--no-distances", help="Measure distances of surfaces, in mm, of volumes.")
    ] = True,
    instances: Annotated[
        Any,
        typer.Option(
            INSTANCES,
            parser=parse_method,
            metavar="[METHOD]",
            help="Tell objects apart by 'watershed' or 'components', and not as the run's settings say; they are "
            "measured wherever the true ones are known.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    runtime: RuntimeOption = RuntimeName.auto,
    distribute: DistributeOption = None,
    nodes: NodesOption = 1,
    node_rank: NodeRankOption = 0,
    master: MasterOption = None,
    json_report: JsonOption = False,
) -> None:
    """Measure a run on whole images of its dataset.

    Per case and class: Dice, IoU, precision, recall, specificity, difference of volume; for volumes, in mm, the 95 %
    Hausdorff distance, the average (symmetric) surface distance, and surface Dice; with mean, median, and a
    bootstrap interval. For ISBI also the model zoo's Dice at its own 388 px, V_Rand and V_Info. Where the true objects
    are known, such as nuclei: average precision at an IoU of 0.5 to 0.9, panoptic quality, and how many were merged
    or split. Tables, overlays and JSON go into the run. --compare RUN tells by how much this run is better than
    another, on the cases that both validate on: mean paired difference with a bootstrap interval, and the cases that
    got worse.
    """
    from unetcli import report
    from unetcli.cli.distributing import Spread, main_first, meet_or_spread, num_own
    from unetcli.cli.networks import open_network
    from unetcli.cli.segmenting import segmenter
    from unetcli.cli.separating import separation_for
    from unetcli.cli.wiring import labelled_cases, take_run
    from unetcli.data.cases import IGNORED
    from unetcli.evaluation import Measures, one_by_one
    from unetcli.evaluation import evaluate as measure
    from unetcli.folds import is_folds
    from unetcli.runs import newest_run

    spread = Spread(distribute, nodes, node_rank, master)
    if is_folds(place := run or newest_run()):
        from unetcli.cli.folding import Calls, evaluate_folds

        of_one_run = {
            "--checkpoint": checkpoint != "best",
            "--split": part is not Part.validation,
            "--tta": tta is not None,
            "--tile": tile is not None,
            "--overlap": overlap is not None,
            "--tolerance": tolerance != 1.0,
            "--compare": compare is not None,
            INSTANCES: instances is not None,
            "--no-distances": not distances,
            "--runtime": runtime is not RuntimeName.auto,
        }
        refused = [name for name, is_given in of_one_run.items() if is_given]
        evaluate_folds(place, Calls(device.value, spread, dataset), refused, as_json=json_report)
        return
    trained = take_run(run)
    facts = trained.facts
    weights = trained.checkpoint(checkpoint)
    measures = Measures(
        distances=distances,
        tolerance=tolerance,
        ignored=IGNORED if facts.has_ignored else None,
        separation=separation_for(trained, instances),
    )
    company = meet_or_spread(spread, device.value, trained.path / "logs" / "eval")
    if compare is not None:
        from unetcli.cli.comparing import How, compare_runs

        if part is not Part.validation:
            raise ConfigError(f"--split {part.value}: runs are compared on validation cases", hint="leave --split out")
        how = How(checkpoint, dataset, tta, tile, overlap, device.value, runtime.value, measures)
        compare_runs(trained, compare, how, company, as_json=json_report)
        return
    cases = labelled_cases(trained, dataset, part.value, otherwise="name its new place with --dataset")
    network = main_first(company, lambda: open_network(trained, weights, device.value, runtime.value))
    segment = segmenter([network], tta=tta, tile=tile, overlap=overlap, pairs=facts.mirror_pairs, cases=cases)
    folder = trained.path / "evaluation" / f"{part.value}-{weights.stem}{'-tta' if segment.tta else ''}"
    wanted = replace(measures, zoo_volumes=facts.kind == "luna16", membrane=facts.kind == "isbi")
    with report.counting("measuring", num_own(company, len(cases))) as count:

        def picture(case: LabelledCase, prediction: Prediction) -> None:
            report.write_overlay(case, prediction, folder, ignored=wanted.ignored)
            count()

        result = measure(
            cases,
            segment.case,
            [info.name for info in facts.classes],
            wanted,
            on_case=picture,
            in_turn=company.in_turn if company else one_by_one,
        )
    if company is None or company.is_main:
        report.save_evaluation(result, folder)
        report.show_evaluation(result, folder, as_json=json_report)
