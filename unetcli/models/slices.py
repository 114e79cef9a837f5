"""Layers on volumes that are fast on CPU, because they convolve planes.

MindSpore's 3D convolution is slow on CPU, since oneDNN has no fast algorithm for its layout of memory; its 2D
convolution is not. So a volume is kept here as planes, `(N, D, C, H, W)`: they all go through one 2D convolution
with the weights of all depths at once, and what comes out is added up, each part shifted along the depth. The
result is that of `VolumeLayers`.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

from unetcli.models.layers import Axes, Layers, both_ends, outer, transposed_padding
from unetcli.models.planes import PlaneConvolution

# up to so many channels it is faster to put three planes together than to take three results apart
_FEW_CHANNELS = 4


class SliceLayers(Layers):
    """The layers of networks on volumes, kept as planes `(N, D, C, H, W)`."""

    ndim = 3
    is_for_cpu = True
    channel_axis = 2
    planes = ((0, 1), (2,), (3,), (4,))
    spatial_axes = (1, 3, 4)

    def enter(self) -> nn.Cell:
        """From `(N, C, D, H, W)`."""
        return SwapChannelsAndDepth()

    def leave(self) -> nn.Cell:
        """Back to `(N, C, D, H, W)`."""
        return SwapChannelsAndDepth()

    def convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | None = None, has_bias: bool
    ) -> nn.Cell:
        """A convolution of planes."""
        shape = (out_channels, in_channels, *kernel)
        return SliceConvolution(shape, stride=stride or self.ones, padding=self.padding(kernel), has_bias=has_bias)

    def normalization(self, channels: int) -> nn.Cell:
        """Batch normalisation of all planes together, or nothing."""
        return self.batch_norm(channels, SliceBatchNorm) if self.norm == "batch" else nn.Identity()

    def pooling(self, stride: Axes) -> nn.Cell:
        """Along the depth first."""
        return SlicePooling(stride) if max(stride) > 1 else nn.Identity()

    def up_convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes, has_bias: bool
    ) -> nn.Cell:
        """A transposed convolution of planes."""
        return SliceUpConvolution((in_channels, out_channels, *kernel), stride=stride, has_bias=has_bias)

    def upsampling(self, channels: int, kernels: Sequence[NDArray[np.float64]], *, stride: Axes, edge: Axes) -> nn.Cell:
        """A transposed convolution of each channel's planes, weighed along the depth."""
        return SliceUpsampling(channels, kernels, stride, edge)


class SwapChannelsAndDepth(nn.Cell):
    """From `(N, C, D, H, W)` to `(N, D, C, H, W)`, or back."""

    def construct(self, x: Tensor) -> Tensor:
        """The other layout."""
        return ops.transpose(x, (0, 2, 1, 3, 4))


class SliceConvolution(nn.Cell):
    """A 3D convolution as a 2D one of all planes, to as many results as there are weights along the depth.

    With a depth stride of 2, even and odd planes are convolved apart, each with the weights it needs alone.

    Args:
        shape: Of the weights, `(O, I, kD, kH, kW)`.
        stride: Along each axis; the depth of an input must be a multiple of the depth stride.
        padding: Zeros at each end of each axis.
        has_bias: Whether a bias is added.

    Inputs:
        x: `(N, D, I, H, W)` float.

    Outputs:
        `(N, D', O, H', W')`.
    """

    def __init__(self, shape: Axes, *, stride: Axes, padding: Axes, has_bias: bool) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.zeros(shape, np.float32)))
        self.bias = Parameter(Tensor(np.zeros(shape[0], np.float32))) if has_bias else None
        self.out_channels, in_channels, self.size = shape[:3]
        self.stride, self.padding = stride[0], padding[0]
        self.taps = depth_taps(self.size, self.stride, self.padding)
        self.gathers = in_channels <= _FEW_CHANNELS
        inputs = in_channels * self.size if self.gathers else in_channels
        results = [1] if self.gathers else [len(taps) for taps in self.taps]
        self.convolve = nn.CellList(
            [
                StridedPlaneConvolution(self.out_channels * max(number, 1), shape[3:], padding[1:], stride[1:])
                if max(stride[1:]) > 1
                else PlaneConvolution(inputs, self.out_channels * max(number, 1), shape[3:], padding[1:])
                for number in results
            ]
        )

    def construct(self, x: Tensor) -> Tensor:
        """The convolved planes."""
        depth = (x.shape[1] + 2 * self.padding - self.size) // self.stride + 1
        planes = deal(x, self.stride)
        y = self.gather(planes, depth) if self.gathers else self.scatter(planes, depth)
        if self.bias is not None:
            y = y + self.bias.reshape(1, 1, self.out_channels, 1, 1)
        return y

    def gather(self, planes: tuple[Tensor, ...], depth: int) -> Tensor:
        """Neighbours put together as channels, then convolved."""
        near = ()
        weights = ()
        for residue in range(self.stride):
            for number, shift in self.taps[residue]:
                near = (*near, span(planes[residue], shift, depth))
                weights = (*weights, self.weight[:, :, number])
        return unfold(self.convolve[0](fold(ops.cat(near, 2)), ops.cat(weights, 1)), depth)

    def scatter(self, planes: tuple[Tensor, ...], depth: int) -> Tensor:
        """Each plane convolved with the weights of all its neighbours, then added up."""
        parts = ()
        for residue in range(self.stride):
            weights = ()
            for number, _ in self.taps[residue]:
                weights = (*weights, self.weight[:, :, number])
            if weights:
                y = self.convolve[residue](fold(planes[residue]), ops.cat(weights, 0))
                results = ops.split(unfold(y, planes[residue].shape[1]), self.out_channels, 2)
                for index, (_, shift) in enumerate(self.taps[residue]):
                    parts = (*parts, span(results[index], shift, depth))
        return total(parts)


