"""`unet eval`: a run against labelled cases."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unetcli.cli.options import CheckpointOption, Device, DeviceOption, JsonOption, RunOption, TtaOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from unetcli.evaluation import LabelledCase


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
    tta: TtaOption = None,
    device: DeviceOption = Device.auto,
    json_report: JsonOption = False,
) -> None:
    """Measure a run on whole images of its dataset.

    Per class: Dice, IoU, precision, recall; over all: pixel accuracy and mean IoU. For ISBI also the
    model zoo's Dice at its own 388 px, V_Rand and V_Info. Tables, overlays and JSON go into the run.
    """
    from unetcli import report
    from unetcli.cli.wiring import labelled_cases, open_engine, segmenter, take_run
    from unetcli.evaluation import evaluate as measure

    trained = take_run(run)
    weights = trained.checkpoint(checkpoint)
    cases = labelled_cases(trained, dataset, part.value, otherwise="name its new place with --dataset")
    engine = open_engine(trained, weights, device.value)
    use_tta = trained.config.inference.tta if tta is None else tta
    folder = trained.path / "evaluation" / f"{part.value}-{weights.stem}{'-tta' if use_tta else ''}"
    with report.counting("measuring", len(cases)) as count:

        def picture(case: LabelledCase, scores: NDArray[np.float32]) -> None:
            report.write_overlay(case, scores, folder)
            count()

        result = measure(
            cases,
            segmenter(engine.predict, trained.config, tta=use_tta),
            [info.name for info in trained.facts.classes],
            membrane=trained.facts.kind == "isbi",
            on_case=picture,
        )
    report.save_evaluation(result, folder)
    report.show_evaluation(result, folder, as_json=json_report)
