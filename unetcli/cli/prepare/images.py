"""What `unet prepare` does with images in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.cli.prepare.summary import (
    class_facts,
    extent,
    pair_facts,
    say_mirrors,
    show,
    skipped_facts,
    split_facts,
)

if TYPE_CHECKING:
    from pathlib import Path

    from unetcli.data.sources.folder import Pairs
    from unetcli.data.sources.folder_images import ImageOptions


def prepare_images(
    pairs: Pairs, options: ImageOptions, output: Path, *, dry_run: bool, overwrite: bool, as_json: bool
) -> None:
    """Read, check, write, and report."""
    from unetcli import report
    from unetcli.data.manifest import fingerprint
    from unetcli.data.preparing.dataset import refuse_output, write_dataset
    from unetcli.data.sources.folder_images import read_images

    if not dry_run:
        refuse_output(output, overwrite=overwrite)
    elif output.exists() and not overwrite:
        report.say(f"{output} exists; to write it will need --overwrite")
    with report.counting("reading", len(pairs.pairs)) as advance:
        found = read_images(pairs, options, advance)
    manifest = found.manifest
    say_mirrors(manifest.classes)
    if not dry_run:
        write_dataset(output, manifest, found.cases, overwrite=overwrite)
    summary: dict[str, Any] = {
        "dataset": str(output),
        "written": not dry_run,
        "cases": len(manifest.cases),
        "pairs": pair_facts(pairs, {each.id for each in found.skipped}),
        "skipped": skipped_facts(found.skipped),
        "size": extent([case.shape[1:] for case in manifest.cases]),
        "spacing": extent([manifest.spacing]) if manifest.spacing else None,
        "unit": manifest.unit,
        "dtypes": sorted({case.image.dtype.name for case in found.cases}),
        "channels": list(manifest.channels),
        **class_facts(manifest.classes, found.values, manifest),
        "weight_map": manifest.weight_map.model_dump(mode="json") if manifest.weight_map else None,
        **split_facts(manifest.splits, options.split, manifest.split_method),
        "fingerprint": fingerprint(manifest),
        "warnings": list(found.warnings),
    }
    show(summary, as_json=as_json)