class StridedPlaneConvolution(nn.Cell):
    """MindSpore's own convolution, whose weights are an input.

    Args:
        out_channels: O.
        kernel: Size.
        padding: Zeros at each end of each axis.
        stride: Along each axis.

    Inputs:
        x: `(N, I, H, W)` float.
        weight: `(O, I, *kernel)`.

    Outputs:
        `(N, O, H', W')`.
    """

    def __init__(self, out_channels: int, kernel: Axes, padding: Axes, stride: Axes) -> None:
        super().__init__()
        self.convolve = ops.Conv2D(out_channels, kernel, pad_mode="pad", pad=both_ends(padding), stride=stride)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolved images."""
        return self.convolve(x, weight)


class SliceUpConvolution(nn.Cell):
    """A transposed 3D convolution as a 2D one of all planes; the output has `stride` times the size of the input.

    Args:
        shape: Of the weights, `(I, O, kD, kH, kW)`.
        stride: Along each axis, at most the size of the weights.
        has_bias: Whether a bias is added.

    Inputs:
        x: `(N, D, I, H, W)` float.

    Outputs:
        `(N, D', O, H', W')`.
    """

    def __init__(self, shape: Axes, *, stride: Axes, has_bias: bool) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.zeros(shape, np.float32)))
        self.bias = Parameter(Tensor(np.zeros(shape[1], np.float32))) if has_bias else None
        self.shape = shape
        self.stride = stride
        padding = transposed_padding(shape[2:], stride)
        self.taps = depth_taps(shape[2], stride[0], padding[0])
        self.convolve = ops.Conv2DTranspose(shape[0], shape[3:], pad_mode="pad", pad=padding[2:], stride=stride[1:])

    def construct(self, x: Tensor) -> Tensor:
        """The larger volume."""
        batch, depth, _, height, width = x.shape
        in_channels, out_channels, size, *kernel = self.shape
        weight = ops.transpose(self.weight, (0, 2, 1, 3, 4)).reshape(in_channels, size * out_channels, *kernel)
        planes = (batch * depth, size * out_channels, height * self.stride[1], width * self.stride[2])
        y = unfold(self.convolve(fold(x), weight, planes), depth)
        y = interleave(ops.split(y, out_channels, 2), self.taps, depth)
        if self.bias is not None:
            y = y + self.bias.reshape(1, 1, out_channels, 1, 1)
        return y


class SliceUpsampling(nn.Cell):
    """Fixed upsampling: each plane of each channel by a transposed convolution, then weighed along the depth.

    Args:
        channels: C.
        kernels: Weights along each axis.
        stride: Factor along each axis.
        edge: Pixels by which the input has been lengthened at each end.

    Inputs:
        x: `(N, D + 2 edge, C, H + 2 edge, W + 2 edge)` float.

    Outputs:
        `(N, D', C, H', W')`.
    """

    def __init__(self, channels: int, kernels: Sequence[NDArray[np.float64]], stride: Axes, edge: Axes) -> None:
        super().__init__()
        kernel = outer(kernels[1:])
        padding = transposed_padding([len(weights) for weights in kernels], stride, edge)
        self.weight = Tensor(np.repeat(kernel[None, None], channels, 0))
        self.depth_weights = tuple(map(float, kernels[0]))
        self.stride = stride
        self.edge = edge
        self.taps = depth_taps(len(kernels[0]), stride[0], padding[0])
        self.convolve = ops.Conv2DTranspose(
            channels, kernel.shape, pad_mode="pad", pad=padding[2:], stride=stride[1:], group=channels
        )

    def construct(self, x: Tensor) -> Tensor:
        """The larger volume."""
        batch, depth, channels, height, width = x.shape
        height = (height - 2 * self.edge[1]) * self.stride[1]
        width = (width - 2 * self.edge[2]) * self.stride[2]
        y = unfold(self.convolve(fold(x), self.weight, (batch * depth, channels, height, width)), depth)
        parts = ()
        for weight in self.depth_weights:
            parts = (*parts, y * weight)
        return interleave(parts, self.taps, depth - 2 * self.edge[0])


class SlicePooling(nn.Cell):
    """Max pooling along the depth, then of planes.

    Args:
        stride: Factor along each axis; the depth of an input must be a multiple of the first.

    Inputs:
        x: `(N, D, C, H, W)` float.

    Outputs:
        `(N, D', C, H', W')`.
    """

    def __init__(self, stride: Axes) -> None:
        super().__init__()
        self.stride = stride[0]
        # not ops.max_pool2d, whose gradient takes a hundred times as long
        self.pool = nn.MaxPool2d(stride[1:], stride[1:]) if max(stride[1:]) > 1 else nn.Identity()

    def construct(self, x: Tensor) -> Tensor:
        """The smaller volume."""
        planes = deal(x, self.stride)
        largest = planes[0]
        for other in planes[1:]:
            largest = ops.maximum(largest, other)
        return unfold(self.pool(fold(largest)), largest.shape[1])


class SliceBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of all planes of all volumes together, which is that of the volumes."""

    def construct(self, x: Tensor) -> Tensor:
        """As for so many images."""
        return super().construct(fold(x)).reshape(x.shape)


