"""What the networks are put together from, whatever the layers."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

import zlib
from typing import Literal

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from unetcli.models.layers import Axes, Layers
from unetcli.models.slices import SliceConvolution, SliceUpConvolution

# A slice that ends here ends at the end of the axis, whatever its length. An open end would be exported
# to ONNX as the length of the example.
_END = 2**31 - 1
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, SliceConvolution)
_UP_CONVOLUTIONS = (nn.Conv2dTranspose, nn.Conv3dTranspose, SliceUpConvolution)


class Block(nn.Cell):
    """A part of a network that has activations.

    Args:
        layers: Where the layers come from.
    """

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.gain = layers.gain

    def activated(self) -> tuple[nn.Cell, ...]:
        """The convolutions before its activations."""
        raise NotImplementedError


class ConvBlock(Block):
    """Two convolutions, each followed by normalisation and activation.

    The unit of Ronneberger et al. 2015 (arXiv:1505.04597), figure 1, with kernels of 3. With `residual`, a
    1x1 convolution of the input is added to the result, after the last activation. Convolutions have a bias
    unless a normalisation takes it out again.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel: Size of both convolutions.
        middle_channels: Channels between the two; those of the output if None.
        residual: Whether to add the input.

    Inputs:
        x: `(N, in_channels, *S)` float, in the layout of the layers.

    Outputs:
        `(N, out_channels, *S)`, or 4 pixels less along each axis where convolutions are not padded.
    """

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        kernel: Axes,
        *,
        middle_channels: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__(layers)
        has_bias = layers.norm == "none"
        middle = middle_channels or out_channels
        self.conv1 = layers.convolution(in_channels, middle, kernel, has_bias=has_bias)
        self.norm1 = layers.normalization(middle)
        self.act1 = layers.activate()
        self.conv2 = layers.convolution(middle, out_channels, kernel, has_bias=has_bias)
        self.norm2 = layers.normalization(out_channels)
        self.act2 = layers.activate()
        self.residual = residual
        if residual:
            self.shortcut = layers.convolution(in_channels, out_channels, layers.ones, has_bias=has_bias)
            self.crop = Crop(0 if layers.padded else 2, layers.spatial_axes)

    def activated(self) -> tuple[nn.Cell, ...]:
        """Both."""
        return self.conv1, self.conv2

    def construct(self, x: Tensor) -> Tensor:
        """Two convolutions, and the input again with `residual`."""
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.act2(self.norm2(self.conv2(y)))
        if self.residual:
            y = y + self.crop(self.shortcut(x))
        return y


class Upsample(Block):
    """Enlarges and changes the number of channels.

    'transposed' is the up-convolution of Ronneberger et al. 2015, section 2, with a kernel as large as its stride.
    'bilinear' and 'nearest' are a 1x1 convolution and fixed weights, as in the UNet++ of MindSpore's model zoo with
    use_deconv False; the convolution goes first, at a quarter of the cost or less, since the two can change
    places: the weights of every output pixel add up to 1. Bilinear interpolation, trilinear in volumes, has
    pixels as areas ("half pixel", align_corners False) and repeats the edge. It is a transposed convolution here
    because that, unlike MindSpore's own interpolation, can be exported for images of any size.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Factor along each axis, 1 or 2.
        method: How the size grows.
        has_bias: Whether the up-convolution has a bias.

    Inputs:
        x: `(N, in_channels, *S)` float, in the layout of the layers.

    Outputs:
        `(N, out_channels, *(stride S))`.
    """

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        stride: Axes,
        method: Literal["transposed", "bilinear", "nearest"],
        *,
        has_bias: bool = True,
    ) -> None:
        super().__init__(layers)
        self.repeated_axes: Axes = ()
        if method == "transposed":
            self.mix = nn.Identity()
            self.double = layers.up_convolution(in_channels, out_channels, stride, stride=stride, has_bias=has_bias)
        else:
            self.mix = layers.convolution(in_channels, out_channels, layers.ones, has_bias=True)
            self.double, self.repeated_axes = _interpolation(layers, out_channels, stride, method)

    def activated(self) -> tuple[nn.Cell, ...]:
        """None."""
        return ()

    def construct(self, x: Tensor) -> Tensor:
        """`stride` times the size, `out_channels` channels."""
        return self.double(_with_edges(self.mix(x), self.repeated_axes))


class ActivatedUpsample(Upsample):
    """The same with an activation behind it, as in the unet_medical of MindSpore's model zoo."""

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        stride: Axes,
        method: Literal["transposed", "bilinear", "nearest"],
    ) -> None:
        super().__init__(layers, in_channels, out_channels, stride, method)
        self.act = layers.activate()

    def activated(self) -> tuple[nn.Cell, ...]:
        """The one that learns."""
        return (self.mix if isinstance(self.mix, _CONVOLUTIONS) else self.double,)

    def construct(self, x: Tensor) -> Tensor:
        """`stride` times the size, `out_channels` channels."""
        return self.act(super().construct(x))


