"""`unet prepare folder`: images and masks of any source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unetcli.cli.options import JsonOption, OverwriteOption
from unetcli.cli.prepare.options import (
    CompressOption,
    DryRunOption,
    FoldsOption,
    GroupOption,
    JobsOption,
    LabelMapOption,
    LabelOption,
    MirrorOption,
    NamedOutputOption,
    SeedOption,
    SpacingOption,
    StrictOption,
    ValidationOption,
    WeightMapClassesOption,
    WeightMapOption,
    WeightMapSigmaOption,
    WeightMapW0Option,
    weight_map_facts,
)


def folder(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of images and labels (or masks), of files such as x.png and x_mask.png, or of a folder for "
            "each with image.png and mask.png; or of train and val, each of them such a folder."
        ),
    ],
    output: NamedOutputOption = None,
    images: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Which files in the folder are images, such as 'scans/*.tif'.")
    ] = None,
    masks: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Which are their masks, such as 'drawn/*.tif'.")
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Take the pages of a TIF for the slices of one volume.")
    ] = False,
    label: LabelOption = None,
    label_map: LabelMapOption = None,
    mirror: MirrorOption = None,
    weight_map: WeightMapOption = False,
    weight_map_classes: WeightMapClassesOption = None,
    weight_map_w0: WeightMapW0Option = None,
    weight_map_sigma: WeightMapSigmaOption = None,
    group_by: GroupOption = None,
    folds: FoldsOption = None,
    validation: ValidationOption = None,
    seed: SeedOption = 12345,
    spacing: SpacingOption = None,
    compress: CompressOption = False,
    jobs: JobsOption = None,
    strict: StrictOption = False,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json_report: JsonOption = False,
) -> None:
    """Prepare images with masks, or volumes with masks, that are paired by their names.

    TIF, PNG and JPEG are images, and each page of a TIF is one; NIfTI, MetaImage, NRRD and DICOM folders are volumes.
    What the values of the masks mean is found from them: 0 and 255, or 0, 1, 2 and so on; --label and --label-map say
    it otherwise. Of masks with a palette of colours the indices count, and their colours are told. Folders train and
    val say what validates, unless --folds or --validation draw it.
    --spacing, --compress and --jobs are for volumes, --weight-map is for images; the pieces of a class are its cells.
    """
    from unetcli import report
    from unetcli.cli.prepare.images import prepare_images
    from unetcli.cli.prepare.volumes import prepare_volumes
    from unetcli.data.preparing.volume_plan import SplitPlan, WorkOptions
    from unetcli.data.sources.folder import Search, find_pairs
    from unetcli.data.sources.folder_images import ImageOptions, output_name
    from unetcli.data.sources.folder_volumes import volumes_of
    from unetcli.data.sources.label_map import parse_label_map
    from unetcli.errors import ConfigError

    told = parse_label_map(label_map or ())
    weighing = weight_map_facts(weight_map, weight_map_classes, weight_map_w0, weight_map_sigma)
    typer.echo(f"reading {source}", err=True)
    pairs = find_pairs(source, Search(images, masks, volumes, group_by))
    place = output or Path("datasets") / output_name(source)
    is_published = pairs.is_published and folds is None and validation is None
    split = SplitPlan(folds, seed, is_published, validation)
    if pairs.dimension == 2:
        for name, given in (("--spacing", spacing), ("--compress", compress), ("--jobs", jobs)):
            if given:
                raise ConfigError(f"{name}: is for volumes, but {source} holds images", hint="leave it out")
        wishes = ImageOptions(
            place.resolve().name, split, tuple(label or ()), tuple(mirror or ()), strict, told, weighing
        )
        prepare_images(pairs, wishes, place, dry_run=dry_run, overwrite=overwrite, as_json=json_report)
        return
    if weighing:
        raise ConfigError(f"--weight-map: is for images, but {source} holds volumes", hint="leave it out")
    with report.counting("looking at masks", len(pairs.pairs)) as advance:
        found = volumes_of(pairs, split, label or (), mirror or (), told, advance)
    options = WorkOptions(place, spacing, compress, jobs, strict, overwrite)
    prepare_volumes(found, options, dry_run=dry_run, as_json=json_report, pairs=pairs)
