"""Layers on images that train faster on CPU than MindSpore's own, with the same parameters.

MindSpore gives oneDNN its arrays as they lie in memory, not in blocks of channels. What oneDNN has left for them is a
matrix product of shifted copies, which is quick forwards and slow backwards.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

import math

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops, nn_ops

from unetcli.models.layers import ZEROS, Axes, ImageLayers, both_ends

# more weights take longer to turn round than that saves
_MANY_WEIGHTS = 64 * 128


class PlaneLayers(ImageLayers):
    """The layers of networks on images `(N, C, H, W)`, for training on CPU."""

    is_for_cpu = True

    def convolution(
        self, in_channels: int, out_channels: int, kernel: Axes, *, stride: Axes | None = None, has_bias: bool
    ) -> nn.Cell:
        """MindSpore's own with a stride, a quicker one without."""
        if max(stride or self.ones) > 1:
            return super().convolution(in_channels, out_channels, kernel, stride=stride, has_bias=has_bias)
        return ImageConvolution(in_channels, out_channels, kernel, self.padding(kernel), has_bias=has_bias)


class ImageConvolution(nn.Conv2d):
    """MindSpore's own convolution of stride 1, with a quicker gradient.

    Args:
        in_channels: Of the input.
        out_channels: Of the output.
        kernel: Size.
        padding: Zeros at each end of each axis.
        has_bias: Whether a bias is added.

    Inputs:
        x: `(N, in_channels, H, W)` float.

    Outputs:
        `(N, out_channels, H', W')`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Axes, padding: Axes, *, has_bias: bool) -> None:
        super().__init__(in_channels, out_channels, kernel, 1, "pad", both_ends(padding), has_bias=has_bias, **ZEROS)
        self.convolve = PlaneConvolution(in_channels, out_channels, kernel, padding)

    def construct(self, x: Tensor) -> Tensor:
        """The convolved images."""
        y = self.convolve(x, self.weight)
        return self.bias_add(y, self.bias) if self.has_bias else y


class PlaneConvolution(nn.Cell):
    """A convolution of stride 1 whose gradients are computed in the quickest way.

    The gradient by the input is the convolution of the output's with the weights turned round and their two channel
    axes swapped; asked for it by that name, oneDNN takes up to four times as long. The gradient by the weights can
    be computed with the parts of input and output exchanged, and comes turned round. Both pay where the output has
    no more channels than the input, since those of the output are then the ones that are copied for each of the
    weights, and where turning the weights is little work.

    Args:
        in_channels: I.
        out_channels: O.
        kernel: Size.
        padding: Zeros at each end of each axis, fewer than the kernel's size.

    Inputs:
        x: `(N, I, H, W)` float.
        weight: `(O, I, *kernel)`.

    Outputs:
        `(N, O, H', W')`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: Axes, padding: Axes) -> None:
        super().__init__()
        pad = both_ends(padding)
        back = both_ends(tuple(size - 1 - zeros for size, zeros in zip(kernel, padding, strict=True)))
        turns = in_channels >= out_channels and in_channels * out_channels <= _MANY_WEIGHTS
        self.is_turned_by_input = turns
        self.is_turned_by_weight = turns and in_channels > out_channels
        self.forwards = ops.Conv2D(out_channels, kernel, pad_mode="pad", pad=pad)
        if self.is_turned_by_input:
            self.backwards = ops.Conv2D(in_channels, kernel, pad_mode="pad", pad=back)
        else:
            self.backwards = nn_ops.Conv2DBackpropInput(out_channels, kernel, pad_mode="pad", pad=pad, pad_list=pad)
        if self.is_turned_by_weight:
            self.by_weight = _grad_ops.Conv2DBackpropFilter(
                in_channels, kernel, pad_mode="pad", pad=back, pad_list=back
            )
        else:
            self.by_weight = _grad_ops.Conv2DBackpropFilter(out_channels, kernel, pad_mode="pad", pad=pad, pad_list=pad)
        self.turn = Turn(kernel)

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolved images."""
        return self.forwards(x, weight)

    def bprop(self, x: Tensor, weight: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Gradients by `x` and `weight`, from `grad` by the output."""
        if self.is_turned_by_input:
            by_x = self.backwards(grad, ops.transpose(self.turn(weight), (1, 0, 2, 3)))
        else:
            by_x = self.backwards(grad, weight, x.shape)
        if self.is_turned_by_weight:
            out_channels, in_channels, *kernel = weight.shape
            by_weight = self.by_weight(x, grad, (in_channels, out_channels, *kernel))
            return by_x, ops.transpose(self.turn(by_weight), (1, 0, 2, 3))
        return by_x, self.by_weight(grad, x, weight.shape)


class Turn(nn.Cell):
    """Weights turned round along all their spatial axes, as a product with ones on a diagonal.

    MindSpore's own reversal takes twice as long on CPU.

    Args:
        kernel: Size along those axes, the last of the weights.

    Inputs:
        weight: `(O, I, *kernel)` float.

    Outputs:
        Of the same shape.
    """

    def __init__(self, kernel: Axes) -> None:
        super().__init__()
        self.size = math.prod(kernel)
        self.diagonal = Tensor(np.eye(self.size, dtype=np.float32)[::-1].copy())

    def construct(self, weight: Tensor) -> Tensor:
        """The weights turned round."""
        if self.size == 1:
            return weight
        return ops.matmul(weight.reshape(-1, self.size), self.diagonal).reshape(weight.shape)
