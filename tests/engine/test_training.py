from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import Callback

from unetcli.config import TrainSettings
from unetcli.engine.training import EpochKeeper, Hooks, Interrupted, Interruption, Progress, Steps
from unetcli.errors import ConfigError, RunError


class Loop:
    """Drives a keeper as `Model.train` does, with the losses given instead of trained."""

    def __init__(self, scores, *, epochs, steps_per_epoch=1, progress=None, **settings):
        self.scores = iter(scores)
        self.calls = []
        self.events = []
        self.progress = progress or Progress()
        self.rates = np.linspace(1, 0.1, epochs * steps_per_epoch, dtype=np.float32)
        self.interruption = Interruption()
        self.stopped = False
        hooks = Hooks(
            validate=self.validate,
            record=self.events.append,
            save_last=lambda: self.calls.append(f"last {self.progress.step}"),
            save_best=lambda: self.calls.append(f"best {self.progress.step}"),
        )
        self.keeper = EpochKeeper(
            TrainSettings(epochs=epochs, **settings),
            self.rates,
            SimpleNamespace(steps_per_epoch=steps_per_epoch, patches_per_step=4),
            self.progress,
            hooks,
            self.interruption,
        )

    def validate(self):
        self.calls.append(f"validate {self.progress.step}")
        score = next(self.scores)
        if score is None:
            raise Interrupted
        return score if isinstance(score, dict) else {"mean_iou": score}

    def request_stop(self):
        self.stopped = True

    def run(self, losses=None, outputs=lambda loss: Tensor(np.float32(loss))):
        left = len(self.rates) - self.progress.step
        context = SimpleNamespace(request_stop=self.request_stop)
        for loss in losses or [1.0] * left:
            context.original_args = lambda loss=loss: SimpleNamespace(net_outputs=outputs(loss))
            self.keeper.on_train_step_begin(context)
            self.keeper.on_train_step_end(context)
            if self.stopped:
                break
        return self

    @property
    def epochs(self):
        return [event for event in self.events if event["event"] == "epoch"]


def test_training_stops_when_patience_has_run_out():
    loop = Loop([0.5, 0.4, 0.5, 0.9], epochs=9, patience=2).run()
    assert (loop.progress.step, loop.progress.best_score, loop.keeper.outcome) == (3, 0.5, "stopped early")
    assert loop.stopped


def test_a_better_score_renews_the_patience():
    loop = Loop([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], epochs=9, patience=2).run()
    assert (loop.progress.step, loop.progress.best_score, loop.keeper.outcome) == (5, 0.6, "stopped early")


@pytest.mark.parametrize("name", ["classes.in.dice", "classes.a.b.dice", "dice"])
def test_the_best_and_patience_go_by_the_measure_that_is_named(name):
    scores = [
        {"mean_iou": mean_iou, "dice": dice, "classes": {"in": {"dice": dice}, "a": {}, "a.b": {"dice": dice}}}
        for mean_iou, dice in ((0.9, 0.1), (0.8, 0.3), (0.7, 0.2), (0.6, 0.3), (0.5, 0.9))
    ]
    loop = Loop(scores, epochs=9, patience=2, select_by=name).run()
    assert [call for call in loop.calls if call.startswith("best")] == ["best 1", "best 2"]
    assert (loop.progress.step, loop.progress.best_score, loop.keeper.outcome) == (4, 0.3, "stopped early")
    assert [(event["select_by"], event["score"]) for event in loop.epochs] == [(name, s) for s in (0.1, 0.3, 0.2, 0.3)]


def test_an_undefined_measure_never_is_best():
    scores = [{"dice": value} for value in (None, 0.0, None, 0.5)]
    loop = Loop(scores, epochs=4, select_by="dice").run()
    assert [event["is_best"] for event in loop.epochs] == [False, True, False, True]
    assert [event["best_score"] for event in loop.epochs] == [None, 0.0, 0.0, 0.5]


def test_undefined_measures_use_up_the_patience():
    loop = Loop([{"dice": None}] * 9, epochs=9, patience=2, select_by="dice").run()
    assert (loop.progress.step, loop.progress.best_score, loop.keeper.outcome) == (2, None, "stopped early")


def test_a_measure_that_a_validation_does_not_give_is_refused():
    with pytest.raises(ConfigError, match=r"train\.select_by: dice, which the validation does not give"):
        Loop([{"mean_iou": 0.5}], epochs=1, select_by="dice").run()


def test_patience_goes_on_counting_where_a_checkpoint_left_it():
    first = Loop([0.5, 0.4], epochs=9, patience=3).run([1.0, 1.0])
    taken_up = Progress(**first.progress.facts())
    loop = Loop([0.3, 0.2, 0.1], epochs=9, patience=3, progress=taken_up).run()
    assert (loop.progress.step, loop.keeper.outcome) == (4, "stopped early")


