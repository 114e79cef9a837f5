"""Layers on images that train faster on CPU than MindSpore's own, with the same parameters.

MindSpore gives oneDNN its arrays as they lie in memory, not in blocks of channels. What oneDNN has left for them is a
matrix product of shifted copies, which is quick forwards and slow backwards.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops

from unetcli.models.layers import ZEROS, Axes, ImageLayers, both_ends


class PlaneLayers(ImageLayers):
    """The layers of networks on images `(N, C, H, W)`, for training on CPU."""

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
    """A convolution of stride 1 whose gradient by its input is a convolution forwards.

    The gradient by the input is the convolution of the output's with the weights turned round and their two channel
    axes swapped. Asked for it by that name, oneDNN takes up to four times as long as for any other convolution.

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
        self.forwards = ops.Conv2D(out_channels, kernel, pad_mode="pad", pad=pad)
        self.backwards = ops.Conv2D(in_channels, kernel, pad_mode="pad", pad=back)
        self.by_weight = _grad_ops.Conv2DBackpropFilter(out_channels, kernel, pad_mode="pad", pad=pad, pad_list=pad)
        self.turn = ops.ReverseV2((2, 3))

    def construct(self, x: Tensor, weight: Tensor) -> Tensor:
        """The convolved images."""
        return self.forwards(x, weight)

    def bprop(self, x: Tensor, weight: Tensor, out: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Gradients by `x` and `weight`, from `grad` by the output."""
        turned = self.turn(ops.transpose(weight, (1, 0, 2, 3)))
        return self.backwards(grad, turned), self.by_weight(grad, x, weight.shape)
