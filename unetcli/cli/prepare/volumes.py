"""What `unet prepare` does with volumes, whatever their source."""

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
from unetcli.errors import counted

if TYPE_CHECKING:
    from unetcli.data.preparing.volume_dataset import Prepared
    from unetcli.data.preparing.volume_plan import VolumeSource, WorkOptions, WorkPlan
    from unetcli.data.sources.folder import Pairs


def prepare_volumes(
    source: VolumeSource, options: WorkOptions, *, dry_run: bool, as_json: bool, pairs: Pairs | None = None
) -> None:
    """Plan, say what will be written, write it, and report."""
    from unetcli import report
    from unetcli.data.preparing.dataset import refuse_output
    from unetcli.data.preparing.volume_dataset import make_dataset
    from unetcli.data.preparing.volume_plan import plan_work, readable_bytes

    if not dry_run:
        refuse_output(options.output, overwrite=options.overwrite)
    elif options.output.exists() and not options.overwrite:
        report.say(f"{options.output} exists; to write it will need --overwrite")
    say_mirrors(source.classes)
    with report.counting("checking headers", len(source.cases)) as advance:
        plan = plan_work(source, options, advance)
    if plan.finished:
        verb = "was" if len(plan.finished) == 1 else "were"
        report.say(f"{len(plan.finished)} of {counted(len(plan.outlines), 'case')} {verb} finished by an earlier run")
    verb = "would write" if dry_run else "writing"
    at_most = "up to " if options.compress else ""
    report.say(f"{verb} {at_most}{readable_bytes(plan.num_bytes)} to {options.output}")
    prepared = None
    if not dry_run:
        try:
            with report.counting("preparing", len(plan.unfinished)) as advance:
                prepared = make_dataset(source, plan, options, advance)
        except KeyboardInterrupt:
            report.say(f"finished cases are kept in {options.work_folder}; the same command goes on from there")
            raise
    summary = _summary(source, plan, options, prepared)
    if pairs:
        summary["pairs"] = pair_facts(pairs, {each["case"] for each in summary["skipped"]})
    show(summary, as_json=as_json)


def _summary(source: VolumeSource, plan: WorkPlan, options: WorkOptions, prepared: Prepared | None) -> dict[str, Any]:
    from unetcli.data.manifest import fingerprint
    from unetcli.data.preparing.volume_plan import make_volume_splits

    manifest = prepared.manifest if prepared else None
    kept = {case.id for case in manifest.cases} if manifest else {raw.id for raw, _ in plan.outlines}
    outlines = [(raw, outline) for raw, outline in plan.outlines if raw.id in kept]
    splits = manifest.splits if manifest else make_volume_splits([raw for raw, _ in outlines], source.split)
    return {
        "dataset": str(options.output),
        "written": prepared is not None,
        "cases": len(outlines),
        "taken_up": len(plan.finished),
        "skipped": skipped_facts(prepared.skipped if prepared else plan.skipped),
        "size": extent([outline.geometry.size for _, outline in outlines]),
        "spacing": extent([outline.geometry.spacing for _, outline in outlines]),
        "unit": "mm",
        "dtypes": sorted({outline.dtype for _, outline in outlines}),
        "channels": list(source.channels),
        **class_facts(source.classes, prepared.values if prepared else None, manifest),
        "bytes": sum(outline.num_bytes for _, outline in outlines),
        **split_facts(splits, source.split, "published" if source.split.is_published else "random"),
        "fingerprint": fingerprint(manifest) if manifest else None,
        "warnings": list(prepared.warnings if prepared else source.warnings),
    }
