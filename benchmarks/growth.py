"""How time and memory grow with the size of an image, and a training step with the size of its patch: `make bench`.

    python benchmarks/growth.py [--rounds 3] [--json] [--work DIR]

`unet predict` as it is by default, of volumes of 80 x 96 x 96 voxels and up to 16 times as many, and of images of
256 x 256 to 2048 x 2048 pixels; whole processes, in turn, the median of the rounds. Networks and files are those of
`predict_volume.py` and `predict_image.py`. The seconds of training steps are those of `train_step.py --growth`.
A straight line is fitted to each; `r2` is the share of the variance that it explains.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from compare import alternate, parser, publish, run
from predictions import HERE, Task, inside

VOLUMES = ((80, 96, 96), (160, 96, 96), (160, 192, 96), (160, 192, 192), (320, 192, 192))
IMAGES = ((1, 256, 256), (1, 512, 512), (1, 1024, 1024), (1, 2048, 2048))


def main() -> None:
    """Measure all sizes and print them, with the lines through them."""
    options = parser(__doc__)
    options.add_argument("--no-train", action="store_true", help="leave out the training steps")
    arguments = options.parse_args()
    results: list[dict[str, Any]] = []
    for name, what, sizes in (("3D", "volume", VOLUMES), ("2D", "stack", IMAGES)):
        tasks = {math.prod(size): Task.prepare(arguments.work, what, size) for size in sizes}
        contestants = {f"{pixels} pixels, {name}": task.ours(f"growth {name}") for pixels, task in tasks.items()}
        next(iter(contestants.values()))()  # makes the ONNX file
        rounds = alternate(contestants, arguments.rounds)
        for pixels, done in zip(tasks, rounds.values(), strict=True):
            found = {
                "seconds": statistics.median(each.seconds for each in done),
                "cpu_seconds": statistics.median(each.cpu_seconds for each in done),
                "inside": statistics.median(map(inside, done)),
                "peak_mb": statistics.median(each.peak_mb for each in done),
            }
            results.append({"question": f"growth predict {name}", "pixels": pixels, **found})
    failure = None
    if not arguments.no_train:
        try:
            results += training_steps()
        except SystemExit as error:  # what is measured is printed all the same
            failure = error
    publish(results, as_json=False)
    for question, points in groupby(results, key=lambda result: result["question"]):
        say_line(question, list(points))
    if arguments.json:
        for result in results:
            print(json.dumps(result))
    if failure:
        raise failure


def training_steps() -> list[dict[str, Any]]:
    """What `train_step.py` measures over sizes of patches."""
    output = run([sys.executable, HERE / "train_step.py", "--growth", "--json"]).output
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if str(line.get("question", "")).startswith("growth")]


def say_line(question: str, points: Sequence[dict[str, Any]]) -> None:
    """Print the straight line through the seconds and, where there are any, through the memory of points."""
    for key, unit in (("seconds", "s"), ("peak_mb", "MB")):
        if len(points) > 1 and key in points[0]:
            start, slope, r2 = fit_line([p["pixels"] for p in points], [p[key] for p in points])
            print(f"{question}: {start:.3g} {unit} + {slope * 1e6:.3g} {unit} a million pixels (r2 {r2:.3f})")


def fit_line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Least squares: the value at 0, the slope, and the share of the variance that they explain."""
    slope, start = statistics.linear_regression(x, y)
    return start, slope, statistics.correlation(x, y) ** 2


if __name__ == "__main__":
    main()
