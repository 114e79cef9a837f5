"""`unet prepare coco`: images with annotations in the form of COCO."""

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


class CrowdChoice(StrEnum):
    """What becomes of regions in which objects are not told apart."""

    ignore = "ignore"
    background = "background"


def coco(
    annotations: Annotated[
        Path, typer.Argument(help="JSON file of the annotations, such as instances_train2017.json.")
    ],
    images: Annotated[Path, typer.Argument(help="Folder of the images: JPEG, PNG or TIF.")],
    output: OutputOption = Path("datasets/coco"),
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A category to learn; all if left out. Repeatable.")
    ] = None,
    validation_annotations: Annotated[
        Path | None, typer.Option(help="JSON file of the images to validate on, such as instances_val2017.json.")
    ] = None,
    validation_images: Annotated[
        Path | None, typer.Option(help="Folder of the images to validate on; that of the others if left out.")
    ] = None,
    crowd: Annotated[
        CrowdChoice,
        typer.Option(help="Regions in which objects are not told apart: neither learned nor measured, or background."),
    ] = CrowdChoice.ignore,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Keep images that hold no object of the categories.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Most images of each file, the first by their ids; all if left out.")
    ] = None,
    channels: ChannelsOption = ChannelsWish.rgb,
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
    """Prepare images with the polygons and run lengths of COCO annotations.

    Where objects overlap, the smaller is in front. Which object a pixel belongs to is kept, so that unet eval can count
    objects. Images that are missing are named and left out. All images must fit into memory.
    """
    from unetcli import report
    from unetcli.cli.prepare.objects import check_output, object_facts, weigh_and_describe, write_and_show
    from unetcli.data.preparing.coco_dataset import CocoPart, CocoWishes, read_all_coco, wanted_images
    from unetcli.data.preparing.object_dataset import ObjectOptions
    from unetcli.data.preparing.volume_plan import SplitPlan
    from unetcli.data.sources.coco import choose_classes, read_annotations
    from unetcli.errors import ConfigError

    is_published = validation_annotations is not None
    if validation_images and not is_published:
        raise ConfigError(
            "--validation-images: is no use without annotations", hint="give --validation-annotations too"
        )
    if is_published and (folds or validation):
        raise ConfigError(
            f"{'--folds' if folds else '--validation'}: the images to validate on are given",
            hint="leave it out, or leave out --validation-annotations",
        )
    plan = SplitPlan(folds, seed, is_published, validation)
    weighing = weight_map_facts(weight_map, weight_map_classes, weight_map_w0, weight_map_sigma)
    check_output(output, dry_run=dry_run, overwrite=overwrite)
    typer.echo(f"reading {annotations}", err=True)
    parts = [CocoPart(read_annotations(annotations), images)]
    if validation_annotations is not None:
        typer.echo(f"reading {validation_annotations}", err=True)
        parts.append(CocoPart(read_annotations(validation_annotations), validation_images or images, True))
    classes = choose_classes(parts[0].file, category or ())
    wishes = CocoWishes(crowd.value, keep_empty, limit, strict, is_chosen=bool(category))
    with report.counting("drawing", sum(len(wanted_images(part, classes, wishes)) for part in parts)) as advance:
        read = read_all_coco(parts, classes, wishes, advance)
    options = ObjectOptions(
        name=output.resolve().name,
        kind="coco",
        classes=classes,
        split=plan,
        channels=channels.value,
        weight_map=weighing,
        has_ignored=read.has_ignored,
    )
    found = weigh_and_describe(read.images, options)
    summary = object_facts(found, options, output, read.skipped)
    summary["warnings"] = [*read.warnings, *found.warnings]
    write_and_show(found, summary, output, dry_run=dry_run, overwrite=overwrite, as_json=json_report)
