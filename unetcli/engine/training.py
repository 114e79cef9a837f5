"""What happens around the steps of MindSpore's `Model`: epochs, validation, checkpoints, stopping.

An epoch is so many steps, and a training batch is a function of its step alone. One `Model.train` therefore
runs over all steps that are left, from wherever a checkpoint stands, and a run that was killed sees the
same batches as one that was not.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mindspore import train

from unetcli.errors import ConfigError, RunError, suggestion

if TYPE_CHECKING:
    from types import FrameType

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.config import TrainSettings

Validate = Callable[[], Mapping[str, Any]]
Record = Callable[[Mapping[str, Any]], None]
Outcome = Literal["finished", "stopped early", "interrupted"]


class Batches(Protocol):
    """Training batches by step; the same step always gives the same batch."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps that make an epoch."""
        ...

    @property
    def patches_per_step(self) -> int:
        """Patches of a step, in all processes together."""
        ...

    def __getitem__(self, step: int) -> tuple[NDArray[Any], ...]:
        """Images `(N, C, *S)` float32 and labels `(N, *S)` int32 of a step, counted from 0.

        With `loss.weight_map` also the weights of the pixels, `(N, *S)` float32.
        """
        ...


class Steps:
    """The batches of the steps from `start` to `stop`, as MindSpore's GeneratorDataset wants a source."""

    def __init__(self, batches: Batches, start: int, stop: int) -> None:
        self._batches = batches
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        return self._batches[self._start + int(index)]


@dataclass(slots=True)
class Progress:
    """How far a run is: what a checkpoint must know beside the tensors.

    Attributes:
        step: Steps done.
        closed_epochs: Epochs that are validated and recorded.
        best_score: Highest value so far of the measure that the run is selected by.
        stale: Validations since then.
        loss_sum: Of the steps since the last closed epoch.
    """

    step: int = 0
    closed_epochs: int = 0
    best_score: float | None = None
    stale: int = 0
    loss_sum: float = 0.0

    def facts(self) -> dict[str, Any]:
        """The values as JSON can hold them."""
        return asdict(self)


class Interrupted(Exception):  # noqa: N818 - not an error
    """Raised out of a prediction to leave a validation that a signal has made pointless."""


class Interruption:
    """Turns the first Ctrl-C or SIGTERM into a flag; a second one ends the process as usual.

    A signal that the process was started to ignore, as a shell's background jobs are Ctrl-C, stays ignored.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self.is_requested = False
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_requested = False
        self._restore()

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self.is_requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the training loop calls: all that it knows of files, images and people."""

    validate: Validate
    record: Record
    save_last: Callable[[], None]
    save_best: Callable[[], None]
    mean: Callable[[Sequence[float]], Sequence[float]] = list
    """Of each value, over the processes that train together; all of them call it."""


