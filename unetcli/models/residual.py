"""The residual U-Net of strided levels."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalOperand=false, reportReturnType=false
# pyright: reportOperatorIssue=false, reportArgumentType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from mindspore import Tensor, nn, ops

from unetcli.config import ModelSettings
from unetcli.models.blocks import Block, initialize
from unetcli.models.layers import Axes, Layers


class ResidualUnit(Block):
    """Two convolutions, the first with a stride, each with normalisation and activation, and one more beside them.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Size of the two convolutions.
        stride: Of the first, and of the one beside, which has the same kernel where it strides and is of channels alone
            where not.

    Inputs:
        x: `(N, in_channels, *S)` float, in the layout of the layers.

    Outputs:
        `(N, out_channels, *(S / stride))`.
    """

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, kernel: Axes, stride: Axes) -> None:
        super().__init__(layers)
        has_bias = layers.norm == "none"
        strided = striding(kernel, stride)
        beside = strided if max(stride) > 1 else layers.ones
        self.conv1 = layers.convolution(in_channels, out_channels, strided, stride=stride, has_bias=has_bias)
        self.norm1 = layers.normalization(out_channels)
        self.act1 = layers.activate()
        self.conv2 = layers.convolution(out_channels, out_channels, kernel, has_bias=has_bias)
        self.norm2 = layers.normalization(out_channels)
        self.act2 = layers.activate()
        self.shortcut = layers.convolution(in_channels, out_channels, beside, stride=stride, has_bias=has_bias)

    def activated(self) -> tuple[nn.Cell, ...]:
        """Both on the main way."""
        return self.conv1, self.conv2

    def construct(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        y = self.act1(self.norm1(self.conv1(x)))
        return self.act2(self.norm2(self.conv2(y))) + self.shortcut(x)


class UpUnit(Block):
    """A transposed convolution and a convolution whose input is added to its output, both with norm and activation.

    The last of a network gives logits: its convolution has neither, and its input is not added.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Size of the convolutions.
        stride: Of the transposed one.
        is_last: Whether the output is logits.

    Inputs:
        x: `(N, in_channels, *S)` float, in the layout of the layers.

    Outputs:
        `(N, out_channels, *(stride S))`.
    """

    def __init__(
        self, layers: Layers, in_channels: int, out_channels: int, kernel: Axes, stride: Axes, *, is_last: bool
    ) -> None:
        super().__init__(layers)
        has_bias = layers.norm == "none"
        self.up = layers.up_convolution(
            in_channels, out_channels, striding(kernel, stride), stride=stride, has_bias=has_bias
        )
        self.norm1 = layers.normalization(out_channels)
        self.act1 = layers.activate()
        self.conv = layers.convolution(out_channels, out_channels, kernel, has_bias=has_bias)
        self.is_last = is_last
        if not is_last:
            self.norm2 = layers.normalization(out_channels)
            self.act2 = layers.activate()

    def activated(self) -> tuple[nn.Cell, ...]:
        """All but the one that gives logits."""
        return (self.up,) if self.is_last else (self.up, self.conv)

    def construct(self, x: Tensor) -> Tensor:
        """The larger features, or logits."""
        x = self.act1(self.norm1(self.up(x)))
        y = self.conv(x)
        return y if self.is_last else self.act2(self.norm2(y)) + x


class ResidualUNet(nn.Cell):
    """A U-Net of residual units that stride instead of pooling.

    The 'Unet3d' of MindSpore's model zoo (research/cv), after MONAI's `UNet` with channels 16 to 256, strides of 2
    and two residual units a level (Kerfoot et al. 2019, "Left-ventricle quantification using residual U-Net").
    Each level of the contracting path strides as it begins, the last one not, so the finest skip has half of the
    input's resolution. Back, features and skip are put together, and go through a transposed convolution that
    enlarges them and one convolution more. Activations are PReLU, whatever `activation` says.

    No convolution has a bias where norm is 'batch', as in the zoo's, though two have no normalisation behind
    them: that beside a unit, and the last. The zoo's differs in its first weights, which are uniform, and in
    float16 on Ascend. MONAI has biases everywhere, puts the skip before the enlarged features, and adds the input
    of the last unit to the logits. Where a kernel is 1 along an axis that strides, the convolution that strides
    has 3 there, so as not to lose every second plane.

    Args:
        settings: With `in_channels` and `num_classes` set.
        layers: Where the layers come from, padded.
        seed: Of the weights.

    Inputs:
        x: `(N, C, *S)` float32; `settings.check_size` says which sizes fit.

    Outputs:
        `(N, K, *S)` logits.
    """

    def __init__(self, settings: ModelSettings, layers: Layers, *, seed: int) -> None:
        super().__init__()
        channels, kernels, strides = settings.channels, settings.level_kernels, settings.level_strides
        self.levels = len(strides)
        self.channel_axis = layers.channel_axis
        self.enter = layers.enter()
        self.leave = layers.leave()
        self.encoder = nn.CellList(
            [
                ResidualUnit(layers, below, above, kernel, stride)
                for below, above, kernel, stride in zip(
                    (settings.in_channels, *channels[:-1]), channels, kernels, (*strides, layers.ones), strict=True
                )
            ]
        )
        # each takes what the level below gives, and a skip of its own level
        below = (*channels[: self.levels - 1], channels[-1])
        above = (settings.num_classes, *channels[: self.levels - 1])
        self.decoder = nn.CellList(
            [
                UpUnit(
                    layers,
                    below[level] + channels[level],
                    above[level],
                    kernels[level],
                    strides[level],
                    is_last=level == 0,
                )
                for level in range(self.levels)
            ]
        )
        initialize(self, seed)

    def construct(self, x: Tensor) -> Tensor:
        """Logits from images."""
        x = self.enter(x)
        skips = ()
        for level in range(self.levels):
            x = self.encoder[level](x)
            skips = (*skips, x)
        x = self.encoder[self.levels](x)
        for level in range(self.levels - 1, -1, -1):
            x = self.decoder[level](ops.cat((x, skips[level]), self.channel_axis))
        return self.leave(x)


def striding(kernel: Axes, stride: Axes) -> Axes:
    """The kernel, 3 along every axis that strides."""
    return tuple(3 if step > 1 else size for size, step in zip(kernel, stride, strict=True))
