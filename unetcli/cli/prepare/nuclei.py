"""`unet prepare nuclei`: nuclei that are told apart, as the Data Science Bowl 2018 published them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unetcli.cli.options import JsonOption, OverwriteOption
from unetcli.cli.prepare.options import (
    ChannelsOption,
    ChannelsWish,
    DryRunOption,
    FoldsOption,
    OutputOption,
    SeedOption,
    StrictOption,
    ValidationOption,
    WeightMapClassesOption,
    WeightMapOption,
    WeightMapSigmaOption,
    WeightMapW0Option,
    weight_map_facts,
)


class Target(StrEnum):
    """What a network learns to tell apart."""

    semantic = "semantic"
    separated = "separated"
    border = "border"


def nuclei(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of <id>/images and <id>/masks (stage1_train, or what holds it), of <id>/image.png and "
            "<id>/mask.png, or of volume.tif and labels-instances.tif."
        ),
    ] = Path("data/nuclei"),
    output: OutputOption = Path("datasets/nuclei"),
    target: Annotated[
        Target,
        typer.Option(
            help="'semantic' for background and nucleus; 'separated' with background between nuclei that touch, as the "
            "original U-Net learns them; 'border' with a class of their own there."
        ),
    ] = Target.semantic,
    border_width: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Width in pixels of the rim that touching nuclei lose to what is between; 1 if left out, 2 with "
            "--target border.",
            show_default=False,
        ),
    ] = None,
    channels: ChannelsOption = ChannelsWish.auto,
    weight_map: WeightMapOption = False,
    weight_map_classes: WeightMapClassesOption = None,
    weight_map_w0: WeightMapW0Option = None,
    weight_map_sigma: WeightMapSigmaOption = None,
    folds: FoldsOption = None,
    validation: ValidationOption = None,
    seed: SeedOption = 12345,
    strict: StrictOption = False,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Prepare microscope images of nuclei that are told apart, such as those of the Data Science Bowl 2018.

    Which nucleus a pixel belongs to is kept, so that unet eval can count nuclei. Where masks overlap, the pixel belongs
    to the nucleus whose file comes first. Images are divided at random, whatever they show.
    """
    from unetcli import report
    from unetcli.cli.prepare.objects import check_output, object_facts, weigh_and_describe, write_and_show
    from unetcli.data.preparing.nuclei_dataset import classes_of_target, read_all_nuclei
    from unetcli.data.preparing.object_dataset import ObjectOptions
    from unetcli.data.preparing.volume_plan import SplitPlan
    from unetcli.data.sources.nuclei import find_nuclei
    from unetcli.errors import ConfigError

    if border_width is not None and target is Target.semantic:
        raise ConfigError(
            f"--border-width {border_width:g}: is for --target separated and border, and this is semantic",
            hint="give --target too, or leave it out",
        )
    plan = SplitPlan(folds, seed, num_validation=validation)
    weighing = weight_map_facts(weight_map, weight_map_classes, weight_map_w0, weight_map_sigma)
    check_output(output, dry_run=dry_run, overwrite=overwrite)
    typer.echo(f"reading {source}", err=True)
    files = find_nuclei(source)
    with report.counting("reading", len(files)) as advance:
        read = read_all_nuclei(files, target.value, border_width, is_strict=strict, advance=advance)
    options = ObjectOptions(
        name=output.resolve().name,
        kind="nuclei",
        classes=classes_of_target(target.value),
        split=plan,
        channels=channels.value,
        weight_map=weighing,
    )
    found = weigh_and_describe(read.images, options)
    summary = object_facts(found, options, output, read.skipped)
    summary["warnings"] = [*read.warnings, *found.warnings]
    write_and_show(found, summary, output, dry_run=dry_run, overwrite=overwrite, as_json=json_report)