class EpochKeeper(train.Callback):
    """Counts steps and epochs, watches the loss, validates, saves and stops.

    Args:
        settings: Validation interval, patience, and the measure that both the best and patience go by.
        rates: Learning rate of every step.
        batches: What is trained on.
        progress: Where the run stands; updated in place.
        hooks: What to call.
        interruption: Asked after every step.
    """

    def __init__(
        self,
        settings: TrainSettings,
        rates: NDArray[np.float32],
        batches: Batches,
        progress: Progress,
        hooks: Hooks,
        interruption: Interruption,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._rates = rates
        self._steps_per_epoch = batches.steps_per_epoch
        self._patches_per_step = batches.patches_per_step
        self._progress = progress
        self._hooks = hooks
        self._interruption = interruption
        self._waits: list[float] = []
        self._times: list[float] = []
        self._waiting_since: float | None = None
        self._started = 0.0

    @property
    def outcome(self) -> Outcome | None:
        """How the run has ended; None while steps are left to train or an epoch is left to close."""
        if self._filled_epoch is not None:
            return None
        if self._progress.step >= len(self._rates):
            return "finished"
        patience = self._settings.patience
        return "stopped early" if patience is not None and self._progress.stale >= patience else None

    def close_filled_epoch(self) -> None:
        """Validate and record the epoch that the last step has filled, if that is still to be done."""
        if self._filled_epoch is not None:
            self._close(self._filled_epoch)

    @property
    def _filled_epoch(self) -> int | None:
        """The epoch, counted from 1, whose steps are done but which is not validated and recorded yet."""
        epoch, left = divmod(self._progress.step, self._steps_per_epoch)
        return epoch if left == 0 and epoch > self._progress.closed_epochs else None

    def on_train_step_begin(self, run_context: Any) -> None:
        """Take the time that was spent waiting for data; the first batch of all does not count."""
        del run_context  # nothing in it is needed, but MindSpore names it so
        self._started = time.perf_counter()
        if self._waiting_since is not None:
            self._waits.append(self._started - self._waiting_since)

    def on_train_step_end(self, run_context: Any) -> None:
        """Check and record the loss; at the end of an epoch close it."""
        (loss,) = self._hooks.mean([_loss_of(run_context.original_args().net_outputs)])
        seconds = time.perf_counter() - self._started
        progress = self._progress
        rate = float(self._rates[progress.step])
        if not math.isfinite(loss):
            kept = f"; last.ckpt holds epoch {progress.closed_epochs}" if progress.closed_epochs else ""
            raise RunError(
                f"the loss is {loss} at step {progress.step + 1} of epoch "
                f"{progress.step // self._steps_per_epoch + 1}, with a learning rate of {rate:.3g}",
                hint=f"lower optimizer.learning_rate or set optimizer.clip_norm{kept}",
            )
        if self._waiting_since is not None:  # the very first step compiles the network
            self._times.append(seconds)
        progress.loss_sum += loss
        progress.step += 1
        self._hooks.record(
            {
                "event": "step",
                "step": progress.step,
                "epoch": (progress.step - 1) // self._steps_per_epoch + 1,
                "loss": loss,
                "learning_rate": rate,
                "seconds": seconds,
            }
        )
        with contextlib.suppress(Interrupted):  # the epoch is then closed when the run is taken up
            self.close_filled_epoch()
        # all processes stop after the same step, though a signal may reach one of them later
        (interrupted,) = self._hooks.mean([float(self._interruption.is_requested)])
        if interrupted:
            self._hooks.save_last()
        if interrupted or self.outcome is not None:
            run_context.request_stop()
        self._waiting_since = time.perf_counter()

    def _close(self, epoch: int) -> None:
        progress, settings = self._progress, self._settings
        is_last = progress.step >= len(self._rates)
        scores = self._hooks.validate() if is_last or epoch % settings.validate_every == 0 else None
        is_best = False
        if scores is not None:
            score = score_of(scores, settings.select_by)
            # an undefined measure tells nothing of the weights, so it never is best
            is_best = score is not None and (progress.best_score is None or score > progress.best_score)
            progress.stale = 0 if is_best else progress.stale + 1
            if is_best:
                progress.best_score = score
                self._hooks.save_best()
        self._hooks.record(self._epoch_event(epoch, scores, is_best=is_best))
        progress.closed_epochs = epoch
        progress.loss_sum = 0.0
        self._hooks.save_last()
        self._waits.clear()
        self._times.clear()

    def _epoch_event(self, epoch: int, scores: Mapping[str, Any] | None, *, is_best: bool) -> dict[str, Any]:
        busy, waited = sum(self._times), sum(self._waits)
        images = len(self._times) * self._patches_per_step
        return {
            "event": "epoch",
            "epoch": epoch,
            "step": self._progress.step,
            "loss": self._progress.loss_sum / self._steps_per_epoch,
            "learning_rate": float(self._rates[self._progress.step - 1]),
            "images_per_second": images / (busy + waited) if busy else None,
            "wait_share": waited / (busy + waited) if busy else None,
            "validation": dict(scores) if scores is not None else None,
            "select_by": self._settings.select_by,
            "score": score_of(scores, self._settings.select_by) if scores is not None else None,
            "is_best": is_best,
            "best_score": self._progress.best_score,
        }


def score_of(scores: Mapping[str, Any], name: str) -> float | None:
    """The value of a measure by its dotted name; None where it is undefined.

    Raises:
        ConfigError: If the validation does not give it.
    """
    found = _values(scores, name)
    if not found:
        raise ConfigError(
            f"train.select_by: {name}, which the validation does not give", hint=suggestion(name, map(str, scores))
        )
    return None if found[0] is None else float(found[0])


def _values(scores: Mapping[str, Any], name: str) -> list[Any]:
    """What a dotted name may mean; the name of a class may have dots of its own."""
    found: list[Any] = []
    for part, value in scores.items():
        if not isinstance(value, Mapping):
            found += [value] if part == name else []
        elif name.startswith(f"{part}."):
            found += _values(value, name.removeprefix(f"{part}."))
    return found


def _loss_of(outputs: Any) -> float:
    """The loss among what a train step returns: itself, or first of a tuple with overflow and scale."""
    return float((outputs[0] if isinstance(outputs, tuple) else outputs).asnumpy())