class AttentionGate(nn.Cell):
    """Weighs the pixels of a skip by what the coarser level makes of them.

    The additive gate of Oktay et al. 2018 (arXiv:1804.03999), equations 1 and 2. Its two inputs meet at the coarser
    resolution, to which the network's own max pooling brings the skip, each through a 1x1 convolution to half of the
    skip's channels. The sum goes through ReLU, a 1x1 convolution to one channel and a sigmoid, and is brought to the
    skip's size by linear interpolation.

    Args:
        layers: Where the layers come from.
        skip_channels: Channels of the skip.
        gate_channels: Channels of the coarser features.
        stride: From the skip's resolution to the coarser one, along each axis.

    Inputs:
        skip: `(N, skip_channels, *(stride S))` float, in the layout of the layers.
        pooled: The same at the coarser resolution, `(N, skip_channels, *S)`.
        gate: The coarser features `(N, gate_channels, *S)`.

    Outputs:
        The skip, each pixel multiplied by a number in (0, 1).
    """

    def __init__(self, layers: Layers, skip_channels: int, gate_channels: int, stride: Axes) -> None:
        super().__init__()
        middle = max(skip_channels // 2, 1)
        self.of_skip = layers.convolution(skip_channels, middle, layers.ones, has_bias=False)
        self.of_gate = layers.convolution(gate_channels, middle, layers.ones, has_bias=True)
        self.act = nn.ReLU()
        self.psi = layers.convolution(middle, 1, layers.ones, has_bias=True)
        self.sigmoid = nn.Sigmoid()
        self.double, self.repeated_axes = _interpolation(layers, 1, stride, "bilinear")

    def construct(self, skip: Tensor, pooled: Tensor, gate: Tensor) -> Tensor:
        """The weighed skip."""
        share = self.sigmoid(self.psi(self.act(self.of_skip(pooled) + self.of_gate(gate))))
        return skip * self.double(_with_edges(share, self.repeated_axes))


class Crop(nn.Cell):
    """Cuts pixels off both ends of every spatial axis, one axis at a time: several at once are slow on CPU.

    Args:
        margin: Pixels cut off each end.
        axes: The spatial axes.

    Inputs:
        x: `(N, C, *S)`, in any layout.

    Outputs:
        `(N, C, *(S - 2 margin))`.
    """

    def __init__(self, margin: int, axes: Axes) -> None:
        super().__init__()
        self.margin = margin
        self.axes = axes

    def construct(self, x: Tensor) -> Tensor:
        """The middle."""
        if self.margin:
            for axis in self.axes:
                x = _span(x, axis, self.margin, -self.margin)
        return x


class Dropout(nn.Cell):
    """Dropout whose mask is a pure function of a seed and the number of training calls.

    MindSpore's own keeps a random state that no checkpoint holds, so that a run cannot be resumed exactly.
    Here a counter is saved with the weights, and the mask is a hash of the seed, the counter and each
    value's place in the batch. Values that stay are divided by their share (inverted scaling, Srivastava et
    al. 2014, section 10). Outside training it is the identity.

    Args:
        rate: Share of values set to 0, in (0, 1).
        seed: Any integer; cells with different seeds drop independently.
        rank: Number of this process among those that train together, whose batches follow each other.

    Inputs:
        x: Float, of any shape.

    Outputs:
        The same shape.
    """

    def __init__(self, rate: float, *, seed: int, rank: int = 0) -> None:
        super().__init__()
        self.rank = rank
        self.scale = 1 / (1 - rate)
        # a hash is uniform over the integers of 32 bits
        self.first_kept = min(round(rate * 2**32), 2**32 - 1) - 2**31
        self.key = Tensor(np.random.SeedSequence(seed).generate_state(2).view(np.int32))
        self.calls = Parameter(Tensor(0, mindspore.int32), name="calls", requires_grad=False)

    def construct(self, x: Tensor) -> Tensor:
        """Some values set to 0 while training, else `x`."""
        if not self.training:
            return x
        key = _mix(_mix(ops.assign_add(self.calls, 1) + self.key[:1]) ^ self.key)
        first = self.rank * x.size
        place = ops.arange(first, first + x.size).astype(mindspore.int32)
        hashed = _mix(_mix(place ^ key[:1]) + key[1:])
        kept = (hashed >= self.first_kept).astype(x.dtype).reshape(x.shape)
        return x * ops.stop_gradient(kept * self.scale)


def initialize(network: nn.Cell, seed: int) -> None:
    """Draw the weights of all convolutions from N(0, gain / fan_in), each from its own stream; biases stay 0.

    The gain is 2 before a ReLU and 1.88 before a PReLU of slope 0.25 (He et al. 2015, arXiv:1502.01852, equations 10
    and 15; Ronneberger et al. 2015, section 3), and 1 where none follows (He et al., section 2.2).
    A stream is seeded by `seed` and the parameter's name, so the weights depend on nothing else.

    Args:
        network: Built from `Layers`; changed in place.
        seed: Of all weights.
    """
    cells = [cell for _, cell in network.cells_and_names()]
    gains = {conv.weight.name: cell.gain for cell in cells if isinstance(cell, Block) for conv in cell.activated()}
    for cell in cells:
        weight = getattr(cell, "weight", None)
        if not isinstance(cell, _CONVOLUTIONS + _UP_CONVOLUTIONS) or not weight.requires_grad:
            continue
        fan_in = int(np.prod(weight.shape[1:]))
        if isinstance(cell, _UP_CONVOLUTIONS):
            # each output pixel meets this many of the weights, on average
            fan_in = weight.shape[0] * int(np.prod(weight.shape[2:])) / int(np.prod(cell.stride))
        rng = np.random.default_rng([seed, zlib.crc32(weight.name.encode())])
        deviation = np.float32(np.sqrt(gains.get(weight.name, 1) / fan_in))
        weight.set_data(Tensor(rng.standard_normal(weight.shape, dtype=np.float32) * deviation))


def _interpolation(
    layers: Layers, channels: int, stride: Axes, method: Literal["bilinear", "nearest"]
) -> tuple[nn.Cell, Axes]:
    """What enlarges each channel by fixed weights, and the axes along which it wants the edge repeated."""
    doubling = {"bilinear": np.array([0.25, 0.75, 0.75, 0.25]), "nearest": np.ones(2)}[method]
    edge = tuple(int(method == "bilinear" and step == 2) for step in stride)
    kernels = [doubling if step == 2 else np.ones(1) for step in stride]
    axes = tuple(axis for axis, extra in zip(layers.spatial_axes, edge, strict=True) if extra)
    return layers.upsampling(channels, kernels, stride=stride, edge=edge), axes


def _with_edges(x: Tensor, axes: Axes) -> Tensor:
    """With the first and the last pixel along each axis repeated."""
    for axis in axes:
        x = ops.cat((_span(x, axis, 0, 1), x, _span(x, axis, -1, _END)), axis)
    return x


def _span(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _mix(x: Tensor) -> Tensor:
    """A permutation of the int32 in which each bit of the input flips about half the bits of the output.

    Multiply and xor-shift, with the constants that C. Wellons found by search (lowbias32, 2018, public domain).
    """
    x = x ^ (ops.bitwise_right_shift(x, 16) & 0xFFFF)
    x = x * 0x7FEB352D
    x = x ^ (ops.bitwise_right_shift(x, 15) & 0x1FFFF)
    x = x * (0x846CA68B - 2**32)
    return x ^ (ops.bitwise_right_shift(x, 16) & 0xFFFF)
