"""`unet export`: a run as a model file that is proven equal to it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.options import CheckpointOption, Device, DeviceOption, JsonOption, OverwriteOption, RunOption

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.engine import Engine
    from unetcli.evaluation import Agreement
    from unetcli.runs import Run


class Format(StrEnum):
    """Model file formats."""

    mindir = "MINDIR"
    onnx = "ONNX"
    air = "AIR"


def export(
    run: RunOption = None,
    file_format: Annotated[
        Format, typer.Option("--format", case_sensitive=False, help="MINDIR for MindSpore, ONNX for others.")
    ] = Format.mindir,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Take any batch and image size.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; in the run's export folder if left out.")
    ] = None,
    checkpoint: CheckpointOption = "best",
    check: Annotated[
        list[Path] | None, typer.Option(help="Images to prove the file on; validation cases if left out.")
    ] = None,
    device: DeviceOption = Device.auto,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Write a run as MINDIR, ONNX or AIR, and prove it on real images.

    The file holds the network and its softmax; a JSON beside it says how to prepare an image, how to cut
    it, and what the classes are. The file is loaded again and compared with the run before it is kept.
    """
    from unetcli import report
    from unetcli.cli.networks import open_engine
    from unetcli.cli.wiring import take_run
    from unetcli.files import refuse_existing, replacing, sha256, write_json

    trained = take_run(run)
    suffix = f".{file_format.value.lower()}"
    path = output or trained.path / "export" / f"model{suffix}"
    _check_suffix(path, suffix)
    description = path.with_name(f"{path.name}.json")
    for file in (path, description):
        refuse_existing(file, overwrite=overwrite)
    weights = trained.checkpoint(checkpoint)
    _check_device(file_format.value, device.value)
    images = _images_to_check(trained, check)
    engine = open_engine(trained, weights, device.value)
    shape = _input_shape(trained.config, dynamic=dynamic)
    with replacing(path) as temporary:
        engine.export(temporary, file_format.value, shape)
        agreement = _prove(engine, temporary, file_format.value, images, dynamic=dynamic)
    facts = _describe(trained, weights, path, shape) | {"format": file_format.value, "agreement": agreement.as_dict()}
    facts["sha256"] = sha256(path)
    write_json(description, facts)
    report.show_export(path, facts, as_json=json_report)


def _check_suffix(path: Path, suffix: str) -> None:
    from unetcli.errors import ConfigError

    if path.suffix != suffix:
        raise ConfigError(f"--output {path}: a file of this format must end in {suffix}", hint="or change --format")


def _check_device(file_format: str, device: str) -> None:
    """Before any work, and after all that needs no MindSpore."""
    from unetcli.cli.networks import load_engine

    load_engine()
    from unetcli.engine.device import choose_device
    from unetcli.engine.export import check_format

    check_format(file_format, choose_device(device))


def _input_shape(config: Config, *, dynamic: bool) -> list[int | None]:
    """`(N, C, *S)`; None where any size is taken."""
    channels = config.model.in_channels
    return [None, channels, *[None] * config.model.ndim] if dynamic else [1, channels, *config.tile_size]


def _images_to_check(run: Run, paths: list[Path] | None) -> list[NDArray[Any]]:
    """A few real images `(C, *S)`: given files, or validation cases; of volumes, the middle of two tiles a side."""
    from unetcli.cli.wiring import labelled_cases

    if paths:
        return [image for path in _find(run, paths) for image in _images_of(run, path)]
    cases = labelled_cases(run, None, "validation", otherwise="name images to prove the file on with --check")
    return [_middle(case.image, run.config) for case in cases[:2]]


def _find(run: Run, paths: list[Path]) -> list[Path]:
    from unetcli.data.formats.images import find_images
    from unetcli.data.formats.volumes import find_volumes

    return find_images(paths) if run.config.model.ndim == 2 else find_volumes(paths)


def _images_of(run: Run, path: Path) -> list[NDArray[Any]]:
    from unetcli.cli.predict.volumes import read_finite
    from unetcli.data.formats.images import open_image
    from unetcli.data.formats.volumes import open_volume

    channels = run.config.model.in_channels
    if run.config.model.ndim == 3:
        return [_middle(read_finite(open_volume(path, num_channels=channels)), run.config)]
    with open_image(path, num_channels=channels) as image:
        return list(image)


def _middle(image: NDArray[Any], config: Config) -> NDArray[Any]:
    """The image, or of a volume at most its middle of two tiles a side: more proves no more, and takes long."""
    if config.model.ndim == 2:
        return image
    sizes = [min(whole, 2 * tile) for whole, tile in zip(image.shape[1:], config.tile_size, strict=True)]
    starts = [(whole - size) // 2 for whole, size in zip(image.shape[1:], sizes, strict=True)]
    return image[(slice(None), *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))]


def _prove(engine: Engine, path: Path, file_format: str, images: list[NDArray[Any]], *, dynamic: bool) -> Agreement:
    """Run the file and the engine over the same images, tile by tile."""
    from unetcli.cli.networks import Member
    from unetcli.cli.segmenting import segmenter
    from unetcli.engine.export import open_mindir
    from unetcli.errors import RunError
    from unetcli.evaluation import compare
    from unetcli.runtimes import open_model

    config = _proving_config(engine.config, dynamic=dynamic)
    run = open_model(path, "onnxruntime") if file_format == "ONNX" else open_mindir(path)
    exported = segmenter([Member(run, config)], tta=False)
    agreement = compare(images, segmenter([Member(engine.predict, config)], tta=False).scores, exported.scores)
    if not agreement.is_close:
        raise RunError(
            f"{path.name}: the exported file disagrees with the run: largest difference "
            f"{agreement.largest_difference:.2g}, equal labels {agreement.equal_labels:.4%}; it was not kept",
            hint="this is a fault of the exporter; try the other format",
        )
    return agreement


def _proving_config(config: Config, *, dynamic: bool) -> Config:
    """Tiles of the exported size one by one; pairs of another size where any is to be taken."""
    from unetcli.config import with_values

    if not dynamic:
        return with_values(config, {"inference.batch_size": 1})
    eaten = 2 * config.model.margin
    size = [
        length - stride if length - stride > eaten else length + stride
        for length, stride in zip(config.tile_size, config.model.stride, strict=True)
    ]
    return with_values(config, {"inference.batch_size": 2, "inference.tile_size": size})


def _describe(run: Run, checkpoint: Path, path: Path, shape: list[int | None]) -> dict[str, Any]:
    """What one must know to use the file without unet."""
    from unetcli.files import sha256

    config = run.config
    spatial = ["depth", "height", "width"][-config.model.ndim :]
    return {
        "model_file": path.name,
        "run": run.path.name,
        "checkpoint": {"name": checkpoint.name, "sha256": sha256(checkpoint)},
        "unet_version": run.facts.unet_version,
        "input": {"layout": ["batch", "channels", *spatial], "shape": shape, "dtype": "float32"},
        "output": {"layout": ["batch", "classes", *spatial], "values": "softmax scores", "dtype": "float32"},
        "normalization": {
            "method": config.data.normalization,
            "lower": config.data.lower,
            "upper": config.data.upper,
            "output_range": config.data.output_range,
        },
        "tiling": {
            "tile_size": config.tile_size,
            "overlap": config.inference.overlap,
            "blending": config.inference.blending,
            "border_pixels_eaten": config.model.margin,
            "size_multiple": config.model.stride,
        },
        "channels": run.facts.channels,
        "spacing": {"voxel": run.facts.spacing, "resample_to_it": run.facts.is_resampled},
        "classes": [info.model_dump() for info in run.facts.classes],
    }
