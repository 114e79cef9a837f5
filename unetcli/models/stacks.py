"""Volumes as stacks of planes `(N, D, C, H, W)`: their convolution of stride 1, and how planes are found."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from collections.abc import Sequence

from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops

from unetcli.models.layers import Axes, both_ends
from unetcli.models.planes import Turn

# not ops.slice, which MindSpore compiles to a slice with strides, thirty times slower along two axes
_SLICE = ops.Slice()


class StackConvolution(nn.Cell):
    """A 3D convolution of stride 1 as a 2D one of all planes, and its gradients likewise.

    Every plane is convolved with the weights of all depths at once, and what comes out is added up, each part moved
    along the depth. The gradient by the input is such a convolution too, of the output's with the weights turned
    round; left to MindSpore it would copy three times as many channels.

    Args:
        shape: Of the weights, `(O, I, kD, kH, kW)`.
        padding: Zeros at each end of each axis, fewer than the weights.

    Inputs:
        x: `(N, D, I, H, W)` float.
        weight: Of `shape`.

    Outputs:
        `(N, D', O, H', W')`.
    """

    def __init__(self, shape: Axes, padding: Axes) -> None:
        super().__init__()
        out_channels, in_channels, size, *kernel = shape
        back = tuple(length - 1 - zeros for length, zeros in zip(shape[2:], padding, strict=True))
        kernel, pad = tuple(kernel), both_ends(padding[1:])
        self.shape = shape
        self.taps = depth_taps(size, 1, padding[0])[0]
        self.back_taps = depth_taps(size, 1, back[0])[0]
        self.forwards = ops.Conv2D(size * out_channels, kernel, pad_mode="pad", pad=pad)
        self.backwards = ops.Conv2D(size * in_channels, kernel, pad_mode="pad", pad=both_ends(back[1:]))
        self.by_weight = _grad_ops.Conv2DBackpropFilter(
            size * out_channels, kernel, pad_mode="pad", pad=pad, pad_list=pad
        )
        self.turn = Turn(shape[2:])

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolved planes."""
        weights = ops.transpose(weight, (2, 0, 1, 3, 4))
        depth = x.shape[1] - self.taps[0][1] - self.taps[-1][1]
        return added(unfold(self.forwards(fold(x), as_images(weights)), x.shape[1]), self.taps, depth)

    def bprop(self, x: Tensor, weight: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Gradients by `x` and `weight`, from `grad` by the output."""
        out_channels, in_channels, size, height, width = self.shape
        depth = x.shape[1]
        weights = ops.transpose(self.turn(weight), (2, 1, 0, 3, 4))
        by_x = added(unfold(self.backwards(fold(grad), as_images(weights)), grad.shape[1]), self.back_taps, depth)
        near = ()
        for _, shift in self.taps:
            near = (*near, span(grad, -shift, depth))
        images = fold(ops.cat(near, 2))
        by_weight = self.by_weight(images, fold(x), (size * out_channels, in_channels, height, width))
        by_weight = by_weight.reshape(size, out_channels, in_channels, height, width)
        return by_x, ops.transpose(by_weight, (1, 2, 0, 3, 4))


class LargerOf(nn.Cell):
    """The larger of two values, the first where they are equal; MindSpore's own has a slow gradient on CPU.

    Inputs:
        first: Float.
        second: Of the same shape.

    Outputs:
        Of that shape.
    """

    def construct(self, first: Tensor, second: Tensor) -> Tensor:
        """The larger."""
        return ops.maximum(first, second)

    def bprop(self, first: Tensor, second: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Gradients by both: all for the one that was taken."""
        by_first = grad * (first >= second).astype(grad.dtype)
        return by_first, grad - by_first


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


def as_images(weights: Tensor) -> Tensor:
    """Weights `(kD, O, I, kH, kW)` as those of images with kD times the channels."""
    size, out_channels, *rest = weights.shape
    return weights.reshape(size * out_channels, *rest)


def unfold(x: Tensor, depth: int) -> Tensor:
    """Images as planes of volumes of `depth` planes."""
    return x.reshape(x.shape[0] // depth, depth, *x.shape[1:])


def added(y: Tensor, taps: tuple[tuple[int, int], ...], depth: int) -> Tensor:
    """Adds up what planes have given, one part of the channels for each of `taps`, moved by its shift.

    Planes of the output that the same parts reach are added together, so that no part is lengthened by zeros.

    Args:
        y: `(N, D, parts * O, H, W)`.
        taps: The pairs number, shift.
        depth: D'.

    Returns:
        `(N, D', O, H, W)`.
    """
    batch, planes, channels, height, width = y.shape
    channels = channels // len(taps)
    size = channels * height * width
    y = y.reshape(batch, planes, len(taps) * size)
    runs = ()
    start = 0
    while start < depth:
        # not min and max, which MindSpore cannot compile in a gradient
        stop = depth
        for _, shift in taps:
            for edge in (-shift, planes - shift):
                if start < edge < stop:
                    stop = edge
        parts = ()
        for number, shift in taps:
            if start + shift >= 0 and stop + shift <= planes:
                parts = (*parts, _SLICE(y, (0, start + shift, number * size), (batch, stop - start, size)))
        runs = (*runs, total(parts) if parts else ops.zeros((batch, stop - start, size), y.dtype))
        start = stop
    y = runs[0] if len(runs) == 1 else ops.cat(runs, 1)
    return y.reshape(batch, depth, channels, height, width)


def span(x: Tensor, start: int, length: int) -> Tensor:
    """`length` planes from `start` on, zeros where there are none."""
    batch, depth, *plane = x.shape
    before = -start if start < 0 else 0
    after = start + length - depth if start + length > depth else 0
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
    return parts[0] if len(parts) == 1 else ops.addn(parts)
