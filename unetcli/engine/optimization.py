"""Optimisers and learning-rate schedules, each in the one form MindSpore gets right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn, ops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mindspore import Parameter
    from numpy.typing import NDArray

    from unetcli.config import OptimizerSettings, ScheduleSettings


def _clip(gradients: Any, max_norm: float) -> Any:
    """Scale all gradients together so that their global norm is at most `max_norm`; 0 leaves them."""
    if max_norm > 0:
        return ops.clip_by_global_norm(gradients, max_norm)
    return gradients


class Adam(nn.Adam):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) behind a limit on the global norm of the gradients.

    With `decay` it is AdamW: the weights shrink by `learning_rate * decay` before the step, apart from
    the gradients (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2). `nn.AdamWeightDecay` is not
    used, since it leaves out the correction of the moments' bias.

    Args:
        parameters: What is trained.
        decay: Decoupled weight decay.
        max_norm: Largest global norm of the gradients; 0 for none.
        **arguments: Of `nn.Adam`.
    """

    def __init__(self, parameters: Any, *, decay: float, max_norm: float, **arguments: Any) -> None:
        super().__init__(parameters, **arguments)
        self.decay = decay
        self.max_norm = max_norm

    def decay_weight(self, gradients: Any) -> Any:
        """Clip and decay; the first thing that `construct` does.

        A `construct` that calls its parent's would be the plain way, but MindSpore 2.10 then runs the
        assignments in it twice.
        """
        gradients = _clip(gradients, self.max_norm)
        if self.decay > 0:
            rate: Any = self.get_lr()
            for parameter in self._parameters:
                ops.assign_sub(parameter, parameter * (rate * self.decay))
        return super().decay_weight(gradients)


class SGD(nn.SGD):
    """Stochastic gradient descent with momentum, behind the same limit.

    Args:
        parameters: What is trained.
        max_norm: As for `Adam`.
        **arguments: Of `nn.SGD`.
    """

    def __init__(self, parameters: Any, *, max_norm: float, **arguments: Any) -> None:
        super().__init__(parameters, **arguments)
        self.max_norm = max_norm

    def decay_weight(self, gradients: Any) -> Any:
        """Clip and decay; the first thing that `construct` does."""
        return super().decay_weight(_clip(gradients, self.max_norm))


def learning_rates(settings: ScheduleSettings, peak: float, num_steps: int) -> NDArray[np.float32]:
    """Learning rate of every step: a linear warm-up, then the schedule down to `final_ratio` of the peak.

    Step 0 of a warm-up has `warmup_ratio * peak`, step `warmup_steps` the peak, the last step
    `final_ratio * peak`. Cosine: Loshchilov and Hutter 2017 (arXiv:1608.03983, equation 5) without
    restarts; polynomial: Chen et al. 2018 (arXiv:1606.00915, section 4.1).

    'cosine_zoo' is that of the model zoo's Unet3d (research/cv/Unet3d/src/lr_schedule.py), to repeat its runs: the
    cosine begins after the warm-up but is stretched over as many steps as there are in all, so that it does not
    end: after 1100 steps, 120 of them warm-up, 3 % of the peak are left. 'cosine' is its corrected form.

    Returns:
        `(num_steps,)` float32.
    """
    steps = np.arange(num_steps, dtype=np.float64)
    rise = settings.warmup_ratio + (1 - settings.warmup_ratio) * steps / max(settings.warmup_steps, 1)
    done = (steps - settings.warmup_steps).clip(0) / max(num_steps - 1 - settings.warmup_steps, 1)
    match settings.name:
        case "constant":
            left = np.ones(num_steps)
        case "cosine":
            left = settings.final_ratio + (1 - settings.final_ratio) * (1 + np.cos(np.pi * done)) / 2
        case "cosine_zoo":
            left = (1 + np.cos(np.pi * (steps - settings.warmup_steps).clip(0) / num_steps)) / 2
        case "polynomial":
            left = settings.final_ratio + (1 - settings.final_ratio) * (1 - done) ** settings.power
    return (peak * np.where(steps < settings.warmup_steps, rise, left)).astype(np.float32)


def build_optimizer(
    settings: OptimizerSettings, rates: NDArray[np.float32], parameters: Iterable[Parameter]
) -> nn.Optimizer:
    """The optimiser of a run, which takes gradients that are not scaled; `TrainStep` sees to that.

    Args:
        settings: Its name and constants.
        rates: Learning rate of every step.
        parameters: What is trained.
    """
    common: dict[str, Any] = {"learning_rate": Tensor(rates), "max_norm": settings.clip_norm or 0.0}
    match settings.name:
        case "adam":
            return Adam(list(parameters), decay=0.0, weight_decay=settings.weight_decay, **common)
        case "adamw":
            return Adam(list(parameters), decay=settings.weight_decay, **common)
        case "sgd":
            return SGD(
                list(parameters),
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=settings.weight_decay,
                **common,
            )
