"""The training step: gradients of several batches, scaled or not, to one update of the weights."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOperatorIssue=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mindspore
from mindspore import Parameter, Tensor, amp, nn, ops
from mindspore.train import Model

if TYPE_CHECKING:
    from unetcli.engine.precision import Scaling

LARGEST_SCALE = 2.0**64
"""A dynamic scale stays below, so that it and its inverse are ordinary float32 numbers."""


def build_trainer(
    network: nn.Cell,
    loss: nn.Cell,
    optimizer: nn.Cell,
    *,
    accumulation: int = 1,
    scaling: Scaling | None = None,
    is_weighted: bool = False,
) -> Model:
    """What trains: MindSpore's own step where there is nothing to scale, to weigh or to add up, else a `TrainStep`."""
    if accumulation == 1 and scaling is None and not is_weighted:
        return Model(network, loss, optimizer)
    with_loss = WithWeightedLoss(network, loss) if is_weighted else nn.WithLossCell(network, loss)
    return Model(TrainStep(with_loss, optimizer, accumulation=accumulation, scaling=scaling))


class WithWeightedLoss(nn.Cell):
    """A network with a loss behind it that takes the weights of pixels too.

    Args:
        network: From images to logits.
        loss: From logits, labels and weights to the loss.

    Inputs:
        images: `(N, C, *S)`.
        labels: `(N, *S)`.
        weights: `(N, *S)`.

    Outputs:
        Scalar.
    """

    def __init__(self, network: nn.Cell, loss: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss = loss

    def construct(self, images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """The loss."""
        return self.loss(self.network(images), labels, weights)


def _times(factor: Tensor, gradient: Tensor) -> Tensor:
    return gradient * factor


class TrainStep(nn.TrainOneStepCell):
    """One update of the weights, of the mean gradients of `accumulation` batches.

    In this order: the loss of each batch is multiplied by the scale, the gradients of the batches are added up,
    MindSpore's reducer takes their mean over the devices that train together, they are divided by scale and number of
    batches, it is looked whether all are finite on every device, and the optimiser limits their norm and moves the
    weights. Whatever is a power of 2 changes no bit of this.

    With a scale, a step whose gradients are not finite is skipped: weights and moments stay what they were. It is
    taken all the same, so that the learning rate goes on. A dynamic scale is then halved, but not below 1, and
    doubles after `window` steps in a row that were not skipped (Micikevicius et al. 2018, arXiv:1710.03740, section
    3.2; mindspore.amp.DynamicLossScaler). It and the number of those steps are parameters, and so in checkpoints.

    `mindspore.Model` has the like with a `LossScaleManager`, but on CPU only a fixed scale, whose overflow passes.

    Args:
        network: From images, labels and whatever else a batch has to the loss.
        optimizer: Of the network's parameters, with a loss scale of 1.
        accumulation: Batches of a step.
        scaling: The loss scale; None for none.

    Inputs:
        batch: Images `(accumulation N, C, *S)`, labels `(accumulation N, *S)`, and what else the network takes.

    Outputs:
        The mean loss of the batches, not scaled; with a scale a tuple of it, whether the step was skipped, and the
        scale that it had.
    """

    def __init__(
        self, network: nn.Cell, optimizer: nn.Cell, *, accumulation: int = 1, scaling: Scaling | None = None
    ) -> None:
        super().__init__(network, optimizer)
        self.hyper_map = ops.HyperMap()
        self.accumulation = accumulation
        self.first_batch = Tensor(0, mindspore.int32)  # a tensor, for a loop that is not compiled for each batch
        self.is_scaled = scaling is not None
        self.window = (scaling.window or 0) if scaling else 0
        first = Tensor(scaling.first if scaling else 1.0, mindspore.float32)
        self.scale = Parameter(first, name="loss_scale", requires_grad=False) if self.window else first
        if self.window:
            self.good_steps = Parameter(Tensor(0, mindspore.int32), name="good_steps", requires_grad=False)
        self.sum_over_devices = ops.AllReduce() if self.reducer_flag else nn.Identity()

    def construct(self, *batch: Tensor) -> Any:
        """A step."""
        scale = self.scale * 1.0  # what it is now; a dynamic one changes below
        loss, gradients = self.summed(batch, scale)
        loss = loss / self.accumulation
        gradients = self.grad_reducer(gradients)
        gradients = self.hyper_map(ops.partial(_times, 1 / (scale * self.accumulation)), gradients)
        if not self.is_scaled:
            return ops.depend(loss, self.optimizer(gradients))
        is_finite = self.is_finite_everywhere(gradients)
        if is_finite:
            loss = ops.depend(loss, self.optimizer(gradients))
        else:
            loss = ops.depend(
                loss, ops.assign_add(self.optimizer.global_step, self.optimizer.global_step_increase_tensor)
            )
        if self.window:
            loss = ops.depend(loss, self.adjust(scale, is_finite))
        return loss, ops.logical_not(is_finite), scale

    def summed(self, batch: tuple[Tensor, ...], scale: Tensor) -> tuple[Tensor, Any]:
        """Losses, and scaled gradients, added up over the batches."""
        if self.accumulation == 1:
            return self.scaled(batch, scale)
        batches = tuple([self.cut(part) for part in batch])
        # in one tuple with the loss: gradients that are all of one shape would get lost as a list of unknown length
        sums = (ops.zeros((), mindspore.float32), *self.hyper_map(ops.zeros_like, self.weights))
        number = self.first_batch
        while number < self.accumulation:
            one = tuple([ops.gather(part, number, 0) for part in batches])
            loss, gradients = self.scaled(one, scale)
            sums = self.hyper_map(ops.add, sums, (loss, *gradients))
            number = number + 1
        return sums[0], sums[1:]

    def cut(self, part: Tensor) -> Tensor:
        """`(accumulation N, ...)` to `(accumulation, N, ...)`."""
        return part.reshape((self.accumulation, part.shape[0] // self.accumulation, *part.shape[1:]))

    def scaled(self, batch: tuple[Tensor, ...], scale: Tensor) -> tuple[Tensor, Any]:
        """Loss, and scaled gradients, of a batch."""
        loss = self.network(*batch)
        return loss, self.grad(self.network, self.weights)(*batch, scale.astype(loss.dtype))

    def is_finite_everywhere(self, gradients: Any) -> Tensor:
        """Whether all gradients are finite, on every device.

        The sum over the devices is not for the gradients, which are the same on all by now, but for the Ascend 910:
        it has no infinity, and tells each device by itself whether it has overflowed.
        """
        overflows = 1.0 - amp.all_finite(gradients).astype(mindspore.float32)
        return self.sum_over_devices(overflows) < 0.5

    def adjust(self, scale: Tensor, is_finite: Tensor) -> Tensor:
        """Set the scale of the next step."""
        good_steps = self.good_steps + 1
        is_full = good_steps >= self.window
        doubled = ops.select(is_full, ops.minimum(scale * 2, LARGEST_SCALE), scale)
        stored = ops.assign(self.scale, ops.select(is_finite, doubled, ops.maximum(scale / 2, 1.0)))
        counts_on = ops.logical_and(is_finite, ops.logical_not(is_full))
        return ops.depend(stored, ops.assign(self.good_steps, ops.select(counts_on, good_steps, 0)))
