"""What `unet prepare` does with volumes, whatever their source, and how it tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unetcli.data.manifest import ClassInfo, Split
    from unetcli.data.volume_dataset import Prepared
    from unetcli.data.volume_plan import VolumeSource, WorkOptions, WorkPlan
    from unetcli.data.volume_records import Skipped

SHOWN_CASES = 12


def prepare_volumes(source: VolumeSource, options: WorkOptions, *, dry_run: bool, as_json: bool) -> None:
    """Plan, say what will be written, write it, and report."""
    from unetcli import report
    from unetcli.data.dataset import refuse_output
    from unetcli.data.volume_dataset import make_dataset
    from unetcli.data.volume_plan import plan_work, readable_bytes

    if not dry_run:
        refuse_output(options.output, overwrite=options.overwrite)
    elif options.output.exists() and not options.overwrite:
        report.say(f"{options.output} exists; to write it will need --overwrite")
    for pair in _mirror_pairs(source.classes):
        report.say(f"{pair} become each other when an image is mirrored")
    with report.counting("checking headers", len(source.cases)) as advance:
        plan = plan_work(source, options, advance)
    if plan.finished:
        report.say(f"{len(plan.finished)} of {len(plan.outlines)} cases were finished by an earlier run")
    at_most = "up to " if options.compress else ""
    report.say(
        f"{'would write' if dry_run else 'writing'} {at_most}{readable_bytes(plan.num_bytes)} to {options.output}"
    )
    prepared = None
    if not dry_run:
        with report.counting("preparing", len(plan.unfinished)) as advance:
            prepared = make_dataset(source, plan, options, advance)
    warnings = prepared.warnings if prepared else source.warnings
    for warning in warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    summary = _summary(source, plan, options, prepared)
    if as_json:
        report.emit_json(summary)
        return
    skipped = prepared.skipped if prepared else plan.skipped
    if skipped:
        report.table("skipped", ["case", "reason"], [[each.id, each.reason] for each in skipped])
    typer.echo(_table(summary))


def _mirror_pairs(classes: Sequence[ClassInfo]) -> list[str]:
    return [f"{info.name} and {info.mirror_of}" for info in classes if info.mirror_of and info.name < info.mirror_of]


def _summary(source: VolumeSource, plan: WorkPlan, options: WorkOptions, prepared: Prepared | None) -> dict[str, Any]:
    """The result as a program gets it."""
    from unetcli.data.manifest import fingerprint
    from unetcli.data.volume_plan import make_volume_splits

    kept = {case.id for case in prepared.manifest.cases} if prepared else {raw.id for raw, _ in plan.outlines}
    outlines = [(raw, outline) for raw, outline in plan.outlines if raw.id in kept]
    skipped: Sequence[Skipped] = prepared.skipped if prepared else plan.skipped
    splits = prepared.manifest.splits if prepared else make_volume_splits([raw for raw, _ in outlines], source.split)
    sizes = [outline.geometry.size for _, outline in outlines]
    spacings = [outline.geometry.spacing for _, outline in outlines]
    return {
        "dataset": str(options.output),
        "written": prepared is not None,
        "cases": len(outlines),
        "taken_up": len(plan.finished),
        "skipped": [{"case": each.id, "reason": each.reason} for each in skipped],
        "size": _extent(sizes),
        "spacing": _extent(spacings),
        "unit": "mm",
        "dtypes": sorted({outline.dtype for _, outline in outlines}),
        "channels": list(source.channels),
        "classes": [info.model_dump(mode="json") for info in source.classes],
        "class_shares": dict(zip(prepared.manifest.class_names, prepared.manifest.class_shares, strict=True))
        if prepared
        else None,
        "other_values": _other_values(source, prepared) if prepared else None,
        "label_values": {str(value): count for value, count in sorted(prepared.values.items())} if prepared else None,
        "bytes": sum(outline.num_bytes for _, outline in outlines),
        "split": "published" if source.split.is_published else "random",
        "seed": None if source.split.is_published else source.split.seed,
        "folds": [_fold(split) for split in splits],
        "fingerprint": fingerprint(prepared.manifest) if prepared else None,
        "warnings": list(prepared.warnings if prepared else source.warnings),
    }


def _other_values(source: VolumeSource, prepared: Prepared) -> dict[str, int]:
    """Voxels of the values that the rule does not name, and that became background."""
    known = {value for value, _ in source.rule.indices}
    return {str(value): count for value, count in sorted(prepared.values.items()) if value not in known}


def _extent(values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Least, median and largest along Z, Y, X."""
    import statistics

    axes = list(zip(*values, strict=True))
    return {
        name: [f(axis) for axis in axes]
        for name, f in (("least", min), ("median", statistics.median), ("largest", max))
    }


def _fold(split: Split) -> dict[str, Any]:
    return {"train": len(split.train), "validation": list(split.validation)}


def _table(summary: dict[str, Any]) -> str:
    shares: dict[str, float] | None = summary["class_shares"]
    values = {info["name"]: info["source_values"] for info in summary["classes"]}
    labels = [
        f"{name} ({', '.join(map(str, values[name]))})" + (f" {shares[name]:.2%}" if shares else "") for name in values
    ]
    rows = {
        "cases": f"{summary['cases']}, and {len(summary['skipped'])} skipped",
        "size": f"{_span(summary['size'])} voxels (Z Y X), {', '.join(summary['dtypes'])}",
        "spacing": f"{_span(summary['spacing'])} mm",
        "channels": ", ".join(summary["channels"]),
        "labels": ", ".join(labels),
        "other values": ", ".join(
            f"{value} ({count} voxels)" for value, count in (summary["other_values"] or {}).items()
        ),
        "split": _split_text(summary),
        "warnings": str(len(summary["warnings"]) or "none"),
        "dataset" if summary["written"] else "would write": summary["dataset"],
    }
    return "\n".join(f"{name:<12}  {value}" for name, value in rows.items() if value)


def _span(extent: dict[str, list[float]]) -> str:
    spans = (
        f"{low:.4g}" if f"{low:.4g}" == f"{high:.4g}" else f"{low:.4g}-{high:.4g}"
        for low, high in zip(extent["least"], extent["largest"], strict=True)
    )
    return " x ".join(spans)


def _split_text(summary: dict[str, Any]) -> str:
    folds = summary["folds"]
    sizes = ", ".join(f"{fold['train']}/{len(fold['validation'])}" for fold in folds)
    if summary["split"] == "published":
        return f"published, {sizes} for training and validation: {_some(folds[0]['validation'])}"
    return f"random, seed {summary['seed']}, {len(folds)} folds of {sizes} for training and validation"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_CASES} more" if len(names) > SHOWN_CASES else ""
    return ", ".join(names[:SHOWN_CASES]) + more
