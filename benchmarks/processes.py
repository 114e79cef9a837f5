"""Training in two processes on the cores of one: part of `make bench`.

    python benchmarks/processes.py [--rounds 3] [--json] [--work DIR]

`unet train --preset isbi` on the sample data, in one process with a thread for every core and, by `--distribute 2`, in
two that share the cores out; each process takes the 2 patches of 256 x 256 of the preset for a step. What counts are
the seconds a patch, by the images a second that the run's metrics tell of the epochs after the first.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from functools import partial
from pathlib import Path

from compare import Done, alternate, comparison, parser, publish, run

UNET = Path(sys.executable).parent / "unet"
SAMPLE = Path(__file__).parents[1] / "sample_data" / "isbi"
BAR = 1 / 0.85
"""No more than 15 % of one process's throughput may be lost."""


def main() -> None:
    """Alternate and print the ratio."""
    arguments = parser(__doc__).parse_args()
    work: Path = arguments.work / "processes"
    dataset = work / "data"
    run([UNET, "prepare", "isbi", SAMPLE, "--output", dataset, "--overwrite"])
    seconds: dict[str, list[float]] = {"one process": [], "two processes": []}

    def train(name: str, *options: str) -> Done:
        target = work / name.replace(" ", "-")
        shutil.rmtree(target, ignore_errors=True)
        length = ["--epochs", "3", "--set", "train.steps_per_epoch=12", "--set", "train.validate_every=3"]
        done = run([UNET, "train", dataset, "--preset", "isbi", "--output", target, *length, *options])
        seconds[name].append(seconds_a_patch(target / "metrics.jsonl"))
        return done

    two = partial(train, "two processes", "--distribute", "2")
    alternate({"one process": partial(train, "one process"), "two processes": two}, arguments.rounds)
    question = "training, seconds a patch in two processes"
    result = comparison(question, seconds["two processes"], seconds["one process"], "one process", bar=BAR)
    publish([result], as_json=arguments.json)


def seconds_a_patch(metrics: Path) -> float:
    """Of the epochs after the first."""
    events = map(json.loads, metrics.read_text("utf-8").splitlines())
    rates = [event["images_per_second"] for event in events if event["event"] == "epoch"]
    return 1 / statistics.median(rates[1:])


if __name__ == "__main__":
    main()
