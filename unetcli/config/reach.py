"""How far from a pixel a network looks, from its kernels and strides alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

Levels = Sequence[int]
"""A number for each level along one axis, the finest first."""

Span = tuple[int, int]
"""The first and the last pixel along an axis, at some level."""

Method = Literal["transposed", "bilinear", "nearest"]
"""How an expanding path doubles the size."""


def reach_of_unet(kernels: Levels, strides: Levels, upsample: Method) -> int:
    """Pixels of the input that an output pixel may depend on, counted from it to one side along one axis.

    A block is two convolutions. An up-convolution with a kernel as large as its stride sees one pixel, and so does the
    nearest one; linear interpolation sees two. Which pixels are pooled together depends on the place, so this is the
    largest over all places.

    Args:
        kernels: Of the convolutions of each level.
        strides: Between one level and the next.
        upsample: How the expanding path doubles the size.
    """

    def seen(place: int) -> Span:
        span = place, place
        for kernel, stride in zip(kernels, strides, strict=False):
            span = _doubled(_convolved(span, kernel, 2), stride, is_linear=upsample == "bilinear")
        span = _convolved(span, kernels[-1], 2)
        for kernel, stride in reversed(tuple(zip(kernels, strides, strict=False))):
            span = _convolved(_pooled(span, stride), kernel, 2)
        return span

    return _farthest(seen, strides)


def reach_of_nested_unet(kernels: Levels, strides: Levels, upsample: Method) -> int:
    """The same of UNet++, whose nodes are blocks of two convolutions too.

    What a node needs is put together from all the nodes that take its output, the last of them first.
    """

    def seen(place: int) -> Span:
        depth = len(kernels)
        needed: list[list[Span]] = [[(place, place)], *([] for _ in range(1, depth))]  # of the nodes of each level
        for column in range(depth - 1, 0, -1):
            spans = [_convolved(_joined(needed[level]), kernels[level], 2) for level in range(depth - column)]
            needed = [[span] for span in spans] + [[] for _ in range(column)]
            for level, span in enumerate(spans):
                needed[level + 1].append(_doubled(span, strides[level], is_linear=upsample == "bilinear"))
        span = needed[-1][0]
        for level in range(depth - 1, 0, -1):
            below = _pooled(_convolved(span, kernels[level], 2), strides[level - 1])
            span = _joined([below, *needed[level - 1]])
        return _convolved(span, kernels[0], 2)

    return _farthest(seen, strides)


def reach_of_residual_unet(kernels: Levels, strides: Levels) -> int:
    """The same of the network of strided levels, whose convolutions that stride have kernels of 3."""
    kernels_of_strides = [3 if stride > 1 else kernel for kernel, stride in zip(kernels, strides, strict=False)]

    def seen(place: int) -> Span:
        span = place, place
        for kernel, stride, strided in zip(kernels, strides, kernels_of_strides, strict=False):
            span = _convolved(span, kernel)
            # transposed, a kernel of 3 sees one pixel from the even places and two from the odd ones
            span = (span[0] // 2, -(-span[1] // 2)) if stride > 1 else _convolved(span, strided)
        span = _convolved(span, kernels[-1], 2)
        for kernel, stride, strided in reversed(tuple(zip(kernels, strides, kernels_of_strides, strict=False))):
            first, last = _convolved(span, kernel)
            span = _convolved((stride * first, stride * last), strided)
        return span

    return _farthest(seen, strides)


def _convolved(span: Span, kernel: int, times: int = 1) -> Span:
    """What convolutions see for a span of their output."""
    return span[0] - times * (kernel // 2), span[1] + times * (kernel // 2)


def _doubled(span: Span, stride: int, *, is_linear: bool) -> Span:
    """What an upsampling by 1 or 2 sees for a span of its output."""
    if stride == 1:
        return span
    return (span[0] - is_linear) // 2, (span[1] + is_linear) // 2


def _pooled(span: Span, stride: int) -> Span:
    """What a pooling sees for a span of its output."""
    return stride * span[0], stride * span[1] + stride - 1


def _joined(spans: Sequence[Span]) -> Span:
    """From the first pixel of all to the last."""
    return min(first for first, _ in spans), max(last for _, last in spans)


def _farthest(seen: Callable[[int], Span], strides: Levels) -> int:
    """The largest distance over all places that differ."""
    places = range(math.prod(strides))
    return max(max(place - seen(place)[0], seen(place)[1] - place) for place in places)