def depth_taps(size: int, stride: int, padding: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Which planes meet which weights along the depth.

    Weight k of a convolution takes plane `stride * i + k - padding` for plane i of the output; weight k of a
    transposed one adds to that plane for plane i of the input. It is number `i + shift` of the planes that
    leave the remainder r, divided by `stride`.

    Args:
        size: Weights along the depth.
        stride: Along the depth.
        padding: Planes left out, or added as zeros, before the first.

    Returns:
        For each r in [0, stride), the pairs k, shift.
    """
    return tuple(
        tuple((k, (k - padding) // stride) for k in range(size) if (k - padding) % stride == residue)
        for residue in range(stride)
    )


def fold(x: Tensor) -> Tensor:
    """Planes `(N, D, C, H, W)` as so many images."""
    batch, depth, *plane = x.shape
    return x.reshape(batch * depth, *plane)


def unfold(x: Tensor, depth: int) -> Tensor:
    """Images as planes of volumes of `depth` planes."""
    return x.reshape(x.shape[0] // depth, depth, *x.shape[1:])


def deal(x: Tensor, stride: int) -> tuple[Tensor, ...]:
    """Every `stride`-th plane, from each of the first on; by a split of channels, which is the fastest way on CPU."""
    if stride == 1:
        return (x,)
    batch, depth, channels, height, width = x.shape
    return ops.split(x.reshape(batch, depth // stride, stride * channels, height, width), channels, 2)


def interleave(parts: Sequence[Tensor], taps: tuple[tuple[tuple[int, int], ...], ...], depth: int) -> Tensor:
    """Adds up the parts of a transposed convolution: for each of `stride` residues `depth` planes, then dealt back."""
    dealt = ()
    for pairs in taps:
        near = ()
        for number, shift in pairs:
            near = (*near, span(parts[number], -shift, depth))
        dealt = (*dealt, total(near))
    if len(dealt) == 1:
        return dealt[0]
    batch, _, channels, height, width = parts[0].shape
    return ops.cat(dealt, 2).reshape(batch, depth * len(dealt), channels, height, width)


def span(x: Tensor, start: int, length: int) -> Tensor:
    """`length` planes from `start` on, zeros where there are none."""
    batch, depth, *plane = x.shape
    before, after = max(-start, 0), max(start + length - depth, 0)
    if before == 0 and after == 0 and length == depth:
        return x
    if before + after >= length:  # not an empty slice, whose gradient MindSpore writes out of bounds
        return ops.zeros((batch, length, *plane), x.dtype)
    parts = (x[:, start + before : start + length - after],)
    if before:
        parts = (ops.zeros((batch, before, *plane), x.dtype), *parts)
    if after:
        parts = (*parts, ops.zeros((batch, after, *plane), x.dtype))
    return ops.cat(parts, 1)


def total(parts: Sequence[Tensor]) -> Tensor:
    """The sum."""
    y = parts[0]
    for part in parts[1:]:
        y = y + part
    return y
