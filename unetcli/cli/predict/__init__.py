"""`unet predict`: any images or volumes through one or several runs, to masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unetcli.cli.distributing import DistributeOption, MasterOption, NodeRankOption, NodesOption
from unetcli.cli.options import (
    INSTANCES,
    CheckpointOption,
    Device,
    DeviceOption,
    JsonOption,
    MaxMemoryOption,
    OverlapOption,
    OverwriteOption,
    RuntimeName,
    RuntimeOption,
    TileOption,
    TtaOption,
    parse_method,
)


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders or globs: TIF, PNG and JPEG for runs on images; NIfTI, MHD, NRRD, TIF and folders "
            "of a DICOM series for runs on volumes."
        ),
    ],
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            "-r",
            help="Run folder, or the folder of all folds; the newest in runs/ if left out. Several are averaged.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks; created if missing.")] = Path(
        "masks"
    ),
    checkpoint: CheckpointOption = "best",
    tta: TtaOption = None,
    tile: TileOption = None,
    overlap: OverlapOption = None,
    max_memory: MaxMemoryOption = None,
    keep_largest: Annotated[bool, typer.Option("--keep-largest", help="Keep the largest piece of each class.")] = False,
    fill_holes: Annotated[
        bool, typer.Option("--fill-holes", help="Give background that a class encloses to it.")
    ] = False,
    min_size: Annotated[
        float, typer.Option(min=0, help="Remove pieces smaller than this, in mm3; of images without a size, in pixels.")
    ] = 0.0,
    scores: Annotated[
        bool, typer.Option("--scores", help="Also write scores, as 32-bit float TIF, or NIfTI for volumes.")
    ] = False,
    instances: Annotated[
        Any,
        typer.Option(
            INSTANCES,
            parser=parse_method,
            metavar="[METHOD]",
            help="Also write the objects of images, each with a number, as TIF; told apart by 'watershed' or "
            "'components', or as the run's settings say if METHOD is left out.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    runtime: RuntimeOption = RuntimeName.auto,
    distribute: DistributeOption = None,
    nodes: NodesOption = 1,
    node_rank: NodeRankOption = 0,
    master: MasterOption = None,
    export_inputs: Annotated[
        Path | None,
        typer.Option(
            "--export-inputs",
            metavar="DIR",
            help="Compute nothing; write the tiles as .bin files for a device that is elsewhere, with an index.",
            show_default=False,
        ),
    ] = None,
    import_outputs: Annotated[
        Path | None,
        typer.Option(
            "--import-outputs",
            metavar="DIR",
            help="Take the scores that a device has put into DIR/outputs, in place of a network.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Segment images or volumes with a trained run, or with several.

    What is larger than a tile is cut into overlapping tiles and blended. A mask has the format (of a JPEG, PNG),
    pages, grid and place of its image, and the values that the training masks had; it is read back before success is
    said. What cannot be read is reported and the others are done; the exit code is then 6.
    """
    from unetcli import report
    from unetcli.cli.distributing import Spread, main_first, meet_or_spread
    from unetcli.cli.predict import by_files, pages, volumes
    from unetcli.cli.predict.batches import do_all, plan_masks, raise_failures
    from unetcli.cli.predict.wishes import Asked, computed
    from unetcli.cli.separating import separation_of
    from unetcli.cli.wiring import take_runs
    from unetcli.inference import Cleaning

    runs = take_runs(run)
    for each in runs:
        each.checkpoint(checkpoint)
    foreground = tuple(range(1, len(runs[0].facts.classes))) if keep_largest else ()
    asked = Asked(
        runs=runs,
        checkpoint=checkpoint,
        cleaning=Cleaning(keep_largest=foreground, fill_holes=fill_holes, min_size=min_size),
        separation=separation_of(runs[0], instances) if instances else None,
        device=device.value,
        runtime=runtime.value,
        tta=tta,
        tile=tile,
        overlap=overlap,
        max_memory=max_memory,
        is_shared=distribute is not None,
    )
    spread = Spread(distribute, nodes, node_rank, master)
    by_files.check_asked(asked, export_inputs, import_outputs, with_scores=scores)
    kind = pages if asked.run.config.model.ndim == 2 else volumes
    paths = kind.find(images)  # before the engine: a typo must not cost seconds
    if export_inputs is not None:
        written, failures = by_files.export_inputs(export_inputs, paths, kind, asked, overwrite=overwrite)
        by_files.show_inputs(written, asked.run.path, as_json=json_report)
    else:
        more = {"with_scores": scores, "with_instances": instances is not None}
        plan, failures = plan_masks(paths, output, kind, overwrite=overwrite, **more)
        company = meet_or_spread(spread, device.value, asked.run.path / "logs" / "predict")
        if import_outputs is not None:
            wishes = by_files.imported_outputs(import_outputs, asked)
        else:
            wishes = main_first(company, lambda: computed(asked))
        done = do_all(plan, lambda outputs: kind.segment(outputs, wishes(outputs)), failures, company)
        if company is None or company.is_main:
            report.show_predictions(done, failures, as_json=json_report)
    raise_failures(failures, len(paths))
