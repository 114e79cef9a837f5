"""`unet export`: a run as a model file that is proven equal to it, alone or with all that a device needs."""

from __future__ import annotations

from dataclasses import replace
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
    one_of,
    parse_tile,
)

if TYPE_CHECKING:
    from unetcli.runs import Run


class Format(StrEnum):
    """Model file formats."""

    mindir = "MINDIR"
    onnx = "ONNX"
    air = "AIR"


def export(
    run: RunOption = None,
    file_format: Annotated[
        Format, typer.Option("--format", **one_of(Format), help="MINDIR for MindSpore, ONNX for others.")
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
    from unetcli.cli.export.images import images_to_check
    from unetcli.cli.networks import open_engine
    from unetcli.cli.wiring import take_run
    from unetcli.files import replacing, write_json

    trained = _with_tile(take_run(run), tile)
    path = _place(trained, file_format, output, bundle, dynamic=dynamic)
    _check_place(path, bundle, overwrite=overwrite)
    weights = trained.checkpoint(checkpoint)
    _check_device(file_format.value, device.value)
    images = images_to_check(trained, check)
    from unetcli.cli.export.writing import Export, write_bundle  # not at the top, since it needs the engine

    engine = open_engine(trained, weights, device.value)
    exporting = Export(trained, weights, engine, file_format.value, dynamic, images)
    if bundle is None:
        with replacing(path) as temporary:
            facts = exporting.write(temporary, path.name)
        write_json(path.with_name(f"{path.name}.json"), facts)
    else:
        facts = write_bundle(exporting, path)
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
