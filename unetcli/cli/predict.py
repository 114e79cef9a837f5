"""`unet predict`: any images through a run, to masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.options import (
    CheckpointOption,
    Device,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    RunOption,
    TtaOption,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.data.masks import Outputs
    from unetcli.runs import Run


def predict(
    images: Annotated[list[Path], typer.Argument(help="Images, folders of images, or globs: TIF and PNG.")],
    run: RunOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the masks; created if missing.")] = Path(
        "masks"
    ),
    checkpoint: CheckpointOption = "best",
    tta: TtaOption = None,
    overlap: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Least share of a tile that its neighbour repeats.")
    ] = None,
    scores: Annotated[bool, typer.Option("--scores", help="Also write scores, as 32-bit float TIF.")] = False,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Segment images with a trained run.

    Images of any size are cut into overlapping tiles and blended. A mask has the format, pages and
    resolution of its image, and the values that the training masks had. An image that cannot be read is
    reported and the others are done; the exit code is then 6.
    """
    from unetcli import report
    from unetcli.cli.wiring import open_engine, segmenter, take_run
    from unetcli.config import with_values
    from unetcli.data.images import find_images
    from unetcli.errors import PartialError

    paths = find_images(images)  # before the engine: a typo must not cost seconds
    trained = take_run(run)
    weights = trained.checkpoint(checkpoint)
    plan, failures = _plan(paths, output, with_scores=scores, overwrite=overwrite)
    config = trained.config if overlap is None else with_values(trained.config, {"inference.overlap": overlap})
    segment = segmenter(open_engine(trained, weights, device.value).predict, config, tta=tta)
    done = _segment_all(plan, segment, trained, failures)
    report.show_predictions(done, failures, as_json=json_report)
    if failures:
        raise PartialError(f"{len(failures)} of {len(paths)} images failed: {', '.join(failures)}")


def _plan(
    paths: Sequence[Path], output: Path, *, with_scores: bool, overwrite: bool
) -> tuple[list[Outputs], dict[str, str]]:
    """Where each mask goes, and what is wrong with the images that cannot be read; an error if none can."""
    from unetcli import report
    from unetcli.data.images import image_format
    from unetcli.data.masks import plan_outputs
    from unetcli.errors import ConfigError, DataError

    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output}: is a file, not a folder for masks", hint="name a folder")
    readable: list[Path] = []
    failures: dict[str, str] = {}
    for path in paths:
        try:
            image_format(path)
            readable.append(path)
        except DataError as error:
            if len(paths) == 1:
                raise
            report.say(f"error: {error}")
            failures[str(path)] = str(error)
    if not readable:
        raise DataError(f"none of the {len(paths)} images can be read: {next(iter(failures.values()))}")
    return plan_outputs(readable, output, with_scores=with_scores, overwrite=overwrite), failures


def _segment_all(
    plan: Sequence[Outputs],
    segment: Callable[[NDArray[Any]], NDArray[np.float32]],
    run: Run,
    failures: dict[str, str],
) -> list[dict[str, Any]]:
    """Segment image after image; one that fails is noted, and raised if it is the only one."""
    from unetcli import report
    from unetcli.errors import DataError

    done: list[dict[str, Any]] = []
    for outputs in plan:
        try:
            done.append(_segment_one(outputs, segment, run))
        except DataError as error:
            if len(plan) == 1 and not failures:
                raise
            report.say(f"error: {error}")
            failures[str(outputs.image)] = str(error)
    return done


def _is_off_scale(page: NDArray[Any], run: Run) -> bool:
    from unetcli.core.normalization import is_off_range

    data = run.config.data
    if data.normalization != "range" or data.lower is None or data.upper is None:
        return False
    return is_off_range(page, data.lower, data.upper)


def _segment_one(outputs: Outputs, segment: Callable[[NDArray[Any]], NDArray[np.float32]], run: Run) -> dict[str, Any]:
    import time

    import numpy as np

    from unetcli import report
    from unetcli.data.images import open_image
    from unetcli.data.masks import writing

    classes = run.facts.classes
    pixels, off_scale = np.zeros(len(classes), np.int64), 0
    started = time.perf_counter()
    with (
        open_image(outputs.image, num_channels=run.config.model.in_channels) as image,
        writing(outputs, image, [info.value for info in classes]) as write,
        report.counting(outputs.image.name, image.num_pages) as count,
    ):
        for page in image:
            off_scale += _is_off_scale(page, run)
            scores = segment(page)
            labels = scores.argmax(axis=0)
            write(labels, scores)
            pixels += np.bincount(labels.ravel(), minlength=len(classes))
            count()
    shares = {info.name: float(share) for info, share in zip(classes, pixels / pixels.sum(), strict=True)}
    if off_scale:
        data = run.config.data
        report.say(
            f"warning: {outputs.image}: intensities of {off_scale} pages are on another scale than the "
            f"{data.lower:g} to {data.upper:g} of the run; convert the image to that scale"
        )
    if max(shares.values()) == 1:
        report.say(
            f"warning: {outputs.mask}: every pixel is '{max(shares, key=shares.__getitem__)}'; is it such an image?"
        )
    return {
        "image": str(outputs.image),
        "mask": str(outputs.mask),
        "scores": str(outputs.scores) if outputs.scores else None,
        "pages": image.num_pages,
        "class_shares": shares,
        "seconds": time.perf_counter() - started,
    }
