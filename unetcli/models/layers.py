"""The layers that networks are made of: one set for images, two for volumes.

A block asks a `Layers` value for its convolutions, normalisations and poolings and never names one of
them itself, so that a network is written once and works on images and volumes, in either layout of memory.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalCall=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

import numpy as np
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from unetcli.models.synchronized import SynchronizedBatchNorm

Axes = tuple[int, ...]
ZEROS = {"weight_init": "zeros", "bias_init": "zeros"}


@dataclass(frozen=True, slots=True)
class Layers(ABC):
    """A set of layers. Weights and biases are 0 until `initialize` draws them.

    Sets on volumes have parameters of the same names and shapes, so that one checkpoint serves them all.

    Args:
        padded: Whether convolutions keep the size of their input, or eat one pixel a side where they are 3 wide.
        norm: What follows a convolution.
        activation: What follows that.
        rank: Number of this process among those that train together.
        num_ranks: How many there are; they normalise their batches as one.

    Attributes:
        ndim: Axes of an image or volume.
        is_for_cpu: Whether the set is for CPU alone.
        channel_axis: Where a tensor between two layers has its channels.
        planes: Its axes that join to each axis of images `(N, C, H, W)`.
        spatial_axes: Where it has its pixels, in the order Z, Y, X.
    """

    padded: bool
    norm: Literal["batch", "none"]
    activation: Literal["relu", "prelu"] = "relu"
    rank: int = 0
    num_ranks: int = 1

    ndim: ClassVar[int]
    is_for_cpu: ClassVar[bool] = False
    channel_axis: ClassVar[int] = 1
    planes: ClassVar[tuple[Axes, ...]]
    spatial_axes: ClassVar[Axes]

    @property
    def ones(self) -> Axes:
        """1 along every axis."""
        return (1,) * self.ndim

    @property
    def gain(self) -> float:
        """Variance that weights before an activation need (He et al. 2015, arXiv:1502.01852, equations 10 and 15)."""
        return 2.0 if self.activation == "relu" else 2 / (1 + 0.25**2)

    def activate(self) -> nn.Cell:
        """ReLU, or PReLU with one slope for all channels, 0.25 at first."""
        return nn.ReLU() if self.activation == "relu" else PReLU()

    def padding(self, kernel: Axes) -> Axes:
        """Zeros that a convolution adds at each end of each axis."""
        return tuple(size // 2 if self.padded else 0 for size in kernel)

    def enter(self) -> nn.Cell:
        """From `(N, C, *S)` to the layout between the layers."""
        return nn.Identity()

    def leave(self) -> nn.Cell:
        """Back from that layout."""
        return nn.Identity()

    def batch_norm(self, channels: int, alone: Callable[[int], nn.Cell]) -> nn.Cell:
        """Batch normalisation: `alone` for one process, and over the batches of all where there are several."""
        if self.num_ranks == 1:
            return alone(channels)
        return SynchronizedBatchNorm(channels, self.num_ranks, self.planes, fused=self.is_for_cpu)

    @abstractmethod
    def convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | None = None, has_bias: bool
    ) -> nn.Cell:
        """A convolution, with stride 1 if `stride` is None."""

    @abstractmethod
    def normalization(self, channels: int) -> nn.Cell:
        """What keeps the scale of `channels` in hand."""

    @abstractmethod
    def pooling(self, stride: Axes) -> nn.Cell:
        """Reduces the size by the largest of `stride` values."""

    @abstractmethod
    def up_convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes, has_bias: bool
    ) -> nn.Cell:
        """A transposed convolution whose output has `stride` times the size of its input."""

    @abstractmethod
    def upsampling(self, channels: int, kernels: Sequence[NDArray[np.float64]], *, stride: Axes, edge: Axes) -> nn.Cell:
        """Enlarges each channel by the same fixed weights.

        Args:
            channels: How many there are.
            kernels: Weights along each axis.
            stride: Factor along each axis.
            edge: Pixels by which the input has been lengthened at each end of each axis; they are not in the output.
        """


class ImageLayers(Layers):
    """The layers of networks on images `(N, C, H, W)`."""

    ndim = 2
    planes = ((0,), (1,), (2,), (3,))
    spatial_axes = (2, 3)

    def convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | None = None, has_bias: bool
    ) -> nn.Cell:
        """MindSpore's own."""
        pad = both_ends(self.padding(kernel))
        stride = stride or self.ones
        return nn.Conv2d(in_channels, out_channels, kernel, stride, "pad", pad, has_bias=has_bias, **ZEROS)

    def normalization(self, channels: int) -> nn.Cell:
        """Batch normalisation, or nothing."""
        return self.batch_norm(channels, nn.BatchNorm2d) if self.norm == "batch" else nn.Identity()

    def pooling(self, stride: Axes) -> nn.Cell:
        """MindSpore's own."""
        return nn.MaxPool2d(stride, stride) if max(stride) > 1 else nn.Identity()

    def up_convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes, has_bias: bool
    ) -> nn.Cell:
        """Without MindSpore's output padding, which puts 0 where the last row and column belong."""
        pad = transposed_padding(kernel, stride)
        return nn.Conv2dTranspose(in_channels, out_channels, kernel, stride, "pad", pad, has_bias=has_bias, **ZEROS)

    def upsampling(self, channels: int, kernels: Sequence[NDArray[np.float64]], *, stride: Axes, edge: Axes) -> nn.Cell:
        """A transposed convolution of each channel; its weights are in the checkpoint, though they never change."""
        weight = outer(kernels)
        pad = transposed_padding(weight.shape, stride, edge)
        weight = Tensor(np.repeat(weight[None, None], channels, 0))
        size = weight.shape[2:]
        layer = nn.Conv2dTranspose(channels, channels, size, stride, "pad", pad, group=channels, weight_init=weight)
        layer.weight.requires_grad = False
        return layer


