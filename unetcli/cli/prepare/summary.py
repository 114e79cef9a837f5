"""How `unet prepare` tells what it found, in one form for all sources of images and of volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from unetcli.errors import counted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from unetcli.data.cases import LabelledImage
    from unetcli.data.manifest import ClassInfo, Manifest, Split
    from unetcli.data.preparing.volume_plan import SplitPlan
    from unetcli.data.preparing.volume_records import Skipped
    from unetcli.data.sources.folder import Pairs

SHOWN_CASES = 12
SHOWN_PAIRS = 10


def say_mirrors(classes: Sequence[ClassInfo]) -> None:
    """Name the pairs of left and right."""
    for info in classes:
        if info.mirror_of and info.name < info.mirror_of:
            typer.echo(f"{info.name} and {info.mirror_of} become each other when an image is mirrored", err=True)


def class_facts(
    classes: Sequence[ClassInfo], values: Mapping[int, int] | None, manifest: Manifest | None
) -> dict[str, Any]:
    """What the labels are; counts and shares are None before anything is read."""
    known = {value for info in classes for value in info.source_values}
    counts = {str(value): count for value, count in sorted((values or {}).items())}
    shares = dict(zip(manifest.class_names, manifest.class_shares, strict=True)) if manifest else None
    return {
        "classes": [info.model_dump(mode="json") for info in classes],
        "class_shares": shares,
        "label_values": None if values is None else counts,
        "other_values": None if values is None else {name: n for name, n in counts.items() if int(name) not in known},
    }


def image_facts(
    manifest: Manifest, cases: Sequence[LabelledImage], plan: SplitPlan, values: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """What a dataset of images holds."""
    from unetcli.data.manifest import fingerprint

    return {
        "size": extent([case.shape[1:] for case in manifest.cases]),
        "spacing": extent([manifest.spacing]) if manifest.spacing else None,
        "unit": manifest.unit,
        "dtypes": sorted({case.image.dtype.name for case in cases}),
        "channels": list(manifest.channels),
        **class_facts(manifest.classes, values, manifest),
        "weight_map": manifest.weight_map.model_dump(mode="json") if manifest.weight_map else None,
        **split_facts(manifest.splits, plan, manifest.split_method),
        "fingerprint": fingerprint(manifest),
    }


def split_facts(splits: Sequence[Split], plan: SplitPlan, method: str) -> dict[str, Any]:
    """How the cases are divided."""
    return {
        "split": method,
        "seed": plan.seed if method == "random" else None,
        "folds": [{"train": len(split.train), "validation": list(split.validation)} for split in splits],
    }


def extent(values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Least, median and largest along each axis."""
    import statistics

    axes = list(zip(*values, strict=True))
    kinds = {"least": min, "median": statistics.median, "largest": max}
    return {name: [kind(axis) for axis in axes] for name, kind in kinds.items()}


def skipped_facts(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    """What was left out, and why."""
    return [{"case": each.id, "reason": each.reason} for each in skipped]


def pair_facts(pairs: Pairs, left_out: Collection[str]) -> list[dict[str, str]]:
    """Which image goes with which mask, as paths in their folder, without those that are left out."""
    kept = [pair for pair in pairs.pairs if pair.id not in left_out]
    places = [(pair.image.relative_to(pairs.source), pair.mask.relative_to(pairs.source)) for pair in kept]
    return [
        {"case": pair.id, "image": image.as_posix(), "mask": mask.as_posix()}
        for pair, (image, mask) in zip(kept, places, strict=True)
    ]


def show(summary: dict[str, Any], *, as_json: bool) -> None:
    """Print warnings, then the summary as JSON or as tables."""
    from unetcli import report

    for warning in summary["warnings"]:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    if as_json:
        report.emit_json(summary)
        return
    if pairs := summary.get("pairs"):
        more = f", the first {SHOWN_PAIRS} of {len(pairs)}" if len(pairs) > SHOWN_PAIRS else ""
        report.table(f"pairs{more}", list(pairs[0]), [list(pair.values()) for pair in pairs[:SHOWN_PAIRS]])
    if summary["skipped"]:
        report.table("skipped", ["case", "reason"], [list(each.values()) for each in summary["skipped"]])
    typer.echo(_text(summary))


def _text(summary: dict[str, Any]) -> str:
    noun = "voxels (Z Y X)" if len(summary["size"]["least"]) == 3 else "px"
    spacing = f"{_span(summary['spacing'])} {summary['unit']}" if summary["spacing"] else "not told"
    others: dict[str, int] = summary["other_values"] or {}
    rows = {
        "cases": f"{summary['cases']}, and {len(summary['skipped'])} skipped",
        "objects": str(summary["objects"]) if "objects" in summary else "",
        "size": f"{_span(summary['size'])} {noun}, {', '.join(summary['dtypes'])}",
        "spacing": spacing,
        "channels": ", ".join(summary["channels"]),
        "labels": ", ".join(_labels(summary)),
        "weight map": weight_map_text(summary),
        "other values": ", ".join(f"{value} ({counted(count, 'time')})" for value, count in others.items()),
        "split": _split(summary),
        "warnings": str(len(summary["warnings"]) or "none"),
        "dataset" if summary["written"] else "would write": summary["dataset"],
    }
    return "\n".join(f"{name:<12}  {value}" for name, value in rows.items() if value)


def weight_map_text(summary: dict[str, Any]) -> str:
    """How the weight map was computed; nothing where there is none."""
    facts: dict[str, Any] | None = summary.get("weight_map")
    return f"classes {facts['classes']}, w0 {facts['w0']:g}, sigma {facts['sigma']:g} px" if facts else ""


def _labels(summary: dict[str, Any]) -> list[str]:
    """Each class with the value that stood for it, and its share if that is known."""
    shares: dict[str, float] = summary["class_shares"] or {}
    texts: list[str] = []
    for info in summary["classes"]:
        share = f" {shares[info['name']]:.2%}" if shares else ""
        texts.append(f"{info['name']} ({', '.join(map(str, info['source_values']))}){share}")
    return texts


def _span(sizes: dict[str, list[float]]) -> str:
    ends = [(f"{low:.4g}", f"{high:.4g}") for low, high in zip(sizes["least"], sizes["largest"], strict=True)]
    return " x ".join(low if low == high else f"{low}-{high}" for low, high in ends)


def _split(summary: dict[str, Any]) -> str:
    folds = summary["folds"]
    sizes = ", ".join(f"{fold['train']}/{len(fold['validation'])}" for fold in folds)
    if summary["split"] != "published":
        drawn = f", seed {summary['seed']}" if summary["split"] == "random" else " of neighbours"
        return f"{summary['split']}{drawn}, {counted(len(folds), 'fold')} of {sizes} for training and validation"
    names: list[str] = folds[0]["validation"]
    more = f" and {len(names) - SHOWN_CASES} more" if len(names) > SHOWN_CASES else ""
    return f"published, {sizes} for training and validation: {', '.join(names[:SHOWN_CASES])}{more}"
