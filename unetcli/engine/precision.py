"""Mixed precision: where it is refused, what it makes of a network, and the loss scale that belongs to it."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportAttributeAccessIssue=false, reportPrivateUsage=false
# pyright: reportOptionalMemberAccess=false
# MindSpore 2.10 says that construct never returns, and that a cell or an operation returns nearly anything or None

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mindspore
from mindspore import Tensor, amp, nn, train

from unetcli.errors import DeviceError, RunError

if TYPE_CHECKING:
    from unetcli.config import Config

FIRST_SCALE = 2.0**16
"""Where a dynamic scale begins; as PyTorch's `torch.amp.GradScaler`. MindSpore begins at 2^24, and loses steps."""
MOST_SKIPPED = 50
"""Steps in a row that may overflow; from the first scale a dynamic one is at 1 after 16."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """By what the loss is multiplied before its gradients are taken, and these divided again.

    Attributes:
        first: The scale of the first step.
        window: Steps in a row without overflow after which the scale doubles; None for a fixed one.
    """

    first: float
    window: int | None = None


def loss_scaling(config: Config) -> Scaling | None:
    """The loss scale of a run; None if its loss is not scaled.

    Where float16 is computed with and nothing is said, the scale is dynamic, as `mindspore.Model` has it at O2.
    """
    scale, level = config.optimizer.loss_scale, config.train.amp
    if scale == "dynamic" or (scale is None and level != "O0"):
        return Scaling(FIRST_SCALE, config.optimizer.loss_scale_window)
    return None if scale is None else Scaling(scale)


def check_precision(config: Config, device: str) -> None:
    """Refuse a level of mixed precision that the device is not good for.

    MindSpore 2.10 computes float16 on CPU, but takes 1.3 to 2.4 times as long as with float32.

    Args:
        config: Settings of the run.
        device: "CPU", "GPU" or "Ascend".

    Raises:
        DeviceError: On CPU, at any level but O0.
    """
    level = config.train.amp
    if device == "CPU" and level != "O0":
        raise DeviceError(
            f"train.amp {level}: not on CPU, where float16 is slower than float32",
            hint="train with --amp O0, or where there is an Ascend or a GPU",
        )


def with_precision(network: nn.Cell, twin: nn.Cell, level: str) -> nn.Cell:
    """The network to train at a level of mixed precision, with the parameters of `network`, which stays as it is.

    What predicts and validates therefore computes in float32, and weights, moments and running statistics are
    float32 at every level. MindSpore changes the network that it is given, so that is another one.

    Args:
        network: Whose parameters are trained.
        twin: Another of the same settings, of MindSpore's own layers, to be changed.
        level: As `mindspore.amp.auto_mixed_precision` has them, "O1", "O2", "O3" or "auto".
    """
    parameters = network.parameters_dict()
    for _, cell in twin.cells_and_names():
        for key, parameter in list(cell.parameters_and_names(expand=False)):
            cell.insert_param_to_cell(key, parameters[parameter.name])
    if level == "O1":
        return _with_layers_in_float16(twin)
    return amp.auto_mixed_precision(twin, level)


class InFloat16(nn.Cell):
    """A layer that computes in float16, between float32 and float32.

    Args:
        layer: To be changed.
    """

    def __init__(self, layer: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.layer = layer.to_float(mindspore.float16)

    def construct(self, x: Tensor) -> Tensor:
        """What the layer makes of it."""
        return self.layer(x).astype(mindspore.float32)


def _with_layers_in_float16(network: nn.Cell) -> nn.Cell:
    """Level O1: the layers of MindSpore's white list in float16.

    MindSpore 2.10 writes the source of a network anew for it, into the working folder, and fails to import ours.
    """
    listed = tuple(kind for kind in amp.get_white_list() if issubclass(kind, nn.Cell))
    for _, cell in list(network.cells_and_names()):
        for name, layer in cell.name_cells().items():
            if isinstance(layer, listed):
                cell._cells[name] = InFloat16(layer)  # noqa: SLF001 - set as an attribute its parameters get other names
    return network


class OverflowWatch(train.Callback):
    """Ends a training whose gradients overflow in step after step, each of which is skipped.

    The loss does not tell: it is finite while gradients are not.
    """

    def __init__(self) -> None:
        super().__init__()
        self._skipped = 0

    def on_train_step_end(self, run_context: Any) -> None:
        """Count what a `TrainStep` says.

        Raises:
            RunError: After `MOST_SKIPPED` in a row.
        """
        outputs = run_context.original_args().net_outputs
        if not isinstance(outputs, tuple):
            return
        _, is_overflow, scale = outputs
        self._skipped = self._skipped + 1 if bool(is_overflow.asnumpy()) else 0
        if self._skipped == MOST_SKIPPED:
            raise RunError(
                f"the gradients were not finite in {MOST_SKIPPED} steps in a row, with a loss scale of "
                f"{float(scale.asnumpy()):g}",
                hint="lower optimizer.learning_rate, set a lower optimizer.loss_scale or 'dynamic', or train with "
                "--amp O0",
            )
