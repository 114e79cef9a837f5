"""Train on nuclei and by the original paper, and say what they reach: part of `make accuracy`.

    python benchmarks/accuracy_objects.py [--data DIR] [--only nuclei weight_map paper]

Each experiment is the user's own commands, one process each. What is known already lies as JSON in the working folder,
so that a call that was broken off goes on where it stopped.

- nuclei: the preset of that name on 60 fluorescence images, measured on 20 others.
- weight_map: nuclei that touch are parted by background, and a small network learns cross entropy for the same number
  of steps without a weight map, with that of the paper where all classes count the same, and where they are balanced,
  from three seeds; how many nuclei are merged?
- paper: the preset `paper-2015` with a quarter of its channels on the ISBI stack, the model zoo's fold 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accuracy import WORK, timed

LEAST = {"foreground_dice": 0.90, "average_precision_50": 0.75, "pixel_accuracy": 0.91}
MINUTES = {"nuclei": 10.0, "paper": 30.0}
SEEDS = (1, 2, 3)
CROSS_ENTROPY = (
    *("--set", "loss.dice=0", "--set", "loss.cross_entropy=1"),
    *("--set", "model.base_channels=8", "--epochs", 6),
)
SHOWN = (
    *("num_true_objects", "num_predicted_objects", "num_merged_objects", "num_split_objects"),
    *("average_precision_50", "panoptic_quality"),
)
PAPER = ("--set", "model.base_channels=16", "--epochs", 64, "--set", "train.validate_every=5")


def main() -> int:
    """Run what is asked for; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("UNET_REAL_DATA", "../shared/data")))
    experiments: dict[str, Callable[[Path], list[str]]] = {
        "nuclei": nuclei,
        "weight_map": weight_map,
        "paper": paper,
    }
    parser.add_argument("--only", nargs="*", choices=[*experiments], help="some experiments")
    arguments = parser.parse_args()
    missed = [line for name in arguments.only or experiments for line in experiments[name](arguments.data)]
    print("\n".join(missed) or "every bar was met")
    return 1 if missed else 0


def nuclei(data: Path) -> list[str]:
    """The preset on fluorescence images; the bars that it misses."""
    dataset = prepared("nuclei", "nuclei", data / "dsb2018" / "fluo256", "--validation", 20)
    result = trained("nuclei", dataset, "--preset", "nuclei")
    measured = result["eval"] | result["eval"]["instances"]
    names = ("foreground_dice", "average_precision_50", "mean_average_precision", "panoptic_quality")
    print(f"nuclei: {result['minutes']:.1f} min;", ", ".join(f"{name} {measured[name]:.4f}" for name in names))
    return misses("nuclei", result, {name: measured[name] for name in names[:2]})


def weight_map(data: Path) -> list[str]:
    """Merged nuclei with the border weight map and without; there is a miss if it merges no fewer."""
    source = data / "dsb2018" / "fluo256"
    made = ("nuclei", source, "--validation", 20, "--target", "separated", "--weight-map")
    balanced = prepared("separated", *made)
    equal = prepared("separated-equal", *made, "--weight-map-classes", "equal")
    losses = {"plain": (equal, False), "weight map": (equal, True), "weight map, classes balanced": (balanced, True)}
    merged: dict[str, list[float]] = {name: [] for name in losses}
    print("| loss | seed |", " | ".join(SHOWN), "| train |")
    print("|" + "---|" * (len(SHOWN) + 3))
    for seed in SEEDS:
        for name, (dataset, weighs) in losses.items():
            how = (*CROSS_ENTROPY, "--set", f"loss.weight_map={str(weighs).lower()}")
            label = f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            result = trained(label, dataset, "--preset", "nuclei", "--seed", seed, *how)
            objects = result["eval"]["instances"]
            merged[name].append(objects["num_merged_objects"])
            figures = " | ".join(f"{objects[each]:.4g}" for each in SHOWN)
            print(f"| {name} | {seed} | {figures} | {result['minutes']:.1f} min |", flush=True)
    medians = {name: statistics.median(found) for name, found in merged.items()}
    print(f"merged nuclei, median of {len(SEEDS)} seeds:", ", ".join(f"{name} {n:g}" for name, n in medians.items()))
    return [] if medians["weight map"] < medians["plain"] else ["weight_map: it merges no fewer nuclei"]


def paper(data: Path) -> list[str]:
    """The original recipe on the ISBI stack; the bars that it misses."""
    dataset = prepared("isbi-weighted", "isbi", data / "isbi2012", "--split", "zoo", "--weight-map")
    result = trained("paper", dataset, "--preset", "paper-2015", "--fold", 1, *PAPER)
    accuracy = result["eval"]["pixel_accuracy"]
    print(f"paper: {result['minutes']:.1f} min, pixel accuracy {accuracy:.4f}, V_Rand {result['eval']['v_rand']:.4f}")
    return misses("paper", result, {"pixel_accuracy": accuracy})


def prepared(name: str, *source: object) -> Path:
    """A dataset folder, made unless it is there."""
    dataset = WORK / name
    if not dataset.exists():
        timed("prepare", *source, "-o", dataset)
    return dataset


def trained(name: str, *arguments: object) -> dict[str, Any]:
    """How long a training took, and what `unet eval` says of its best weights."""
    done, run = WORK / f"{name}.json", WORK / f"{name}-run"
    if done.is_file():
        return json.loads(done.read_text("utf-8"))
    seconds, _ = timed("train", *arguments, "-o", run, "--overwrite")
    result = {"minutes": seconds / 60, "eval": timed("eval", "--run", run)[1]}
    done.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def misses(name: str, result: dict[str, Any], found: dict[str, float]) -> list[str]:
    """Every bar that was not met, as a line."""
    lines = [
        f"{name}: {measure} {value:.4f}, the bar is {LEAST[measure]}"
        for measure, value in found.items()
        if value < LEAST[measure]
    ]
    if result["minutes"] > MINUTES[name]:
        lines.append(f"{name}: trained {result['minutes']:.1f} min, the bar is {MINUTES[name]:g}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
