"""Batch normalisation over the batches of all processes that train together."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportOptionalOperand=false, reportReturnType=false, reportAssignmentType=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOptionalSubscript=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from mindspore import Tensor, nn, ops
from mindspore.ops.operations import _grad_ops

Axes = tuple[int, ...]


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the mean and variance over the batches of all processes, of equal size.

    It has the parameters of `nn.BatchNorm2d` and the results of one process with all of the batch. MindSpore's own
    `nn.SyncBatchNorm` is for Ascend and GPU; this one needs nothing but sums over the processes.

    Args:
        channels: C.
        num_ranks: How many processes there are.
        planes: The axes of an input by which it becomes images `(N, C, H, W)`: those that are joined to each of N, C,
            H and W, in their order.
        fused: Whether to compute in the operations that MindSpore has for CPU, which are faster there.

    Inputs:
        x: Float, with C values along the channels.

    Outputs:
        Of the same shape.
    """

    def __init__(self, channels: int, num_ranks: int, planes: tuple[Axes, ...], *, fused: bool) -> None:
        super().__init__(channels)
        self.num_ranks = num_ranks
        self.planes = planes
        normalization = _FusedNormalization if fused else _PlainNormalization
        self.normalize = normalization(channels, num_ranks, self.eps)

    def construct(self, x: Tensor) -> Tensor:
        """Normalised; while training the running statistics also move towards those of all."""
        shape = ()
        for axes in self.planes:
            size = 1
            for axis in axes:
                size = size * x.shape[axis]
            shape = (*shape, size)
        images = x.reshape(shape)
        if not self.training:
            return super().construct(images).reshape(x.shape)
        y, mean, variance = self.normalize(images, self.gamma, self.beta, self.moving_mean, self.moving_variance)
        num_values = x.size // self.num_features * self.num_ranks
        of_sample = variance * (num_values / (num_values - 1))
        ops.assign_sub(self.moving_mean, self.momentum * (self.moving_mean - ops.stop_gradient(mean)))
        ops.assign_sub(self.moving_variance, self.momentum * (self.moving_variance - ops.stop_gradient(of_sample)))
        return y.reshape(x.shape)


class _Normalization(nn.Cell):
    """Images `(N, C, H, W)` by the mean and variance of all; gives both too.

    Args:
        channels: C.
        num_ranks: How many processes there are.
        eps: Added to the variance.

    Inputs:
        x, gamma, beta, moving_mean, moving_variance: The images and the parameters of batch normalisation.

    Outputs:
        The images, and of each channel the mean and variance.
    """

    def __init__(self, channels: int, num_ranks: int, eps: float) -> None:
        super().__init__()
        self.channels = channels
        self.num_ranks = num_ranks
        self.eps = eps
        self.all_reduce = ops.AllReduce()

    def of_all(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and variance of all from those of this process."""
        mean, second = self.mean_of_pair(mean, variance + mean * mean)
        return mean, second - mean * mean

    def mean_of_pair(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Each `(C,)` as its mean over the processes."""
        sums = self.all_reduce(ops.cat((first, second), 0))
        means = sums / self.num_ranks
        return means[: self.channels], means[self.channels :]


class _PlainNormalization(_Normalization):
    """In plain operations, for every device; MindSpore finds the gradient."""

    def construct(
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,
        moving_mean: Tensor,  # noqa: ARG002 - as for the other
        moving_variance: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised, with mean and variance."""
        shape = (1, self.channels, 1, 1)
        own_mean = x.mean((0, 2, 3))
        mean, variance = self.of_all(own_mean, ops.square(x - own_mean.reshape(shape)).mean((0, 2, 3)))
        scale = gamma * ops.rsqrt(variance + self.eps)
        return x * scale.reshape(shape) + (beta - mean * scale).reshape(shape), mean, variance


class _FusedNormalization(_Normalization):
    """In the operations of MindSpore's batch normalisation on CPU.

    That of training gives the mean and variance of this process, and that of inference normalises by those of all. The
    operation for the gradient takes the means of this process over the gradient and over its product with the
    normalised values. Those of all differ from them by numbers of a channel, so that what is missing is linear in the
    images, and one more inference.
    """

    def __init__(self, channels: int, num_ranks: int, eps: float) -> None:
        super().__init__(channels, num_ranks, eps)
        self.measure = ops.BatchNorm(is_training=True, epsilon=eps, momentum=0.0)  # leaves the running statistics
        self.apply = ops.BatchNorm(is_training=False, epsilon=eps)
        self.gradient = _grad_ops.BatchNormGrad(is_training=True, epsilon=eps)

    def construct(
        self, x: Tensor, gamma: Tensor, beta: Tensor, moving_mean: Tensor, moving_variance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised, with mean and variance."""
        own = self.measure(x, gamma, beta, moving_mean, moving_variance)
        mean, variance = self.of_all(own[3], own[4])
        return self.apply(x, gamma, beta, mean, variance)[0], mean, variance

    def bprop(  # noqa: PLR0913, PLR0917
        self,
        x: Tensor,
        gamma: Tensor,
        beta: Tensor,  # noqa: ARG002 - MindSpore gives all inputs
        moving_mean: Tensor,
        moving_variance: Tensor,
        out: tuple[Tensor, Tensor, Tensor],
        grads: tuple[Tensor, Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Gradients by the images, gamma and beta; the running statistics have none."""
        _, mean, variance = out
        by_x, by_gamma, by_beta = self.gradient(grads[0], x, gamma, mean, variance, variance)
        mean_gamma, mean_beta = self.mean_of_pair(by_gamma, by_beta)
        factor = gamma * ops.rsqrt(variance + self.eps) * (self.channels / x.size)
        slope, shift = (by_gamma - mean_gamma) * factor, (by_beta - mean_beta) * factor
        missing = self.apply(x, slope, shift, mean, variance)[0]
        return by_x + missing, by_gamma, by_beta, ops.zeros_like(moving_mean), ops.zeros_like(moving_variance)
