"""UNet++: a U-Net of every depth in one, with dense skips."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportArgumentType=false, reportReturnType=false
# pyright: reportGeneralTypeIssues=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None;
# and a tuple of nodes begins empty

from __future__ import annotations

from dataclasses import replace

from mindspore import Tensor, nn, ops

from unetcli.config import ModelSettings
from unetcli.models.blocks import ConvBlock, Upsample, initialize
from unetcli.models.layers import Layers


class NestedUNet(nn.Cell):
    """Nodes X(i, j) at level i: those with j = 0 contract, and each of the others takes all before it at its level.

    Zhou et al. 2018 (arXiv:1807.10165), equation 1: X(i, j) is a block of two convolutions of X(i, 0) ... X(i, j - 1)
    and the upsampled X(i + 1, j - 1), in this order. As in the 'unet_nested' of MindSpore's model zoo
    (official/cv/Unet), nodes with j = 0 have normalisation and the others have none. The zoo puts the upsampled
    features first, and no convolution of it has a bias; here one has where no normalisation follows.

    The logits come from the last node of the finest level by a 1x1 convolution. With `deep_supervision` the nodes
    before it at that level have logits of their own while training, all of the input's size.

    Args:
        settings: With `in_channels` and `num_classes` set.
        layers: Where the layers come from, padded.
        seed: Of the weights.

    Inputs:
        x: `(N, C, *S)` float32; `settings.check_size` says which sizes fit.

    Outputs:
        `(N, K, *S)` logits. With `deep_supervision` and while training, a tuple of them, those of the last node first.
    """

    def __init__(self, settings: ModelSettings, layers: Layers, *, seed: int) -> None:
        super().__init__()
        widths, strides, kernels = settings.channels, settings.level_strides, settings.level_kernels
        on_the_way_up = replace(layers, norm=settings.decoder_norm)
        self.columns = len(strides)
        self.channel_axis = layers.channel_axis
        self.enter = layers.enter()
        self.leave = layers.leave()
        self.pool = nn.CellList([layers.pooling(stride) for stride in strides])
        self.encoder = nn.CellList(
            [
                ConvBlock(layers, below, width, kernel)
                for below, width, kernel in zip((settings.in_channels, *widths[:-1]), widths, kernels, strict=True)
            ]
        )
        # column by column, each from the finest level on
        places = [(level, column) for column in range(1, self.columns + 1) for level in range(settings.depth - column)]
        self.upsample = nn.CellList(
            [
                Upsample(layers, widths[level + 1], widths[level], strides[level], settings.upsample)
                for level, _ in places
            ]
        )
        self.decoder = nn.CellList(
            [
                ConvBlock(on_the_way_up, (column + 1) * widths[level], widths[level], kernels[level])
                for level, column in places
            ]
        )
        self.head = layers.convolution(widths[0], settings.num_classes, layers.ones, has_bias=True)
        self.early_heads = nn.CellList(  # of columns 1 and on
            [
                layers.convolution(widths[0], settings.num_classes, layers.ones, has_bias=True)
                for _ in range(self.columns - 1)
                if settings.deep_supervision
            ]
        )
        initialize(self, seed)

    def construct(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits from images."""
        x = self.enter(x)
        nodes = ()  # of each level
        for level in range(self.columns + 1):
            x = self.encoder[level](x if level == 0 else self.pool[level - 1](x))
            nodes = (*nodes, (x,))
        logits = ()
        number = 0
        for column in range(1, self.columns + 1):
            longer = ()
            for level in range(self.columns + 1 - column):
                enlarged = self.upsample[number](nodes[level + 1][column - 1])
                x = self.decoder[number](ops.cat((*nodes[level], enlarged), self.channel_axis))
                longer = (*longer, (*nodes[level], x))
                number += 1
            nodes = longer
            if self.training and column <= len(self.early_heads):
                logits = (self.leave(self.early_heads[column - 1](nodes[0][column])), *logits)
        final = self.leave(self.head(nodes[0][self.columns]))
        return (final, *logits) if logits else final
