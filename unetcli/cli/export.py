"""`unet export`: a run as a model file that is proven equal to it, alone or with all that a device needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
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
    parse_tile,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Make a folder for a device such as Ascend 310: the file, an example with its scores, the converter's "
            "command, and a runner that needs no unet.",
            show_default=False,
        ),
    ] = None,
    tile: Annotated[
        Any,
        typer.Option(
            "--tile",
            parser=parse_tile,
            metavar="SIZE",
            help="Size of the fixed input, as 512x512 or 64x64x64; as the run's settings say if left out, which is the "
            "size of a patch where they choose it for each image.",
            show_default=False,
        ),
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
    from unetcli.cli.networks import open_engine
    from unetcli.cli.wiring import take_run
    from unetcli.files import replacing, write_json

    trained = _with_tile(take_run(run), tile)
    path = _place(trained, file_format, output, bundle, dynamic=dynamic)
    _check_place(path, bundle, overwrite=overwrite)
    weights = trained.checkpoint(checkpoint)
    _check_device(file_format.value, device.value)
    images = _images_to_check(trained, check)
    engine = open_engine(trained, weights, device.value)
    exporting = _Export(trained, weights, engine, file_format.value, dynamic, images)
    if bundle is None:
        with replacing(path) as temporary:
            facts = exporting.write(temporary, path.name)
        write_json(path.with_name(f"{path.name}.json"), facts)
    else:
        facts = _write_bundle(exporting, path)
    _show(path, bundle, facts, as_json=json_report)


def _with_tile(run: Run, tile: tuple[int, ...] | str | None) -> Run:
    """The run with tiles of another size in its settings."""
    from unetcli.config import with_values

    if tile is None:
        return run
    size = list(tile) if isinstance(tile, tuple) else tile
    return replace(run, config=with_values(run.config, {"inference.tile_size": size}))


def _place(run: Run, file_format: Format, output: Path | None, bundle: Path | None, *, dynamic: bool) -> Path:
    """Where the model file goes."""
    from unetcli.errors import ConfigError

    suffix = f".{file_format.value.lower()}"
    if bundle is not None:
        if output is not None:
            raise ConfigError(f"--output {output}: cannot be with --bundle, which names the folder of all files")
        if dynamic:
            raise ConfigError(
                "--dynamic: cannot be with --bundle, since a chip runs one shape", hint="leave it out, or name a --tile"
            )
        return bundle / f"model{suffix}"
    if output is not None and output.suffix != suffix:
        raise ConfigError(f"--output {output}: a file of this format must end in {suffix}", hint="or change --format")
    return output or run.path / "export" / f"model{suffix}"


def _check_place(path: Path, bundle: Path | None, *, overwrite: bool) -> None:
    """Refuse what is there already, and a folder that is no bundle even to be replaced."""
    from unetcli.errors import ConfigError
    from unetcli.files import refuse_existing

    for place in [path, path.with_name(f"{path.name}.json")] if bundle is None else [bundle]:
        refuse_existing(place, overwrite=overwrite)
    if bundle is not None and bundle.exists() and not (bundle / "model.json").is_file():
        raise ConfigError(
            f"--bundle {bundle}: is there and holds no model.json, so it is not replaced", hint="name another folder"
        )


def _check_device(file_format: str, device: str) -> None:
    """Before any work, and after all that needs no MindSpore."""
    from unetcli.cli.networks import load_engine

    load_engine()
    from unetcli.engine.device import choose_device
    from unetcli.engine.export import check_format

    check_format(file_format, choose_device(device))


@dataclass(frozen=True, slots=True)
class _Export:
    """One export.

    Args:
        run: What is exported.
        weights: Its checkpoint.
        engine: With these weights.
        file_format: Of the file.
        dynamic: Whether it takes any size.
        images: What it is proven on.
    """

    run: Run
    weights: Path
    engine: Engine
    file_format: str
    dynamic: bool
    images: list[NDArray[Any]]

    def write(self, path: Path, name: str) -> dict[str, Any]:
        """Write and prove the model file; what must be known of it, `name` being what it will be called."""
        from unetcli.engine.export import input_name
        from unetcli.files import sha256

        shape = _input_shape(self.run.config, dynamic=self.dynamic)
        self.engine.export(path, self.file_format, shape)
        agreement = self.prove(path)
        facts = _describe(self.run, self.weights, name, shape)
        facts["input"]["name"] = input_name(path)
        return facts | {
            "format": self.file_format,
            "agreement": agreement.as_dict() if agreement else None,
            "sha256": sha256(path),
        }

    def prove(self, path: Path) -> Agreement | None:
        """Run the file and the engine over the same images, tile by tile; None of AIR, which nothing here reads."""
        from unetcli.cli.networks import Member
        from unetcli.cli.segmenting import segmenter
        from unetcli.engine.export import open_mindir
        from unetcli.errors import RunError
        from unetcli.evaluation import compare
        from unetcli.runtimes import open_model

        if self.file_format == "AIR":
            return None
        config = _proving_config(self.run.config, dynamic=self.dynamic)
        run = open_model(path, "onnxruntime") if self.file_format == "ONNX" else open_mindir(path)
        ours, exported = (segmenter([Member(predict, config)], tta=False) for predict in (self.engine.predict, run))
        agreement = compare(self.images, ours.scores, exported.scores)
        if not agreement.is_close:
            raise RunError(
                f"{path.name}: the exported file disagrees with the run: largest difference "
                f"{agreement.largest_difference:.2g}, equal labels {agreement.equal_labels:.4%}; it was not kept",
                hint="this is a fault of the exporter; try the other format",
            )
        return agreement

    def example(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The middle of a real image as one input `(1, C, *S)`, and the run's scores of it."""
        from unetcli.core.normalization import fit_normalization
        from unetcli.inference import TilePlan, predict_image

        config = self.run.config
        data = config.data
        plan = TilePlan.with_share(config.tile_size, 0, "constant", 1, config.model.margin)
        image = self.images[0]
        normalization = fit_normalization(
            image, data.normalization, data.lower, data.upper, output_range=data.output_range
        )
        kept: list[tuple[NDArray[Any], NDArray[Any]]] = []

        def keep(tiles: NDArray[Any]) -> NDArray[Any]:
            kept.append((tiles, self.engine.predict(tiles)))
            return kept[-1][1]

        predict_image(_crop(normalization(image), plan.output_size), keep, plan)
        return kept[0]