@dataclass(frozen=True, slots=True)
class VolumeLayers(Layers):
    """The layers of networks on volumes `(N, C, D, H, W)`: MindSpore's own, for every device and for export.

    Args:
        padded: As in `Layers`.
        norm: As in `Layers`.
        activation: As in `Layers`.
        rank: As in `Layers`.
        num_ranks: As in `Layers`.
        frozen: Whether batch normalisation is a scale and a shift, for files that take volumes of any size.
    """

    frozen: bool = False

    ndim = 3
    planes = ((0,), (1,), (2, 3), (4,))
    spatial_axes = (2, 3, 4)

    def convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | None = None, has_bias: bool
    ) -> nn.Cell:
        """MindSpore's own."""
        pad = both_ends(self.padding(kernel))
        stride = stride or self.ones
        return nn.Conv3d(in_channels, out_channels, kernel, stride, "pad", pad, has_bias=has_bias, **ZEROS)

    def normalization(self, channels: int) -> nn.Cell:
        """Batch normalisation over N and all of the volume, or nothing."""
        if self.norm == "none":
            return nn.Identity()
        return self.batch_norm(channels, FrozenBatchNorm if self.frozen else VolumeBatchNorm)

    def pooling(self, stride: Axes) -> nn.Cell:
        """MindSpore's own."""
        return nn.MaxPool3d(stride, stride) if max(stride) > 1 else nn.Identity()

    def up_convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes, has_bias: bool
    ) -> nn.Cell:
        """MindSpore's own."""
        pad = transposed_padding(kernel, stride)
        return nn.Conv3dTranspose(in_channels, out_channels, kernel, stride, "pad", pad, has_bias=has_bias, **ZEROS)

    def upsampling(self, channels: int, kernels: Sequence[NDArray[np.float64]], *, stride: Axes, edge: Axes) -> nn.Cell:
        """A transposed convolution that mixes no channels."""
        return VolumeUpsampling(channels, kernels, stride, edge)


class PReLU(nn.PReLU):
    """One slope for all negative values (He et al. 2015, arXiv:1502.01852, equation 1).

    MindSpore's own takes almost twice as long on CPU.
    """

    def construct(self, x: Tensor) -> Tensor:
        """`x` where it is positive, else the slope times it."""
        positive = ops.relu(x)
        return positive + self.w * (x - positive)


class VolumeBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of `(N, C, D, H, W)`; MindSpore's own has other names for its parameters."""

    def construct(self, x: Tensor) -> Tensor:
        """As for an image of `D * H` rows."""
        batch, channels, depth, height, width = x.shape
        return super().construct(x.reshape(batch, channels, depth * height, width)).reshape(x.shape)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the running statistics, with the parameters of `VolumeBatchNorm`, for export.

    It leaves the shape of its input alone: a reshape would be written with the numbers of the example, and the
    file would then give a wrong shape for others.
    """

    def construct(self, x: Tensor) -> Tensor:
        """One scale and one shift per channel."""
        scale = self.gamma / ops.sqrt(self.moving_variance + self.eps)
        shift = self.beta - self.moving_mean * scale
        shape = (1, self.num_features, 1, 1, 1)
        return x * scale.reshape(shape) + shift.reshape(shape)


class VolumeUpsampling(nn.Cell):
    """Fixed upsampling of volumes: a transposed convolution with weights on the diagonal of the channels.

    MindSpore has no 3D convolution of each channel by itself on CPU.

    Args:
        channels: C.
        kernels: Weights along each axis.
        stride: Factor along each axis.
        edge: Pixels by which the input has been lengthened at each end.

    Inputs:
        x: `(N, C, *(S + 2 edge))` float.

    Outputs:
        `(N, C, *(stride S))`.
    """

    def __init__(self, channels: int, kernels: Sequence[NDArray[np.float64]], stride: Axes, edge: Axes) -> None:
        super().__init__()
        kernel = outer(kernels)
        self.weight = Tensor(np.eye(channels, dtype=np.float32)[:, :, None, None, None] * kernel)
        self.enlarge = ops.Conv3DTranspose(
            channels,
            channels,
            kernel.shape,
            pad_mode="pad",
            pad=transposed_padding(kernel.shape, stride, edge),
            stride=stride,
        )

    def construct(self, x: Tensor) -> Tensor:
        """The larger volume."""
        return self.enlarge(x, self.weight)


def both_ends(padding: Axes) -> Axes:
    """What is added at each end of each axis, as MindSpore wants it: before and after, axis by axis."""
    return tuple(number for number in padding for _ in range(2))


def transposed_padding(kernel: Sequence[int], stride: Axes, edge: Axes | None = None) -> Axes:
    """What a transposed convolution leaves out before and after each axis for an output of `stride` times the size.

    A kernel of 3 with stride 2 leaves out one pixel before and none after, which PyTorch spells padding 1 and
    output padding 1.

    Args:
        kernel: Size along each axis.
        stride: Along each axis.
        edge: Pixels by which the input has been lengthened at each end.
    """
    edge = edge or (0,) * len(stride)
    ends = (
        (step * extra + (size - step + 1) // 2, step * extra + (size - step) // 2)
        for size, step, extra in zip(kernel, stride, edge, strict=True)
    )
    return tuple(number for pair in ends for number in pair)


def outer(kernels: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Weights of all axes from the weights along each."""
    return np.ascontiguousarray(reduce(np.multiply.outer, kernels), np.float32)
