"""What `unet prepare` does with images in two dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.cli.prepare.summary import image_facts, pair_facts, say_mirrors, show, skipped_facts

if TYPE_CHECKING:
    from pathlib import Path

    from unetcli.data.sources.folder import Pairs
    from unetcli.data.sources.folder_images import ImageOptions


def prepare_images(
    pairs: Pairs, options: ImageOptions, output: Path, *, dry_run: bool, overwrite: bool, as_json: bool
) -> None:
    """Read, check, write, and report."""
    from unetcli import report
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
        **image_facts(manifest, found.cases, options.split, found.values),
        "warnings": list(found.warnings),
    }
    show(summary, as_json=as_json)