def _write_bundle(exporting: _Export, path: Path) -> dict[str, Any]:
    """The folder of `path`, whole or not at all; what must be known of the file."""
    from unetcli.deployment import complete_bundle, steps_in_words
    from unetcli.files import replacing_folder
    from unetcli.report import say

    with replacing_folder(path.parent) as folder:
        facts = exporting.write(folder / path.name, path.name)
        forms = facts["symmetries"]["forms"]
        if any(turns % 2 for turns, _ in forms) and len(set(exporting.run.config.tile_size[-2:])) > 1:
            say("note: run.py does not average over turns, since a turned tile has another shape; name a square --tile")
            facts["symmetries"]["forms"] = forms[:1]
        tile, scores = exporting.example()
        facts["output"]["shape"] = list(scores.shape)
        facts |= steps_in_words(facts)
        complete_bundle(folder, facts, tile, scores)
    return facts


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
    return image if config.model.ndim == 2 else _crop(image, [2 * length for length in config.tile_size])


def _crop(image: NDArray[Any], most: Sequence[int]) -> NDArray[Any]:
    """The middle of an image `(C, *S)`, of at most so many pixels along each axis."""
    sizes = [min(whole, length) for whole, length in zip(image.shape[1:], most, strict=True)]
    starts = [(whole - size) // 2 for whole, size in zip(image.shape[1:], sizes, strict=True)]
    return image[(slice(None), *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))]


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


def _describe(run: Run, checkpoint: Path, name: str, shape: list[int | None]) -> dict[str, Any]:
    """What one must know to use the file without unet."""
    from unetcli.core.normalization import PERCENTILES
    from unetcli.files import sha256
    from unetcli.inference import TilePlan, symmetries_of

    config = run.config
    spatial = ["depth", "height", "width"][-config.model.ndim :]
    tiling = config.inference
    plan = TilePlan.with_share(config.tile_size, tiling.overlap, tiling.blending, 1, config.model.margin)
    pairs = run.facts.mirror_pairs
    symmetries = symmetries_of(
        config.model.ndim,
        axes=config.augmentation.flip_axes,
        lateral_axis=config.model.ndim - 1 if pairs else None,
        pairs=pairs or None,
    )
    return {
        "model_file": name,
        "run": run.path.name,
        "checkpoint": {"name": checkpoint.name, "sha256": sha256(checkpoint)},
        "unet_version": run.facts.unet_version,
        "input": {"layout": ["batch", "channels", *spatial], "shape": shape, "dtype": "float32"},
        "output": {"layout": ["batch", "classes", *spatial], "values": "softmax scores", "dtype": "float32"},
        "normalization": {
            "method": config.data.normalization,
            "lower": config.data.lower,
            "upper": config.data.upper,
            "percentiles": list(PERCENTILES),
            "output_range": config.data.output_range,
        },
        "tiling": {
            "tile_size": config.tile_size,
            "overlap": config.inference.overlap,
            "overlap_pixels": plan.overlap,
            "blending": config.inference.blending,
            "border_pixels_eaten": config.model.margin,
            "size_multiple": config.model.stride,
        },
        "symmetries": {
            "forms": [[turns, list(axes)] for turns, axes in symmetries.forms] if config.inference.tta else [[0, []]],
            "pairs": list(symmetries.pairs),
        },
        "channels": run.facts.channels,
        "spacing": {"voxel": run.facts.spacing, "resample_to_it": run.facts.is_resampled},
        "classes": [info.model_dump() for info in run.facts.classes],
    }


def _show(path: Path, bundle: Path | None, facts: dict[str, Any], *, as_json: bool) -> None:
    """Where the file is, and how equal to its run it was found."""
    from unetcli import report

    if facts["agreement"] is None:
        report.say("note: the file was not compared with the run, since AIR is read by Ascend's tools alone")
    if as_json:
        place = {} if bundle is None else {"bundle": str(bundle)}
        report.emit_json({**place, "model": str(path), **facts})
    elif bundle is None and facts["agreement"] is not None:
        report.show_export(path, facts, as_json=False)
    else:
        names = sorted(str(file.relative_to(path.parent)) for file in path.parent.rglob("*") if file.is_file())
        rows = [["folder", str(path.parent)], ["files", ", ".join(names)]]
        rows += [["input", f"{facts['input']['name'] or ''} {facts['input']['shape']}".strip()]]
        if facts["agreement"] is not None:
            rows += [
                ["equal labels", f"{facts['agreement']['equal_labels']:.4%}"],
                ["largest difference of a score", f"{facts['agreement']['largest_difference']:.1e}"],
            ]
        report.table("exported", ["", ""], rows)
    if bundle is not None and facts["agreement"] is not None:
        report.say(f"next: python {bundle}/run.py --check")
