"""What one waits for before anything is done: `make bench`.

    python benchmarks/start_up.py [--rounds 5] [--json] [--work DIR]

- `unet --help`, and `unet predict` of one image of 512 x 512 pixels in each runtime that is installed, as whole
  processes. MindSpore compiles the network for its tile first; it does so with nothing kept by an earlier process, and
  with the graph kept that one has left.
- The first step of training the network of the preset `isbi` (padded, 16 to 256 channels, batch normalisation) with
  cross entropy and AdamW on 2 random patches of 256 x 256, in a new process, again with nothing kept and with the graph
  kept; beside PyTorch as it is, which compiles nothing. `first step` is what that step takes, its compilation and all;
  `to the first step` counts from the start of the process; `compiling` is the first step less a later one.

All run in turn, each in a process of its own. Graphs are kept in a folder of the benchmark's, not in the user's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compare import Done, Rounds, alternate, comparison, parser, publish, run
from predictions import UNET, Task, predict_command, with_pytorch

IMAGE = (1, 512, 512)
BATCH, SIZE, CHANNELS, RATE, STEPS = 2, 256, (16, 32, 64, 128, 256), 3e-3, 4
BARS = {"unet --help": 0.3, "predict, auto": 1.5, "compiling, graph kept": 2.0}
"""In seconds."""


def main() -> None:
    """Alternate all and print what they take, or train as one of them."""
    options = parser(__doc__, rounds=5)
    options.add_argument("--worker", choices=["unet", "pytorch"], help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.worker:
        print(json.dumps({"unet": train_ours, "pytorch": train_peer}[arguments.worker]()))
        return
    task = Task.prepare(arguments.work, "stack", IMAGE)
    caches = arguments.work.resolve() / "caches"
    contestants = {"unet --help": lambda: run([UNET, "--help"]), **predictions(task, caches)}
    training = [sys.executable, __file__, "--worker"]
    contestants |= {
        "train, nothing kept": afresh(caches, [*training, "unet"]),
        "train, graph kept": keeping(caches / "kept", [*training, "unet"]),
        "train, PyTorch": lambda: run([*training, "pytorch"]),
    }
    for name, start in contestants.items():
        if "nothing kept" not in name:
            start()  # keeps its graph or its ONNX file, and has the disk read what all processes read
    rounds = alternate(contestants, arguments.rounds)
    alone = [name for name in contestants if not name.startswith("train")]
    publish(
        [
            *(seconds(name, [done.seconds for done in rounds[name]]) for name in alone),
            *(
                seconds(f"compiling, {kept}", compiling(rounds[f"train, {kept}"]))
                for kept in ("nothing kept", "graph kept")
            ),
            *(
                beside_pytorch(rounds, kept, what, fact)
                for kept in ("nothing kept", "graph kept")
                for what, fact in (("first step", "first"), ("to the first step", "since_start"))
            ),
        ],
        as_json=arguments.json,
    )


def predictions(task: Task, caches: Path) -> dict[str, Callable[[], Done]]:
    """`unet predict` in each runtime that there is."""

    def command(runtime: str) -> list[str]:
        return predict_command(task.image, task.run / "run", task.work / "masks" / runtime, "--runtime", runtime)

    found = [name for name in ("openvino", "onnxruntime") if importlib.util.find_spec(name)]
    return {
        **{f"predict, {name}": keeping(caches / "kept", command(name)) for name in ("auto", *found)},
        "predict, mindspore, nothing kept": afresh(caches, command("mindspore")),
        "predict, mindspore, graph kept": keeping(caches / "kept", command("mindspore")),
    }


def keeping(folder: Path, command: Sequence[str]) -> Callable[[], Done]:
    """A contestant that keeps its graphs in a folder."""
    return lambda: run(["env", f"XDG_CACHE_HOME={folder}", *command])


def afresh(caches: Path, command: Sequence[str]) -> Callable[[], Done]:
    """A contestant that finds no graphs, and whose own are thrown away."""

    def start() -> Done:
        caches.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=caches) as folder:
            return keeping(Path(folder), command)()

    return start


def seconds(name: str, values: Sequence[float]) -> dict[str, Any]:
    """A result without a peer."""
    return {
        "question": f"start-up: {name}",
        "ours": statistics.median(values),
        "peer": None,
        "peer_name": None,
        "unit": "s",
        "low": min(values),
        "high": max(values),
        "rounds": len(values),
        "bar": BARS.get(name),
    }


def compiling(rounds: Sequence[Done]) -> list[float]:
    """What the first step of each process took beyond a later one."""
    return [done.facts["first"] - done.facts["later"] for done in rounds]


def beside_pytorch(rounds: Rounds, kept: str, what: str, fact: str) -> dict[str, Any]:
    """The comparison of one fact of the trainings."""
    ours, peer = ([done.facts[fact] for done in rounds[f"train, {name}"]] for name in (kept, "PyTorch"))
    return comparison(f"start-up: {what}, {kept}", ours, peer, with_pytorch())


class Batches:
    """Random patches and labels, the same for both."""

    steps_per_epoch = STEPS
    patches_per_step = BATCH

    def __getitem__(self, step: int) -> tuple[Any, Any]:
        import numpy as np

        rng = np.random.default_rng(step)
        images = rng.standard_normal((BATCH, 1, SIZE, SIZE), dtype=np.float32)
        return images, (rng.random((BATCH, SIZE, SIZE)) > 0.2).astype(np.int32)


def train_ours() -> dict[str, float]:
    """A few steps through our engine, as `unet train` does them."""
    from unetcli.framework import cache_folder, prepare_process

    prepare_process()
    from unetcli.config import load_config
    from unetcli.engine import Engine, Runtime

    options = {"model.in_channels": 1, "model.num_classes": 2, "loss.dice": 0.0, "train.epochs": 1}
    config = load_config("isbi", options=options | {"train.batch_size": BATCH, "optimizer.learning_rate": RATE})
    engine = Engine.start(config, Runtime("CPU", graphs=cache_folder("graphs")))
    times: list[float] = []
    ends: list[float] = []

    def record(event: Any) -> None:
        if event["event"] == "step":
            times.append(event["seconds"])
            ends.append(since_start())

    with tempfile.TemporaryDirectory() as folder:
        engine.fit(Batches(), lambda: {"mean_iou": 0.0}, record, Path(folder))
    return facts_of(times, ends)


def train_peer() -> dict[str, float]:
    """The same steps of the same network in PyTorch."""
    import torch
    from twin import Twin

    network = Twin(2, CHANNELS, 2)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    batches = Batches()
    times: list[float] = []
    ends: list[float] = []
    for step in range(STEPS):
        images, labels = map(torch.from_numpy, batches[step])
        started = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels.long())
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - started)
        ends.append(since_start())
    return facts_of(times, ends)


def since_start() -> float:
    """Seconds since this process began."""
    import psutil

    return time.time() - psutil.Process().create_time()


def facts_of(times: Sequence[float], ends: Sequence[float]) -> dict[str, float]:
    """The first step, a later one, and when the first was done."""
    return {"first": times[0], "later": statistics.median(times[1:]), "since_start": ends[0]}


if __name__ == "__main__":
    main()
