"""`unet prepare msd`: a task of the Medical Segmentation Decathlon, or a dataset of nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unetcli.cli.options import JsonOption, OverwriteOption
from unetcli.cli.prepare.options import (
    CompressOption,
    DryRunOption,
    FoldsOption,
    JobsOption,
    MirrorOption,
    NamedOutputOption,
    SeedOption,
    SpacingOption,
    StrictOption,
)


def msd(
    source: Annotated[Path, typer.Argument(help="Folder of dataset.json, imagesTr and labelsTr.")],
    output: NamedOutputOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = 12345,
    mirror: MirrorOption = None,
    spacing: SpacingOption = None,
    compress: CompressOption = False,
    jobs: JobsOption = None,
    strict: StrictOption = False,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Prepare a task of the Medical Segmentation Decathlon, or a dataset in the form of nnU-Net v2.

    Each image is checked against its labels: present, on the same grid, of known values, finite, not a copy of another.
    """
    from unetcli.cli.prepare.volumes import prepare_volumes
    from unetcli.data.preparing.volume_plan import SplitPlan, WorkOptions
    from unetcli.data.sources.msd import read_description, read_msd

    typer.echo(f"reading {source}", err=True)
    found = read_msd(source, SplitPlan(folds, seed), mirror or ())
    name = "".join(read_description(source).name.lower().split())
    options = WorkOptions(output or Path("datasets") / name, spacing, compress, jobs, strict, overwrite)
    prepare_volumes(found, options, dry_run=dry_run, as_json=json_report)
