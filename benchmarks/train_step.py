"""A training step on CPU, ours beside PyTorch's, in 2D and 3D: `make bench`.

    python benchmarks/train_step.py [--network image|volume|both] [--avx2] [--rounds 5] [--json]
    python benchmarks/train_step.py --growth [--network image|volume|both] [--json]

Both train the same padded U-Net with batch normalisation by cross entropy and AdamW on the same random patches, each in
a process of its own, in turn: images with the channels of the preset 'isbi', 16 to 256, on 4 patches of 256 x 256;
volumes with those of the preset 'volume', 16 to 128 and without deep supervision, on 2 patches of 64 x 64 x 64. What
counts is the median time of a step after the first two.

PyTorch computes with AVX-512 where the processor has it, which MindSpore cannot (`unetcli/framework.py`). With `--avx2`
it runs once more without, which tells how much of the difference lies in that. `--growth` times our step alone, on
patches of several sizes.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from compare import Done, alternate, comparison, parser, publish, run

STEPS, WARM = 8, 2
BAR = 1.0
PEERS = {"PyTorch": "pytorch", "PyTorch (AVX2)": "pytorch_avx2"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is trained.

    Attributes:
        kind: "2D" or "3D".
        preset: Whose network it is.
        settings: Laid over the preset.
        channels: Of each level.
        patches: How many a step has.
        size: Of a patch.
        growth: Sizes whose time is taken with `--growth`.
    """

    kind: str
    preset: str
    settings: tuple[str, ...]
    channels: tuple[int, ...]
    patches: int
    size: tuple[int, ...]
    growth: tuple[int, ...]

    def batch(self, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Random patches and labels, the same for all."""
        rng = np.random.default_rng(1)
        images = rng.standard_normal((self.patches, 1, *size), dtype=np.float32)
        return images, (rng.random((self.patches, *size)) > 0.2).astype(np.int32)


PROBLEMS = {
    "image": Problem("2D", "isbi", (), (16, 32, 64, 128, 256), 4, (256, 256), (128, 192, 256, 384, 512)),
    "volume": Problem(
        "3D",
        "volume",
        ("model.deep_supervision=false", "optimizer.clip_norm=null"),
        (16, 32, 64, 128),
        2,
        (64, 64, 64),
        (32, 48, 64, 80),
    ),
}
CLASSES = 2


def main() -> None:
    """Alternate and print the ratios, or the seconds of our step by size."""
    if len(sys.argv) == 5 and sys.argv[1] == "--worker":
        worker, network, size = sys.argv[2:]
        print(json.dumps({"seconds": work(worker, PROBLEMS[network], tuple(map(int, size.split(","))))}))
        return
    options = parser(__doc__, rounds=5)
    options.add_argument("--network", choices=[*PROBLEMS, "both"], default="both")
    options.add_argument("--avx2", action="store_true", help="run PyTorch once more without AVX-512")
    options.add_argument("--growth", action="store_true", help="time our step alone on patches of several sizes")
    arguments = options.parse_args()
    results: list[dict[str, Any]] = []
    for network in PROBLEMS if arguments.network == "both" else (arguments.network,):
        if arguments.growth:
            results += growth(network)
        else:
            results += compare(network, arguments.rounds, with_avx2=arguments.avx2)
    publish(results, as_json=arguments.json)


def compare(network: str, rounds: int, *, with_avx2: bool) -> list[dict[str, Any]]:
    """Ours and the peers in turn."""
    problem = PROBLEMS[network]
    peers = PEERS if with_avx2 else dict(list(PEERS.items())[:1])
    contestants = {
        f"{name}, {problem.kind}": partial(start, worker, network, problem.size)
        for name, worker in {"unet": "unet", **peers}.items()
    }
    ours, *others = ([done.facts["seconds"] for done in each] for each in alternate(contestants, rounds).values())
    return [
        comparison(f"train step {problem.kind}", ours, seconds, name, bar=BAR if name == "PyTorch" else None)
        for name, seconds in zip(peers, others, strict=True)
    ]


def growth(network: str) -> list[dict[str, Any]]:
    """Seconds of our step by the pixels of a patch."""
    problem = PROBLEMS[network]
    results: list[dict[str, Any]] = []
    for length in problem.growth:
        size = (length,) * len(problem.size)
        seconds = start("unet", network, size).facts["seconds"]
        pixels = math.prod(size)
        print(
            f"{problem.patches} patches of {' x '.join(map(str, size))}: {seconds:.3f} s, "
            f"{seconds / problem.patches / pixels * 1e6:.2f} s a million pixels",
            flush=True,
        )
        results.append({"question": f"growth train {problem.kind}", "pixels": pixels, "seconds": seconds})
    return results


def start(worker: str, network: str, size: tuple[int, ...]) -> Done:
    """Time the steps of one contestant in a process of its own."""
    return run([sys.executable, Path(__file__), "--worker", worker, network, ",".join(map(str, size))])


def work(worker: str, problem: Problem, size: tuple[int, ...]) -> float:
    """Median seconds of a step, the first ones aside."""
    if worker == "pytorch_avx2":  # before PyTorch is imported
        os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    step = (our_step if worker == "unet" else pytorch_step)(problem, size)
    return statistics.median([seconds(step) for _ in range(STEPS)][WARM:])


def our_step(problem: Problem, size: tuple[int, ...]) -> Callable[[], object]:
    """A step of our engine's network, loss and optimiser, compiled as the engine compiles them."""
    from unetcli.framework import prepare_process

    prepare_process()
    from mindspore import Tensor
    from mindspore.train import Model

    from unetcli.config import load_config
    from unetcli.engine.device import set_up
    from unetcli.engine.optimization import build_optimizer
    from unetcli.models import build_loss, build_model

    settings = ["model.in_channels=1", f"model.num_classes={CLASSES}", "loss.cross_entropy=1.0", "loss.dice=0.0"]
    config = load_config(problem.preset, None, [*settings, *problem.settings])
    if config.model.channels != problem.channels:
        raise ValueError(f"the preset {problem.preset} has channels {config.model.channels}, not {problem.channels}")
    set_up("CPU", seed=1)
    network = build_model(config.model, seed=1, target="cpu")
    rates = np.full(STEPS, 1e-3, np.float32)
    optimizer = build_optimizer(config.optimizer, rates, network.trainable_params())
    step = Model(network, build_loss(config.loss, CLASSES), optimizer).train_network.set_train()
    images, labels = map(Tensor, problem.batch(size))
    return lambda: step(images, labels).asnumpy()


def pytorch_step(problem: Problem, size: tuple[int, ...]) -> Callable[[], object]:
    """A step of the same network in PyTorch."""
    import torch
    from twin import Twin

    network = Twin(len(size), problem.channels, CLASSES).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    images, labels = map(torch.tensor, problem.batch(size))

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels.long()).backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