def test_only_every_nth_epoch_and_the_last_are_validated():
    loop = Loop([0.1, 0.2, 0.3], epochs=5, validate_every=2).run()
    assert [call for call in loop.calls if call.startswith("validate")] == ["validate 2", "validate 4", "validate 5"]
    assert [event["validation"] is not None for event in loop.epochs] == [False, True, False, True, True]
    assert loop.keeper.outcome == "finished"


def test_an_epoch_is_validated_then_kept_if_best_then_saved():
    loop = Loop([0.5, 0.5, 0.6], epochs=3, steps_per_epoch=2).run()
    assert loop.calls == ["validate 2", "best 2", "last 2", "validate 4", "last 4", "validate 6", "best 6", "last 6"]
    assert [event["is_best"] for event in loop.epochs] == [True, False, True]


def test_an_interrupted_validation_leaves_its_epoch_open():
    loop = Loop([None], epochs=2, steps_per_epoch=2)
    loop.interruption.is_requested = True
    loop.run([1.0])
    assert (loop.calls, loop.stopped) == (["last 1"], True)  # in the middle of an epoch
    loop.run([3.0])
    assert loop.calls[1:] == ["validate 2", "last 2"]
    assert (loop.epochs, loop.progress.closed_epochs, loop.keeper.outcome) == ([], 0, None)

    later = Loop([0.7], epochs=2, steps_per_epoch=2, progress=Progress(**loop.progress.facts()))
    later.keeper.close_filled_epoch()
    assert [(event["epoch"], event["loss"], event["best_score"]) for event in later.epochs] == [(1, 2.0, 0.7)]
    later.keeper.close_filled_epoch()
    assert len(later.epochs) == 1


def test_a_run_whose_last_validation_is_open_has_not_finished():
    loop = Loop([None, 0.5], epochs=1).run()
    assert (loop.progress.step, loop.keeper.outcome) == (1, None)
    loop.keeper.close_filled_epoch()
    assert loop.keeper.outcome == "finished"


def test_an_epochs_loss_is_the_mean_of_its_own_steps():
    loop = Loop([0.1, 0.2], epochs=2, steps_per_epoch=3).run([1.0, 2.0, 6.0, 0.5, 0.5, 2.0])
    assert [event["loss"] for event in loop.epochs] == [3.0, 1.0]


def test_the_loss_is_found_where_a_loss_scale_brings_its_state_along():
    loop = Loop([0.1], epochs=1, steps_per_epoch=2)
    loop.run([1.0, 4.0], outputs=lambda loss: (Tensor(np.float32(loss)), Tensor(False), Tensor(np.float32(1024))))
    assert [event["loss"] for event in loop.events] == [1.0, 4.0, 2.5]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_no_step(loss):
    loop = Loop([0.5], epochs=2, steps_per_epoch=2)
    with pytest.raises(RunError, match=rf"loss is {loss} at step 4 of epoch 2, with a learning rate of 0\.1"):
        loop.run([1.0, 1.0, 1.0, loss])
    assert [event["step"] for event in loop.events if event["event"] == "step"] == [1, 2, 3]
    assert loop.calls[-1] == "last 2"


def test_the_keeper_is_a_callback_of_mindspore():
    keeper = Loop([], epochs=1).keeper
    assert isinstance(keeper, Callback)
    overridden = {name for name in vars(EpochKeeper) if name.startswith("on_")}
    assert overridden == {"on_train_step_begin", "on_train_step_end"} <= set(vars(Callback))


def test_progress_survives_json_as_it_was():
    progress = Progress(step=7, closed_epochs=1, best_score=0.1 + 0.2, stale=3, loss_sum=1 / 3)
    assert Progress(**progress.facts()) == progress


def test_steps_are_the_batches_from_start_to_stop():
    steps = Steps({step: f"batch {step}" for step in range(10)}, 4, 7)
    assert len(steps) == 3
    assert [steps[index] for index in range(3)] == ["batch 4", "batch 5", "batch 6"]


def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored():
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interruption.is_requested
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_flag_and_the_second_is_as_before(number):
    calls = []
    before = signal.signal(number, lambda *_: calls.append(number))
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), number)
            assert (interruption.is_requested, calls) == (True, [])
            os.kill(os.getpid(), number)
            assert calls == [number]
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("is_signalled", [False, True])
def test_an_interruption_is_over_with_its_block(is_signalled):
    interruption = Interruption()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interruption:
        assert signal.getsignal(signal.SIGINT) != handlers[0]
        if is_signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.is_requested == is_signalled
    assert not interruption.is_requested
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
