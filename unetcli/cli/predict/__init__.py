"""`unet predict`: any images or volumes through one or several runs, to masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.options import (
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
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetcli.cli.predict.wishes import Kind, Wishes
    from unetcli.data.formats.masks import Outputs


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, folders or globs: TIF and PNG for runs on images; NIfTI, MHD, NRRD, TIF and folders of a "
            "DICOM series for runs on volumes."
        ),
    ],
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", "-r", help="Run folder; the newest in runs/ if left out. Several are averaged.", show_default=False
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
    device: DeviceOption = Device.auto,
    runtime: RuntimeOption = RuntimeName.auto,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Segment images or volumes with a trained run, or with several.

    What is larger than a tile is cut into overlapping tiles and blended. A mask has the format, pages, grid and
    place of its image, and the values that the training masks had; it is read back before success is said. What
    cannot be read is reported and the others are done; the exit code is then 6.
    """
    from unetcli import report
    from unetcli.cli.networks import open_ensemble
    from unetcli.cli.predict import pages, volumes
    from unetcli.cli.predict.wishes import Wishes, try_out
    from unetcli.cli.segmenting import segmenter
    from unetcli.cli.wiring import take_run
    from unetcli.errors import DataError, PartialError
    from unetcli.inference import Cleaning

    runs = [take_run(path) for path in run or [None]]
    for each in runs:
        each.checkpoint(checkpoint)
    facts = runs[0].facts
    kind = pages if runs[0].config.model.ndim == 2 else volumes
    paths = kind.find(images)  # before the engine: a typo must not cost seconds
    plan, failures = _plan(paths, output, kind, with_scores=scores, overwrite=overwrite)
    members = open_ensemble(runs, checkpoint, device.value, runtime.value)
    foreground = tuple(range(1, len(facts.classes))) if keep_largest else ()
    cleaning = Cleaning(keep_largest=foreground, fill_holes=fill_holes, min_size=min_size)
    segment = segmenter(members, tta=tta, tile=tile, overlap=overlap, pairs=facts.mirror_pairs)
    cost = try_out(segment, len(facts.channels)) if max_memory else None
    wishes = Wishes(segment, facts, cleaning, max_memory, cost)
    done = _segment_all(plan, kind, wishes, failures)
    if not done:
        raise DataError(f"none of the {len(paths)} images could be segmented: {', '.join(failures)}")
    report.show_predictions(done, failures, as_json=json_report)
    if failures:
        raise PartialError(f"{len(failures)} of {len(paths)} images failed: {', '.join(failures)}")


def _plan(
    paths: Sequence[Path], output: Path, kind: Kind, *, with_scores: bool, overwrite: bool
) -> tuple[Sequence[Outputs], dict[str, str]]:
    """Where each mask goes, and what is wrong with the images that cannot be read; an error if none can."""
    from unetcli import report
    from unetcli.errors import ConfigError, DataError

    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: is a file, not a folder for masks", hint="name a folder")
    readable: list[Path] = []
    failures: dict[str, str] = {}
    for path in paths:
        try:
            kind.check(path)
            readable.append(path)
        except DataError as error:
            if len(paths) == 1:
                raise
            report.say(f"error: {error}")
            failures[str(path)] = str(error)
    if not readable:
        raise DataError(f"none of the {len(paths)} images can be read: {next(iter(failures.values()))}")
    return kind.plan(readable, output, with_scores=with_scores, overwrite=overwrite), failures


def _segment_all(plan: Sequence[Outputs], kind: Kind, wishes: Wishes, failures: dict[str, str]) -> list[dict[str, Any]]:
    """Segment image after image; one that fails is noted, and raised if it is the only one."""
    from unetcli import report
    from unetcli.errors import DataError

    done: list[dict[str, Any]] = []
    for outputs in plan:
        try:
            done.append(kind.segment(outputs, wishes))
        except DataError as error:
            if len(plan) == 1 and not failures:
                raise
            report.say(f"error: {error}")
            failures[str(outputs.image)] = str(error)
    return done
