"""Batch normalisation over the batches of all processes that train together."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false, reportOptionalOperand=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from mindspore import Tensor, nn, ops


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance over the batches of all processes, of equal size.

    It has the parameters of `nn.BatchNorm2d` and the results of one process with all of the batch. MindSpore's own
    `nn.SyncBatchNorm` is for Ascend and GPU; this one needs nothing but a sum over the processes.

    Args:
        channels: C.
        num_ranks: How many processes there are.
        ndim: Axes of an input.
        channel_axis: Which of them has the channels.

    Inputs:
        x: Float, with C values along the channels.

    Outputs:
        Of the same shape.
    """

    def __init__(self, channels: int, num_ranks: int, *, ndim: int = 4, channel_axis: int = 1) -> None:
        super().__init__(channels)
        self.num_ranks = num_ranks
        self.axes = tuple(axis for axis in range(ndim) if axis != channel_axis)
        self.shape_of_channels = tuple(channels if axis == channel_axis else 1 for axis in range(ndim))
        self.all_reduce = ops.AllReduce()

    def construct(self, x: Tensor) -> Tensor:
        """Normalised; while training also follows the mean and variance of all."""
        mean, variance = self.moving_mean, self.moving_variance
        if self.training:
            mean, variance = self._of_all(x)
        scale = self.gamma * ops.rsqrt(variance + self.eps)
        shift = self.beta - mean * scale
        return x * scale.reshape(self.shape_of_channels) + shift.reshape(self.shape_of_channels)

    def _of_all(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel; the running statistics move towards them."""
        own_mean = x.mean(self.axes)
        own_variance = ops.square(x - own_mean.reshape(self.shape_of_channels)).mean(self.axes)
        sums = self.all_reduce(ops.cat((own_mean, own_variance + own_mean * own_mean), 0))
        mean, second = ops.split(sums / self.num_ranks, self.num_features, 0)
        variance = second - mean * mean
        num_values = x.size // self.num_features * self.num_ranks
        of_sample = variance * (num_values / (num_values - 1))
        ops.assign_sub(self.moving_mean, self.momentum * (self.moving_mean - ops.stop_gradient(mean)))
        ops.assign_sub(self.moving_variance, self.momentum * (self.moving_variance - ops.stop_gradient(of_sample)))
        return mean, variance
