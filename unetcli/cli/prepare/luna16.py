"""`unet prepare luna16`: chest CT with masks of the lungs, as the LUNA16 challenge published it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unetcli.cli.options import JsonOption, OverwriteOption
from unetcli.cli.prepare.options import (
    CompressOption,
    DryRunOption,
    JobsOption,
    LabelOption,
    OutputOption,
    SeedOption,
    SpacingOption,
    StrictOption,
)


def luna16(
    source: Annotated[
        Path, typer.Argument(help="Folder of subset0 to subset9 and seg-lungs-LUNA16, as folders or .zip archives.")
    ] = Path("data/LUNA16"),
    output: OutputOption = Path("datasets/luna16"),
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Draw so many folds at random, in place of the last 10 volumes of subset9."),
    ] = None,
    seed: SeedOption = 12345,
    label: LabelOption = None,
    spacing: SpacingOption = None,
    compress: CompressOption = False,
    jobs: JobsOption = None,
    strict: StrictOption = False,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Prepare the LUNA16 chest CTs with their lung masks.

    Of the masks' values, 3, 4 and 5 are left_lung, right_lung and trachea, all others background; or what --label says.
    Volumes of any size are kept. A run that was cut off goes on where it ended.
    """
    from unetcli.cli.prepare.volumes import prepare_volumes
    from unetcli.data.preparing.volume_plan import SplitPlan, WorkOptions
    from unetcli.data.sources.luna16 import read_luna16

    typer.echo(f"reading {source}", err=True)
    found = read_luna16(source, SplitPlan(folds, seed, is_published=folds is None), label or ())
    options = WorkOptions(output, spacing, compress, jobs, strict, overwrite)
    prepare_volumes(found, options, dry_run=dry_run, as_json=json_report)
