"""Train the preset 'hippocampus' on the real volumes and say what it reaches: part of `make accuracy`.

    python benchmarks/accuracy_volumes.py [--data DIR] [--only NAME ...]

Each experiment is the user's own commands, one process each: prepare, train, eval, export. 160 volumes train and 40
validate, by the seed that nnU-Net splits with. Figures go to standard output as tables in Markdown, and as JSON into
the working folder, one file an experiment, so that a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accuracy import WORK, timed

CLASSES = ("Anterior", "Posterior")
MEASURES = ("dice", "iou", "precision", "recall", "hd95_mm", "asd_mm", "assd_mm", "surface_dice")


@dataclass(frozen=True, slots=True)
class Experiment:
    """A preset with the bars it has to meet.

    Args:
        preset: Name of the preset.
        least: Mean Dice of the two classes that it has to reach.
        minutes: Time that training may take.
    """

    preset: str
    least: tuple[float, float]
    minutes: float


EXPERIMENTS = (Experiment("hippocampus", (0.88, 0.86), minutes=30),)


def main() -> int:
    """Run what is asked for; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("UNET_REAL_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="*", choices=[e.preset for e in EXPERIMENTS], help="some experiments")
    arguments = parser.parse_args()
    chosen = [e for e in EXPERIMENTS if not arguments.only or e.preset in arguments.only]
    results = [run_experiment(experiment, arguments.data / "msd_task04_hippocampus") for experiment in chosen]
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    missed: list[str] = []
    for experiment, result in zip(chosen, results, strict=True):
        print_table(experiment, result)
        missed += misses(experiment, result)
    print("\n".join(missed) or "every bar was met")
    return 1 if missed else 0


def run_experiment(experiment: Experiment, source: Path) -> dict[str, Any]:
    """Prepare, train, measure and export."""
    done = WORK / f"{experiment.preset}.json"
    if done.is_file():
        return json.loads(done.read_text("utf-8"))
    dataset, run = WORK / "hippocampus-data", WORK / experiment.preset
    result: dict[str, Any] = {}
    if not dataset.exists():
        result["prepare_seconds"] = timed("prepare", "msd", source, "-o", dataset)[0]
    result["train_seconds"], _ = timed("train", dataset, "--preset", experiment.preset, "-o", run, "--overwrite")
    for name, option in (("eval", "--no-tta"), ("eval_tta", "--tta")):
        result[name] = timed("eval", "--run", run, option)[1]
    result["export"] = timed("export", "--run", run, "--overwrite")[1]["agreement"]
    result["curve"] = learning_curve(run)
    done.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def learning_curve(run: Path) -> list[tuple[int, float, float]]:
    """Step, mean loss of its epoch, and foreground Dice, of every validation."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [
        (event["step"], event["loss"], event["validation"]["foreground_dice"])
        for event in events
        if event["event"] == "epoch" and event["validation"]
    ]


def print_table(experiment: Experiment, result: dict[str, Any]) -> None:
    """What a preset reaches, as the mean over cases with its 95 % interval for Dice, and how it came there."""
    print(f"\n{experiment.preset}: trained {result['train_seconds'] / 60:.1f} min\n")
    print("| class | TTA |", " | ".join(MEASURES), "| 95 % interval of Dice |")
    print("|" + "---|" * (len(MEASURES) + 3))
    for key, tta in (("eval", "no"), ("eval_tta", "yes")):
        for name in CLASSES:
            values = result[key]["statistics"][name]
            figures = " | ".join(f"{values[measure]['mean']:.4f}" for measure in MEASURES)
            interval = "{low:.4f} to {high:.4f}".format(**values["dice"])
            print(f"| {name} | {tta} | {figures} | {interval} |")
    print("\n| step |", " | ".join(str(step) for step, _, _ in result["curve"]), "|")
    print("|" + "---|" * (len(result["curve"]) + 1))
    print("| loss |", " | ".join(f"{loss:.3f}" for _, loss, _ in result["curve"]), "|")
    print("| Dice |", " | ".join(f"{dice:.4f}" for _, _, dice in result["curve"]), "|")


def misses(experiment: Experiment, result: dict[str, Any]) -> list[str]:
    """Every bar that was not met, as a line; Dice is that with test-time augmentation, as the preset predicts."""
    minutes = result["train_seconds"] / 60
    found: list[str] = []
    for name, least in zip(CLASSES, experiment.least, strict=True):
        dice = result["eval_tta"]["statistics"][name]["dice"]["mean"]
        if dice < least:
            found.append(f"{experiment.preset}: Dice of {name} {dice:.4f}, the bar is {least}")
    if minutes > experiment.minutes:
        found.append(f"{experiment.preset}: trained {minutes:.1f} min, the bar is {experiment.minutes:g}")
    if result["export"]["equal_labels"] < 0.9999:
        found.append(f"{experiment.preset}: MINDIR agrees on {result['export']['equal_labels']:.4%} only")
    return found


if __name__ == "__main__":
    sys.exit(main())
