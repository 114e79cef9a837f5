"""The U-Net, padded or as it was published."""

# pyright: standard, reportIncompatibleMethodOverride=false
# MindSpore 2.10 says that construct never returns

from __future__ import annotations

import zlib

from mindspore import Tensor, nn, ops

from unetcli.config import ModelSettings
from unetcli.models.blocks import ConvBlock, Crop, Dropout, Layers, Upsample, initialize


class UNet(nn.Cell):
    """A contracting path, an expanding path, and skips between their levels.

    Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597), figure 1: at each level a block of convolutions
    and a 2x2 max pooling, the channels doubled; then back, each time doubling the size, halving the channels
    and putting the level's own features, cut to size, before the upsampled ones; at last a 1x1 convolution.
    'unet_valid' does not pad, so that no output pixel sees an invented value: 572 px in, 388 px out at depth
    5. With 'bilinear' that holds only away from the border, since the upsampling repeats the edge.
    'unet' pads its convolutions with 0, so that the output has the size of the input.

    Dropout: the paper has it "at the end of the contracting path" (section 3.1) and no more; here it follows
    the two coarsest blocks of that path, so the coarsest skip carries it too.

    Args:
        settings: With `in_channels` and `num_classes` set.
        seed: Of weights and dropout.

    Inputs:
        x: `(N, C, H, W)` float32; `settings.check_size` says which sizes fit.

    Outputs:
        `(N, K, H', W')` logits; H' and W' are less by `2 * settings.margin`.

    Raises:
        ValueError: If `in_channels` or `num_classes` is not set.
    """

    def __init__(self, settings: ModelSettings, *, seed: int) -> None:
        super().__init__()
        if settings.in_channels is None or settings.num_classes is None:
            raise ValueError("in_channels and num_classes must be set before a network is built")
        layers = Layers(padded=settings.architecture == "unet", norm=settings.norm)
        channels = settings.channels
        levels = range(settings.depth - 1)
        self.pool = layers.pooling()
        self.encoder = nn.CellList(
            [
                ConvBlock(layers, below, above, residual=settings.residual)
                for below, above in zip((settings.in_channels, *channels), channels, strict=False)
            ]
        )
        self.dropout = nn.CellList(
            [
                Dropout(settings.dropout, seed=zlib.crc32(f"{seed} {level}".encode()))
                if settings.dropout and level >= settings.depth - 2
                else nn.Identity()
                for level in range(settings.depth)
            ]
        )
        self.upsample = nn.CellList(
            [Upsample(layers, channels[level + 1], channels[level], settings.upsample) for level in levels]
        )
        self.crop = nn.CellList([Crop(margin) for margin in _skip_margins(settings)])
        self.decoder = nn.CellList(
            [ConvBlock(layers, 2 * channels[level], channels[level], residual=settings.residual) for level in levels]
        )
        self.head = layers.convolution(channels[0], settings.num_classes, 1, has_bias=True)
        initialize(self, seed)

    def construct(self, x: Tensor) -> Tensor:
        """Logits from images."""
        depth = len(self.encoder)
        skips = ()
        for level in range(depth - 1):
            x = self.dropout[level](self.encoder[level](x))
            skips = (*skips, x)
            x = self.pool(x)
        x = self.dropout[depth - 1](self.encoder[depth - 1](x))
        for level in range(depth - 2, -1, -1):
            x = ops.cat((self.crop[level](skips[level]), self.upsample[level](x)), 1)
            x = self.decoder[level](x)
        return self.head(x)


def build_model(settings: ModelSettings, *, seed: int) -> nn.Cell:
    """The network that `settings` describe, with its first weights; the same for the same seed, whatever ran before.

    Args:
        settings: With `in_channels` and `num_classes` set.
        seed: Of weights and dropout.

    Raises:
        ValueError: If `in_channels` or `num_classes` is not set.
    """
    return UNet(settings, seed=seed)


def _skip_margins(settings: ModelSettings) -> list[int]:
    """Pixels that a skip has more than the upsampled features, at each end, the finest level first."""
    margins: list[int] = []
    lost = 2  # pixels a side that the bottom block eats
    for _ in range(settings.depth - 1):
        margins.insert(0, 2 * lost if settings.margin else 0)
        lost = 2 + 2 * lost + 2
    return margins
