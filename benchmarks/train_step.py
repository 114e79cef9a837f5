"""A training step in 2D, ours beside PyTorch's: `make bench`.

    python benchmarks/train_step.py [--rounds 5]

Both train the padded U-Net of the preset 'isbi' (16 to 256 channels, batch normalisation) with cross entropy
and AdamW on the same random patches, 4 of 256 x 256, each in a process of its own, in turn. What counts is
the median time of a step after the first two, and of the rounds' ratios the median.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

STEPS, WARM = 8, 2
BATCH, SIZE, CHANNELS = 4, 256, (16, 32, 64, 128, 256)


def main() -> None:
    """Alternate the two and print the ratio, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=["unet", "pytorch"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(statistics.median({"unet": our_steps, "pytorch": pytorch_steps}[arguments.worker]()[WARM:]))
        return
    ratios: list[float] = []
    for number in range(1, arguments.rounds + 1):
        ours, theirs = measure("unet"), measure("pytorch")
        ratios.append(ours / theirs)
        print(f"round {number}: unet {ours:.3f} s, PyTorch {theirs:.3f} s, ratio {ours / theirs:.2f}", flush=True)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"a step takes {statistics.median(ratios):.2f} times PyTorch's (median of {len(ratios)}, {spread})")


def measure(worker: str) -> float:
    """Seconds of a step in a new process."""
    command = [sys.executable, __file__, "--worker", worker]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels, the same for both."""
    rng = np.random.default_rng(1)
    images = rng.standard_normal((BATCH, 1, SIZE, SIZE), dtype=np.float32)
    return images, (rng.random((BATCH, SIZE, SIZE)) > 0.2).astype(np.int32)


def our_steps() -> list[float]:
    """Seconds of each step of our engine's network, loss and optimiser, compiled as the engine compiles them."""
    from unetcli.framework import prepare_process

    prepare_process()
    from mindspore import Tensor
    from mindspore.train import Model

    from unetcli.config import load_config
    from unetcli.engine.device import set_up
    from unetcli.engine.optimization import build_optimizer
    from unetcli.models import build_loss, build_model

    config = load_config("isbi", None, ["model.in_channels=1", "model.num_classes=2", "loss.dice=0.0"])
    set_up("CPU", seed=1)
    network = build_model(config.model, seed=1, target="cpu")
    rates = np.full(STEPS, 1e-3, np.float32)
    optimizer = build_optimizer(config.optimizer, rates, network.trainable_params(), scale=1.0)
    step = Model(network, build_loss(config.loss, 2), optimizer).train_network.set_train()
    images, labels = map(Tensor, batch())
    return [seconds(lambda: step(images, labels).asnumpy()) for _ in range(STEPS)]


def pytorch_steps() -> list[float]:
    """Seconds of each step of the same network in PyTorch."""
    import torch
    from torch import nn

    def block(inputs: int, outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.ModuleList(map(block, (1, *CHANNELS[:-1]), CHANNELS))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, 2) for c in CHANNELS[:-1])
            self.merge = nn.ModuleList(block(2 * c, c) for c in CHANNELS[:-1])
            self.head = nn.Conv2d(CHANNELS[0], 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            skips: list[torch.Tensor] = []
            for level in self.down:
                x = level(nn.functional.max_pool2d(skips[-1], 2) if skips else x)
                skips.append(x)
            for level in reversed(range(len(CHANNELS) - 1)):
                x = self.merge[level](torch.cat((skips[level], self.up[level](x)), 1))
            return self.head(x)

    network = UNet()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    images, labels = map(torch.tensor, batch())

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels.long()).backward()
        optimizer.step()

    return [seconds(step) for _ in range(STEPS)]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
