"""The padded U-Net of `unet` with batch normalisation, in PyTorch: the same names, the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import nn

RENAMED = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Of MindSpore's batch normalisation, in PyTorch."""


class Twin(nn.Module):
    """A U-Net with kernels of 3 and strides of 2.

    Args:
        ndim: 2 for images, 3 for volumes.
        channels: Of each level, the finest first.
        num_classes: Of the scores.
    """

    def __init__(self, ndim: int, channels: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        convolution, up, pool = {
            2: (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d),
            3: (nn.Conv3d, nn.ConvTranspose3d, nn.MaxPool3d),
        }[ndim]
        self.num_classes = num_classes
        self.memory_format = torch.contiguous_format
        self.pool = pool(2)
        self.encoder = nn.ModuleList(Block(ndim, *pair) for pair in zip((1, *channels[:-1]), channels, strict=True))
        self.upsample = nn.ModuleList(up(2 * c, c, 2, 2) for c in channels[:-1])
        self.decoder = nn.ModuleList(Block(ndim, 2 * c, c) for c in channels[:-1])
        self.head = convolution(channels[0], num_classes, 1)

    @classmethod
    def load(cls, path: Path, *, channels_last: bool) -> Self:
        """A network with the weights of `weights.npz`, for inference."""
        with np.load(path) as file:
            weights = {name: torch.from_numpy(file[name]) for name in file.files}
        ndim = weights["head.weight"].ndim - 2
        depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("encoder."))
        channels = tuple(len(weights[f"encoder.{level}.conv1.weight"]) for level in range(depth))
        network = cls(ndim, channels, len(weights["head.weight"]))
        named = {renamed(name): tensor for name, tensor in weights.items()}
        named |= {name: tensor for name, tensor in network.state_dict().items() if name.endswith("num_batches_tracked")}
        network.load_state_dict(named)
        if channels_last:
            network.memory_format = torch.channels_last if ndim == 2 else torch.channels_last_3d
        return network.eval().to(memory_format=network.memory_format)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `(N, K, *S)` of images `(N, 1, *S)`."""
        x = x.contiguous(memory_format=self.memory_format)
        skips: list[torch.Tensor] = []
        for block in self.encoder:
            x = block(self.pool(skips[-1]) if skips else x)
            skips.append(x)
        for skip, upsample, block in reversed(list(zip(skips, self.upsample, self.decoder, strict=False))):
            x = block(torch.cat((skip, upsample(x)), 1))
        return self.head(x)


class Block(nn.Module):
    """Two convolutions, each with batch normalisation and ReLU."""

    def __init__(self, ndim: int, inputs: int, outputs: int) -> None:
        super().__init__()
        convolution, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[ndim]
        self.conv1 = convolution(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = norm(outputs)
        self.conv2 = convolution(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features."""
        x = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(x)))


def renamed(name: str) -> str:
    """PyTorch's name of a parameter."""
    parent, _, last = name.replace(".double", "").rpartition(".")
    return f"{parent}.{RENAMED.get(last, last)}"
