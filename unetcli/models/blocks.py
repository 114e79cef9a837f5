"""What the networks are made of.

A block asks a `Layers` value for its convolutions, normalisations and poolings and never names one of
them itself, so that networks on volumes need other layers but no other blocks.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import mindspore
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

# A slice that ends here ends at the end of the axis, whatever its length. An open end would be exported
# to ONNX as the length of the example.
_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a network on images. Weights and biases are 0 until `initialize` draws them.

    Args:
        padded: Whether 3x3 convolutions keep the size of their input, or eat one pixel a side.
        norm: What follows a 3x3 convolution.
    """

    padded: bool
    norm: Literal["batch", "none"]

    def convolution(self, in_channels: int, out_channels: int, size: int, *, has_bias: bool) -> nn.Cell:
        """A convolution with stride 1."""
        return nn.Conv2d(
            in_channels,
            out_channels,
            size,
            pad_mode="pad",
            padding=size // 2 if self.padded else 0,
            has_bias=has_bias,
            weight_init="zeros",
            bias_init="zeros",
        )

    def normalization(self, channels: int) -> nn.Cell:
        """What keeps the scale of `channels` in hand."""
        return nn.BatchNorm2d(channels) if self.norm == "batch" else nn.Identity()

    def pooling(self) -> nn.Cell:
        """Halves the size by the largest of 2x2 values."""
        return nn.MaxPool2d(kernel_size=2, stride=2)

    def up_convolution(self, in_channels: int, out_channels: int) -> nn.Cell:
        """Doubles the size by a transposed convolution with 2x2 weights and stride 2."""
        return nn.Conv2dTranspose(
            in_channels,
            out_channels,
            2,
            stride=2,
            pad_mode="pad",
            has_bias=True,
            weight_init="zeros",
            bias_init="zeros",
        )

    def upsampling(self, channels: int, kernel: NDArray[np.float64]) -> nn.Cell:
        """Doubles the size of each channel by the same fixed weights.

        Args:
            channels: How many there are.
            kernel: Weights along an axis: 2 of them, or 4 for an input that repeats its edge by one pixel.
        """
        weight = np.broadcast_to(np.outer(kernel, kernel), (channels, 1, len(kernel), len(kernel)))
        layer = nn.Conv2dTranspose(
            channels,
            channels,
            len(kernel),
            stride=2,
            pad_mode="pad",
            padding=3 * (len(kernel) // 2 - 1),
            group=channels,
            weight_init=Tensor(np.ascontiguousarray(weight, np.float32)),
        )
        layer.weight.requires_grad = False
        return layer


class ConvBlock(nn.Cell):
    """Two 3x3 convolutions, each followed by normalisation and ReLU.

    The unit of Ronneberger et al. 2015 (arXiv:1505.04597), figure 1. With `residual`, a 1x1 convolution of
    the input is added to the result, after the last ReLU. Convolutions have a bias unless a normalisation
    takes it out again.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of both convolutions.
        residual: Whether to add the input.

    Inputs:
        x: `(N, in_channels, *S)` float.

    Outputs:
        `(N, out_channels, *S)`, or 4 pixels less along each axis where convolutions are not padded.
    """

    def __init__(self, layers: Layers, in_channels: int, out_channels: int, *, residual: bool) -> None:
        super().__init__()
        has_bias = layers.norm == "none"
        self.conv1 = layers.convolution(in_channels, out_channels, 3, has_bias=has_bias)
        self.norm1 = layers.normalization(out_channels)
        self.conv2 = layers.convolution(out_channels, out_channels, 3, has_bias=has_bias)
        self.norm2 = layers.normalization(out_channels)
        self.act = nn.ReLU()
        self.residual = residual
        if residual:
            self.shortcut = layers.convolution(in_channels, out_channels, 1, has_bias=has_bias)
            self.crop = Crop(0 if layers.padded else 2)

    def construct(self, x: Tensor) -> Tensor:
        """Two convolutions, and the input again with `residual`."""
        y = self.act(self.norm1(self.conv1(x)))
        y = self.act(self.norm2(self.conv2(y)))
        if self.residual:
            y = y + self.crop(self.shortcut(x))
        return y


class Upsample(nn.Cell):
    """Doubles the size and changes the number of channels.

    'transposed' is the 2x2 up-convolution of Ronneberger et al. 2015, section 2. 'bilinear' and 'nearest'
    are a 1x1 convolution and fixed weights, as in the UNet++ of MindSpore's model zoo with use_deconv False;
    the convolution goes first, at a quarter of the cost, since the two can change places: the weights of
    every output pixel add up to 1. Bilinear interpolation has pixels as areas ("half pixel",
    align_corners False) and repeats the edge. It is a transposed convolution here because that, unlike
    MindSpore's own interpolation, can be exported for images of any size.

    Args:
        layers: Where the layers come from.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        method: How the size is doubled.

    Inputs:
        x: `(N, in_channels, *S)` float.

    Outputs:
        `(N, out_channels, *2S)`.
    """

    def __init__(
        self,
        layers: Layers,
        in_channels: int,
        out_channels: int,
        method: Literal["transposed", "bilinear", "nearest"],
    ) -> None:
        super().__init__()
        if method == "transposed":
            self.mix = nn.Identity()
            self.double = layers.up_convolution(in_channels, out_channels)
        else:
            kernel = {"bilinear": np.array([0.25, 0.75, 0.75, 0.25]), "nearest": np.ones(2)}[method]
            self.mix = layers.convolution(in_channels, out_channels, 1, has_bias=True)
            self.double = layers.upsampling(out_channels, kernel)
        self.repeats_edge = method == "bilinear"

    def construct(self, x: Tensor) -> Tensor:
        """Twice the size, `out_channels` channels."""
        x = self.mix(x)
        if self.repeats_edge:
            for axis in range(2, x.ndim):
                x = ops.cat((_span(x, axis, 0, 1), x, _span(x, axis, -1, _END)), axis)
        return self.double(x)


class Crop(nn.Cell):
    """Cuts pixels off both ends of every spatial axis, one axis at a time: several at once are slow on CPU.

    Args:
        margin: Pixels cut off each end.

    Inputs:
        x: `(N, C, *S)`.

    Outputs:
        `(N, C, *(S - 2 margin))`.
    """

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def construct(self, x: Tensor) -> Tensor:
        """The middle."""
        if self.margin:
            for axis in range(2, x.ndim):
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

    Inputs:
        x: Float, of any shape.

    Outputs:
        The same shape.
    """

    def __init__(self, rate: float, *, seed: int) -> None:
        super().__init__()
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
        place = ops.arange(x.size).astype(mindspore.int32)
        hashed = _mix(_mix(place ^ key[:1]) + key[1:])
        kept = (hashed >= self.first_kept).astype(x.dtype).reshape(x.shape)
        return x * ops.stop_gradient(kept * self.scale)


def initialize(network: nn.Cell, seed: int) -> None:
    """Draw the weights of all convolutions from N(0, gain / fan_in), each from its own stream; biases stay 0.

    The gain is 2 before a ReLU (He et al. 2015, arXiv:1502.01852, equation 10; Ronneberger et al. 2015,
    section 3) and 1 where none follows (He et al., section 2.2): 1x1 convolutions and up-convolutions.
    A stream is seeded by `seed` and the parameter's name, so the weights depend on nothing else.

    Args:
        network: Built from `Layers`; changed in place.
        seed: Of all weights.
    """
    cells = [cell for _, cell in network.cells_and_names()]
    before_relu = {
        conv.weight.name for cell in cells if isinstance(cell, ConvBlock) for conv in (cell.conv1, cell.conv2)
    }
    for cell in cells:
        if not isinstance(cell, nn.Conv2d | nn.Conv2dTranspose) or not cell.weight.requires_grad:
            continue
        weight = cell.weight
        # each output pixel of an up-convolution meets one of its 2x2 weights
        fan_in = weight.shape[0] if isinstance(cell, nn.Conv2dTranspose) else int(np.prod(weight.shape[1:]))
        gain = 2 if weight.name in before_relu else 1
        rng = np.random.default_rng([seed, zlib.crc32(weight.name.encode())])
        values = rng.standard_normal(weight.shape, dtype=np.float32) * np.float32(np.sqrt(gain / fan_in))
        weight.set_data(Tensor(values))


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
