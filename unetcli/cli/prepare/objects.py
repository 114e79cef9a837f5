"""What `unet prepare` does with images whose objects are told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.cli.prepare.summary import image_facts, show, skipped_facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unetcli.data.preparing.object_dataset import ObjectImage, ObjectImages, ObjectOptions
    from unetcli.data.preparing.volume_records import Skipped


def check_output(output: Path, *, dry_run: bool, overwrite: bool) -> None:
    """Refuse a place that may not become a dataset folder, before anything is read."""
    from unetcli import report
    from unetcli.data.preparing.dataset import refuse_output

    if not dry_run:
        refuse_output(output, overwrite=overwrite)
    elif output.exists() and not overwrite:
        report.say(f"{output} exists; to write it will need --overwrite")


def weigh_and_describe(images: Sequence[ObjectImage], options: ObjectOptions) -> ObjectImages:
    """The dataset of these images; shows how far the weighing is."""
    from unetcli import report
    from unetcli.data.preparing.object_dataset import describe_objects

    if options.weight_map is None:
        return describe_objects(images, options)
    with report.counting("weighing pixels", len(images)) as advance:
        return describe_objects(images, options, advance)


def object_facts(
    found: ObjectImages, options: ObjectOptions, output: Path, skipped: Sequence[Skipped]
) -> dict[str, Any]:
    """What was found, for people and for JSON."""
    manifest = found.manifest
    return {
        "dataset": str(output),
        "written": False,
        "cases": len(manifest.cases),
        "objects": found.num_objects,
        "skipped": skipped_facts(skipped),
        **image_facts(manifest, found.cases, options.split),
        "warnings": list(found.warnings),
    }


def write_and_show(
    found: ObjectImages, summary: dict[str, Any], output: Path, *, dry_run: bool, overwrite: bool, as_json: bool
) -> None:
    """Write the dataset unless it is a dry run, and show the summary."""
    from unetcli.data.preparing.dataset import write_dataset

    if not dry_run:
        write_dataset(output, found.manifest, found.cases, overwrite=overwrite)
    show(summary | {"written": not dry_run}, as_json=as_json)
