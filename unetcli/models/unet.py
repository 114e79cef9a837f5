"""The U-Net, padded or as it was published, of images and of volumes."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

import zlib
from dataclasses import replace

from mindspore import Tensor, nn, ops

from unetcli.config import ModelSettings
from unetcli.models.blocks import ActivatedUpsample, AttentionGate, ConvBlock, Crop, Dropout, Upsample, initialize
from unetcli.models.layers import Layers


class UNet(nn.Cell):
    """A contracting path, an expanding path, and skips between their levels.

    Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597), figure 1: at each level a block of convolutions
    and a max pooling, the channels doubled; then back, each time enlarging, halving the channels
    and putting the level's own features, cut to size, before the upsampled ones; at last a 1x1 convolution.
    'unet_valid' does not pad, so that no output pixel sees an invented value: 572 px in, 388 px out at depth
    5. With 'bilinear' that holds only away from the border, since the upsampling repeats the edge.
    'unet' pads its convolutions with 0, so that the output has the size of the input.

    'unet_cicek' is the 3D U-Net of Cicek et al. 2016 (arXiv:1606.06650), figure 2: the second convolution of a
    block of the contracting path doubles the channels, before the pooling, and the up-convolutions keep them. The
    paper's 19,069,955 parameters are all weights, a bias for each 3x3x3 convolution and the last, and none for
    up-convolutions. The shift of a batch normalisation stands for that bias here; its scale comes on top. The paper
    does not pad; this does, and so the output has the size of the input.

    'unet_simple' is the padded U-Net of MindSpore's model zoo (official/cv/Unet): normalisation on the way down only.
    The zoo has 32 channels at the finest level, puts the skip after the upsampled features, and no convolution of it
    has a bias; here one has where no normalisation follows.

    With `attention` each skip goes through a gate (`AttentionGate`). With `upsample_activation` the upsampled features
    go through an activation before they meet the skip, as in the zoo's unet_medical, which is 'unet_valid' otherwise.

    With `deep_supervision` the coarser levels of the expanding path have a 1x1 convolution to the classes too (as
    nnU-Net, Isensee et al. 2021), all but the coarsest if there are three or more.

    Dropout: the paper has it "at the end of the contracting path" (section 3.1) and no more; here it follows
    the two coarsest blocks of that path, so the coarsest skip carries it too.

    Args:
        settings: With `in_channels` and `num_classes` set.
        layers: Where the layers come from.
        seed: Of weights and dropout.

    Inputs:
        x: `(N, C, *S)` float32; `settings.check_size` says which sizes fit.

    Outputs:
        `(N, K, *S')` logits; S' is less by `2 * settings.margin`. With `deep_supervision` and while training, a tuple
        of them, the finest first.
    """

    def __init__(self, settings: ModelSettings, layers: Layers, *, seed: int) -> None:
        super().__init__()
        is_cicek = settings.architecture == "unet_cicek"
        channels, strides, kernels = settings.channels, settings.level_strides, settings.level_kernels
        widths = [2 * number for number in channels] if is_cicek else channels  # at the end of each block
        upsampled = widths[1:] if is_cicek else widths[:-1]
        on_the_way_up = replace(layers, norm=settings.decoder_norm)
        self.levels = len(strides)
        self.has_gates = settings.attention
        self.channel_axis = layers.channel_axis
        self.enter = layers.enter()
        self.leave = layers.leave()
        self.pool = nn.CellList([layers.pooling(stride) for stride in strides])
        self.encoder = nn.CellList(
            [
                ConvBlock(layers, below, width, kernel, middle_channels=middle, residual=settings.residual)
                for below, middle, width, kernel in zip(
                    (settings.in_channels, *widths[:-1]), channels, widths, kernels, strict=True
                )
            ]
        )
        self.dropout = nn.CellList(
            [
                Dropout(settings.dropout, seed=zlib.crc32(f"{seed} {level}".encode()), rank=layers.rank)
                if settings.dropout and level >= settings.depth - 2
                else nn.Identity()
                for level in range(settings.depth)
            ]
        )
        self.upsample = nn.CellList(
            [
                ActivatedUpsample(layers, below, above, stride, settings.upsample)
                if settings.upsample_activation
                else Upsample(layers, below, above, stride, settings.upsample, has_bias=not is_cicek)
                for below, above, stride in zip(widths[1:], upsampled, strides, strict=True)
            ]
        )
        self.gate = nn.CellList(
            [
                AttentionGate(layers, width, below, stride)
                for width, below, stride in zip(widths, widths[1:], strides, strict=False)
                if settings.attention
            ]
        )
        self.crop = nn.CellList([Crop(margin, layers.spatial_axes) for margin in _skip_margins(settings)])
        self.decoder = nn.CellList(
            [
                ConvBlock(on_the_way_up, width + above, width, kernel, residual=settings.residual)
                for width, above, kernel in zip(widths, upsampled, kernels, strict=False)
            ]
        )
        heads = [
            layers.convolution(widths[level], settings.num_classes, layers.ones, has_bias=True)
            for level in range(supervised_levels(settings))
        ]
        self.head = heads[0]
        self.coarse_heads = nn.CellList(heads[1:])  # of level 1 and on
        initialize(self, seed)

    def construct(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits from images."""
        x = self.enter(x)
        skips = ()
        pooled = ()
        for level in range(self.levels):
            x = self.dropout[level](self.encoder[level](x))
            skips = (*skips, x)
            x = self.pool[level](x)
            pooled = (*pooled, x)
        x = self.dropout[self.levels](self.encoder[self.levels](x))
        logits = ()
        for level in range(self.levels - 1, -1, -1):
            skip = self.crop[level](skips[level])
            if self.has_gates:
                skip = self.gate[level](skip, pooled[level], x)
            x = self.decoder[level](ops.cat((skip, self.upsample[level](x)), self.channel_axis))
            if self.training and 0 < level <= len(self.coarse_heads):
                logits = (self.leave(self.coarse_heads[level - 1](x)), *logits)
        finest = self.leave(self.head(x))
        return (finest, *logits) if logits else finest


def supervised_levels(settings: ModelSettings) -> int:
    """How many levels of the expanding path have logits of their own, from the finest on."""
    levels = settings.depth - 1
    if not settings.deep_supervision:
        return 1
    return levels - 1 if levels >= 3 else levels


def _skip_margins(settings: ModelSettings) -> list[int]:
    """Pixels that a skip has more than the upsampled features, at each end, the finest level first."""
    margins: list[int] = []
    lost = 2  # pixels a side that the bottom block eats
    for _ in range(settings.depth - 1):
        margins.insert(0, 2 * lost if settings.margin else 0)
        lost = 2 + 2 * lost + 2
    return margins
