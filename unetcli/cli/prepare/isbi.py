"""`unet prepare isbi`: a membrane stack as the ISBI 2012 challenge published it."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unetcli.cli.options import JsonOption, OverwriteOption
from unetcli.cli.prepare.options import (
    DryRunOption,
    OutputOption,
    WeightMapClassesOption,
    WeightMapOption,
    WeightMapSigmaOption,
    WeightMapW0Option,
    weight_map_facts,
)
from unetcli.cli.prepare.summary import weight_map_text
from unetcli.errors import counted

if TYPE_CHECKING:
    from unetcli.data.manifest import Manifest, WeightMapFacts
    from unetcli.data.sources.isbi import IsbiStack


class SplitMethod(StrEnum):
    """How cases are divided into folds."""

    block = "block"
    zoo = "zoo"


def isbi(
    source: Annotated[
        Path, typer.Argument(help="Folder of train-volume.tif and train-labels.tif, or of train/image and train/label.")
    ] = Path("data/isbi"),
    output: OutputOption = Path("datasets/isbi"),
    split: Annotated[
        SplitMethod,
        typer.Option(help="'block' validates on neighbouring slices; 'zoo' on the slices that the model zoo drew."),
    ] = SplitMethod.block,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    weight_map: WeightMapOption = False,
    weight_map_classes: WeightMapClassesOption = None,
    weight_map_w0: WeightMapW0Option = None,
    weight_map_sigma: WeightMapSigmaOption = None,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Prepare the ISBI 2012 membrane stack, or any stack in its form.

    Labels are 255 (or 1) inside cells and 0 on membranes. Slices that are blank or the same are reported. For the
    weight map, each piece of a slice that membranes close off is a cell.
    """
    from unetcli.data.preparing.dataset import describe_isbi, duplicate_warnings, refuse_output, write_dataset
    from unetcli.data.sources.isbi import read_isbi

    facts = weight_map_facts(weight_map, weight_map_classes, weight_map_w0, weight_map_sigma)
    if not dry_run:
        refuse_output(output, overwrite=overwrite)
    typer.echo(f"reading {source}", err=True)
    stack = read_isbi(source)
    if facts is not None:
        stack = _weighed(stack, facts)
    manifest = describe_isbi(stack, output.resolve().name, split.value, folds, facts)
    warnings = [*stack.warnings, *duplicate_warnings(manifest, stack.cases)]
    if not dry_run:
        write_dataset(output, manifest, stack.cases, overwrite=overwrite)
    elif output.exists() and not overwrite:
        typer.echo(f"{output} exists; to write it will need --overwrite", err=True)
    for warning in warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    summary = _summary(manifest, output, warnings, written=not dry_run)
    typer.echo(json.dumps(summary, indent=2) if json_report else _table(manifest, summary))


def _weighed(stack: IsbiStack, facts: WeightMapFacts) -> IsbiStack:
    from unetcli import report
    from unetcli.data.preparing.weighting import pieces_of_classes, with_weights

    with report.counting("weighing pixels", len(stack.cases)) as advance:
        cases = with_weights(stack.cases, len(stack.classes), facts, pieces_of_classes, advance)
    return replace(stack, cases=cases)


def _summary(manifest: Manifest, output: Path, warnings: list[str], *, written: bool) -> dict[str, Any]:
    from unetcli.data.manifest import fingerprint

    return {
        "dataset": str(output),
        "written": written,
        "slices": len(manifest.cases),
        "size": list(manifest.cases[0].shape[-2:]),
        "dtype": manifest.intensity.dtype,
        "class_shares": dict(zip(manifest.class_names, manifest.class_shares, strict=True)),
        "spacing": manifest.spacing,
        "unit": manifest.unit,
        "weight_map": manifest.weight_map.model_dump(mode="json") if manifest.weight_map else None,
        "split": manifest.split_method,
        "folds": len(manifest.splits),
        "fingerprint": fingerprint(manifest),
        "warnings": warnings,
    }


def _table(manifest: Manifest, summary: dict[str, Any]) -> str:
    validation = "; ".join(_numbers(split.validation) for split in manifest.splits)
    spacing = (
        f"{' x '.join(f'{size:g}' for size in manifest.spacing)} {manifest.unit}" if manifest.spacing else "not told"
    )
    rows = {
        "slices": f"{summary['slices']} of {' x '.join(map(str, summary['size']))} px, {summary['dtype']}",
        "pixel size": spacing,
        "labels": ", ".join(f"{name} {share:.1%}" for name, share in summary["class_shares"].items()),
        "weight map": weight_map_text(summary),
        "split": f"{summary['split']}, {counted(summary['folds'], 'fold')}, validating on {validation}",
        "warnings": str(len(summary["warnings"]) or "none"),
        "dataset" if summary["written"] else "would write": summary["dataset"],
    }
    return "\n".join(f"{name:<12}  {value}" for name, value in rows.items() if value)


def _numbers(ids: tuple[str, ...]) -> str:
    """Case ids without what they share, such as `0 1 2` for `slice-000 slice-001 slice-002`."""
    return " ".join(name.removeprefix("slice-").lstrip("0") or "0" for name in ids)
