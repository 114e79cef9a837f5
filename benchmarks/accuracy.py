"""Train the ISBI presets on the real stack and say what they reach: `make accuracy`.

    python benchmarks/accuracy.py [--data DIR] [--only NAME ...]

Each experiment is the user's own commands, one process each: prepare, train, eval, predict, export. The
figures go to standard output as a table in Markdown, and as JSON into the working folder, one file an
experiment, so that a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNET = Path(sys.executable).parent / "unet"
WORK = Path("accuracy")
ZOO_BEST = 0.9111
"""The model zoo's best published value of its own measure, on an Ascend 910 (its README, 2023)."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """A preset on one fold of one way to split, with the bars it has to meet.

    Args:
        preset: Name of the preset.
        split: "zoo" or "block".
        fold: Which fold.
        least: Zoo Dice at 388 px that it has to reach; None to report only.
        minutes: Time that training may take; None to report only.
    """

    preset: str
    split: str
    fold: int
    least: float | None = None
    minutes: float | None = None

    @property
    def name(self) -> str:
        """Of its folder and files."""
        return f"{self.preset}-{self.split}{self.fold}"


EXPERIMENTS = (
    Experiment("isbi", "zoo", 1, least=0.932, minutes=20),
    Experiment("isbi-quick", "zoo", 1, least=ZOO_BEST, minutes=5),
    Experiment("isbi-quick", "block", 4),
    *(Experiment("isbi-quick", "zoo", fold) for fold in (0, 2, 3, 4)),
    Experiment("isbi", "block", 4),
)
MEASURES = ("zoo_dice_388", "zoo_dice", "pixel_accuracy", "mean_iou", "membrane_dice", "v_rand", "v_info")


def main() -> int:
    """Run what is asked for; 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("UNET_REAL_DATA", "../shared/data")))
    parser.add_argument("--only", nargs="*", choices=[e.name for e in EXPERIMENTS], help="some experiments")
    arguments = parser.parse_args()
    chosen = [e for e in EXPERIMENTS if not arguments.only or e.name in arguments.only]
    results = [run_experiment(experiment, arguments.data / "isbi2012") for experiment in chosen]
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print_tables(chosen, results)
    missed = [line for experiment, result in zip(chosen, results, strict=True) for line in misses(experiment, result)]
    print("\n".join(missed) or "every bar was met")
    return 1 if missed else 0


def run_experiment(experiment: Experiment, source: Path) -> dict[str, Any]:
    """Prepare, train, measure with and without test-time augmentation, predict and export."""
    done = WORK / f"{experiment.name}.json"
    if done.is_file():
        return json.loads(done.read_text("utf-8"))
    dataset, run = WORK / experiment.split, WORK / experiment.name
    result: dict[str, Any] = {}
    if not dataset.exists():
        result["prepare_seconds"] = timed("prepare", "isbi", source, "-o", dataset, "--split", experiment.split)[0]
    fold = ("--fold", experiment.fold)
    result["train_seconds"], _ = timed("train", dataset, "--preset", experiment.preset, *fold, "-o", run, "--overwrite")
    result["eval"] = timed("eval", "--run", run)[1]
    result["eval_tta"] = timed("eval", "--run", run, "--tta")[1]
    if experiment.minutes is not None:
        test = source / "test-volume.tif"
        result["predict_seconds"], _ = timed("predict", test, "--run", run, "-o", WORK / f"{experiment.name}-masks")
        result["export"] = {
            f"{file_format}{' dynamic' if dynamic else ''}": timed(
                "export", "--run", run, "--format", file_format, "--overwrite", *dynamic
            )[1]["agreement"]
            for file_format in ("MINDIR", "ONNX")
            for dynamic in ((), ("--dynamic",))
        }
    done.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def timed(*arguments: object) -> tuple[float, dict[str, Any]]:
    """Seconds and the JSON result of one command of the tool."""
    command = [str(UNET), *map(str, arguments), "--json"]
    print("$ unet", *arguments, file=sys.stderr, flush=True)
    started = time.perf_counter()
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return time.perf_counter() - started, json.loads(finished.stdout)


def measures_of(evaluation: dict[str, Any]) -> dict[str, float]:
    """The figures of the table out of what `unet eval --json` says."""
    return {**evaluation, "membrane_dice": evaluation["classes"]["membrane"]["dice"]}


def print_tables(experiments: list[Experiment], results: list[dict[str, Any]]) -> None:
    """Two Markdown tables: what is reached, and how long it takes."""
    print("| preset | split | fold | TTA |", " | ".join(MEASURES), "| train |")
    print("|" + "---|" * (len(MEASURES) + 5))
    for experiment, result in zip(experiments, results, strict=True):
        for key, tta in (("eval", "no"), ("eval_tta", "yes")):
            values = measures_of(result[key])
            figures = " | ".join(f"{values[name]:.4f}" for name in MEASURES)
            minutes = f"{result['train_seconds'] / 60:.1f} min"
            print(f"| {experiment.preset} | {experiment.split} | {experiment.fold} | {tta} | {figures} | {minutes} |")
    print()
    for experiment, result in zip(experiments, results, strict=True):
        if "prepare_seconds" in result:
            print(f"prepare --split {experiment.split}: {result['prepare_seconds']:.1f} s")
        if "predict_seconds" in result:
            print(f"{experiment.name}: predict of the 30 test slices {result['predict_seconds']:.1f} s")
        for name, agreement in result.get("export", {}).items():
            print(
                f"{experiment.name}: {name}: {agreement['equal_labels']:.4%} equal labels, "
                f"largest difference {agreement['largest_difference']:.1e}"
            )


def misses(experiment: Experiment, result: dict[str, Any]) -> list[str]:
    """Every bar that was not met, as a line."""
    score, minutes = result["eval"]["zoo_dice_388"], result["train_seconds"] / 60
    found: list[str] = []
    if experiment.least is not None and score < experiment.least:
        found.append(f"{experiment.name}: zoo Dice at 388 px {score:.4f}, the bar is {experiment.least}")
    if experiment.minutes is not None and minutes > experiment.minutes:
        found.append(f"{experiment.name}: trained {minutes:.1f} min, the bar is {experiment.minutes:g}")
    if result.get("prepare_seconds", 0) > 10:
        found.append(f"{experiment.name}: prepare took {result['prepare_seconds']:.1f} s, the bar is 10")
    if result.get("predict_seconds", 0) > 60:
        found.append(f"{experiment.name}: predict took {result['predict_seconds']:.1f} s, the bar is 60")
    for name, agreement in result.get("export", {}).items():
        if agreement["equal_labels"] < 0.9999:
            found.append(f"{experiment.name}: {name} agrees on {agreement['equal_labels']:.4%} only")
    return found


if __name__ == "__main__":
    sys.exit(main())
