from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor

from unetcli.engine.checkpoint import read_checkpoint
from unetcli.errors import RunError

# dropout and batch normalisation keep state of their own, and the warm-up outlasts every interruption
HARD_TO_RESUME = {
    "model__dropout": 0.3,
    "optimizer__name": "adamw",
    "optimizer__weight_decay": 0.01,
    "schedule__warmup_steps": 10,
}
SCORES = (0.3, 0.2, 0.6)


@dataclass
class Outcome:
    """What a training left behind."""

    result: Any
    tensors: dict[str, np.ndarray]
    events: list[dict[str, Any]] = field(default_factory=list)

    def of_kind(self, kind):
        timing = {"seconds", "images_per_second", "wait_share"}
        return [
            {name: value for name, value in event.items() if name not in timing}
            for event in self.events
            if event["event"] == kind
        ]


def tensors_of(path):
    return {name: tensor.asnumpy() for name, tensor in read_checkpoint(path)[0].items()}


def score(step):
    return {"mean_iou": SCORES[step // 4 - 1]}


def kill_at(step, number, events):
    def record(event):
        events.append(event)
        if event["event"] == "step" and event["step"] == step:
            os.kill(os.getpid(), number)

    return record


@pytest.fixture(scope="module")
def plain(start, toy_batches, tmp_path_factory):
    """Twelve steps in one go, with validations that leave the network alone."""
    folder, events, best = tmp_path_factory.mktemp("plain"), [], []
    engine = start(**HARD_TO_RESUME)

    def record(event):
        events.append(event)
        if event["event"] == "epoch":
            best.append((folder / "best.ckpt").read_bytes())

    result = engine.fit(toy_batches(), lambda: score(engine.step), record, folder)
    outcome = Outcome(result, tensors_of(folder / "last.ckpt"), events)
    outcome.folder, outcome.best, outcome.engine = folder, best, engine
    return outcome


@pytest.fixture(scope="module")
def resumed(start, toy_batches, tmp_path_factory):
    """The same run, torn three times: in an epoch, in a validation, and by its own end, after which it grows."""
    folder, events, results = tmp_path_factory.mktemp("resumed"), [], []
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def go_on(epochs, record, *, interrupt_validation_at=None):
        engine = start(**HARD_TO_RESUME, train__epochs=epochs)
        if (folder / "last.ckpt").exists():
            engine.load(folder / "last.ckpt")

        def validate():
            if engine.step == interrupt_validation_at:
                os.kill(os.getpid(), signal.SIGINT)
                engine.predict(np.zeros((1, 1, 16, 16), np.float32))
            return score(engine.step)

        results.append((engine.fit(toy_batches(), validate, record, folder), len(events)))

    go_on(2, kill_at(3, signal.SIGTERM, events))
    go_on(2, events.append, interrupt_validation_at=8)
    go_on(2, events.append)
    go_on(3, events.append)
    outcome = Outcome(results, tensors_of(folder / "last.ckpt"), events)
    outcome.handlers_kept = handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    outcome.folder = folder
    return outcome


def test_the_loss_falls_and_every_step_is_recorded(plain):
    steps = plain.of_kind("step")
    assert [(event["step"], event["epoch"]) for event in steps] == [(n, (n + 3) // 4) for n in range(1, 13)]
    losses = [event["loss"] for event in steps]
    assert np.all(np.isfinite(losses))
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    np.testing.assert_allclose(
        [event["learning_rate"] for event in steps], 0.02 * np.minimum(np.arange(12) / 10, 1), rtol=1e-6
    )


def test_the_optimiser_moves_at_the_recorded_rate(plain):
    assert plain.tensors["global_step"] == 12
    assert plain.of_kind("step")[0]["learning_rate"] == 0


def test_epochs_are_recorded_with_their_mean_loss_and_scores(plain):
    losses = [event["loss"] for event in plain.of_kind("step")]
    epochs = plain.of_kind("epoch")
    assert [event.pop("loss") for event in epochs] == pytest.approx(
        [np.mean(losses[n : n + 4]) for n in (0, 4, 8)], rel=1e-12
    )
    assert [event.pop("learning_rate") for event in epochs] == pytest.approx([0.006, 0.014, 0.02])
    assert epochs == [
        {
            "event": "epoch",
            "epoch": n + 1,
            "step": 4 * n + 4,
            "validation": {"mean_iou": SCORES[n]},
            "select_by": "mean_iou",
            "score": SCORES[n],
            "is_best": is_best,
            "best_score": best,
        }
        for n, is_best, best in ((0, True, 0.3), (1, False, 0.3), (2, True, 0.6))
    ]
    timed = [event for event in plain.events if event["event"] == "epoch"]
    assert all(event["images_per_second"] > 0 and 0 <= event["wait_share"] <= 1 for event in timed)


def test_the_best_checkpoint_changes_only_with_a_higher_score(plain):
    first, second, third = plain.best
    assert first == second
    assert first != third
    best = tensors_of(plain.folder / "best.ckpt")
    assert set(best) < set(plain.tensors)
    for name, values in best.items():
        np.testing.assert_array_equal(values, plain.tensors[name])


def test_a_finished_run_says_so_and_the_checkpoints_are_all_it_leaves(plain):
    assert (plain.result.step, plain.result.best_score, plain.result.outcome) == (12, 0.6, "finished")
    assert sorted(path.name for path in plain.folder.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_finished_run_is_left_as_it_is(plain, start, toy_batches):
    engine = start(**HARD_TO_RESUME)
    engine.load(plain.folder / "last.ckpt")
    before = (plain.folder / "last.ckpt").stat().st_mtime_ns
    events = []
    result = engine.fit(toy_batches(), dict, events.append, plain.folder)
    assert (result, events) == (plain.result, [])
    assert (plain.folder / "last.ckpt").stat().st_mtime_ns == before


def test_training_does_not_go_on_from_weights_alone(plain, start, toy_batches):
    engine = start(**HARD_TO_RESUME, train__epochs=4)
    engine.load(plain.folder / "best.ckpt")
    with pytest.raises(RunError, match="step 12 with weights alone"):
        engine.fit(toy_batches(), dict, list, plain.folder)


def test_a_torn_run_ends_bit_for_bit_like_one_in_one_go(plain, resumed):
    assert set(resumed.tensors) == set(plain.tensors)
    assert {"moment1.head.weight", "moment2.head.weight", "beta1_power", "global_step"} <= set(plain.tensors)
    assert any(name.endswith("calls") for name in plain.tensors)
    for name, values in plain.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[name], values, err_msg=name)


def test_a_torn_run_records_what_one_in_one_go_does(plain, resumed):
    assert resumed.of_kind("step") == plain.of_kind("step")
    assert resumed.of_kind("epoch") == plain.of_kind("epoch")


def test_every_tear_is_told_and_leaves_the_signals_as_they_were(resumed):
    assert [(result.step, result.outcome) for result, _ in resumed.result] == [
        (3, "interrupted"),
        (8, "interrupted"),
        (8, "finished"),
        (12, "finished"),
    ]
    # eight steps and one epoch; the other, whose validation was torn, is closed when the run is taken up
    assert [num_events for _, num_events in resumed.result] == [3, 9, 10, 15]
    assert resumed.events[9]["event"] == "epoch"
    assert resumed.handlers_kept


def test_predictions_between_the_steps_do_not_change_the_training(plain, start, toy_batches, tmp_path):
    engine = start(**HARD_TO_RESUME)
    tiles = toy_batches()[0][0]

    def validate():
        engine.predict(tiles)
        return score(engine.step)

    def record(event):
        if event["event"] == "step" and event["step"] == 2:
            engine.predict(tiles)

    engine.fit(toy_batches(), validate, record, tmp_path)
    for name, values in tensors_of(tmp_path / "last.ckpt").items():
        np.testing.assert_array_equal(values, plain.tensors[name], err_msg=name)


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_epoch_before(start, toy_batches, tmp_path):
    class Short(toy_batches):
        steps_per_epoch = 2

    engine = start()

    def record(event):
        if event["event"] == "step" and event["step"] == 3:
            engine._network.head.bias.set_data(Tensor(np.full(2, np.nan, np.float32)))

    with pytest.raises(RunError, match=r"loss is nan at step 4 of epoch 2, with a learning rate of 0\.02") as caught:
        engine.fit(Short(), lambda: {"mean_iou": 0.5}, record, tmp_path)
    assert "last.ckpt holds epoch 1" in caught.value.hint
    tensors, facts = read_checkpoint(tmp_path / "last.ckpt")
    assert facts["progress"]["step"] == 2
    assert all(np.isfinite(tensor.asnumpy()).all() for tensor in tensors.values())


def test_the_loss_scale_changes_no_step(start, toy_batches, tmp_path):
    class Two(toy_batches):
        steps_per_epoch = 3

    left = []
    for scale in (None, 1024.0):
        engine = start(optimizer__name="sgd", optimizer__loss_scale=scale, train__epochs=1, optimizer__clip_norm=0.1)
        before = engine.predict(toy_batches()[0][0])
        engine.fit(Two(), lambda: {"mean_iou": 0.5}, lambda _: None, tmp_path)
        left.append(tensors_of(tmp_path / "best.ckpt"))
        assert np.abs(engine.predict(toy_batches()[0][0]) - before).max() > 1e-4
    for name, values in left[0].items():
        np.testing.assert_allclose(left[1][name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_scores_sum_to_one_and_are_the_same_every_time(plain, rng):
    tiles = rng.normal(size=(3, 1, 16, 16)).astype(np.float32)
    scores = plain.engine.predict(tiles)
    assert (scores.shape, scores.dtype) == ((3, 2, 16, 16), np.float32)
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(plain.engine.predict(tiles), scores)


def test_tiles_are_scored_alike_together_and_alone(plain, rng):
    tiles = rng.normal(size=(3, 1, 16, 16)).astype(np.float32)
    alone = np.concatenate([plain.engine.predict(tile[None]) for tile in tiles])
    np.testing.assert_allclose(plain.engine.predict(tiles), alone, atol=1e-6)


def test_both_checkpoints_predict_like_the_engine_that_wrote_them(plain, start, toy_batches):
    tiles = toy_batches()[5][0]
    expected = plain.engine.predict(tiles)
    engine = start(**HARD_TO_RESUME)
    assert not np.allclose(engine.predict(tiles), expected)
    for name in ("last.ckpt", "best.ckpt"):
        engine.load(plain.folder / name)
        np.testing.assert_array_equal(engine.predict(tiles), expected)
    assert engine.step == 12


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        # every tensor of the shallower network is in the file of the deeper one, with its shape
        ({"model__depth": 3, "data__patch_size": (16, 16)}, "depth 2 for 3"),
        ({"model__architecture": "unet_valid", "data__patch_size": (20, 20)}, "architecture unet for unet_valid"),
        ({"model__base_channels": 3}, "base_channels 2 for 3"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(plain, start, settings, told, name):
    engine = start(**HARD_TO_RESUME | settings)
    with pytest.raises(RunError, match=rf"{name}.*{told}"):
        engine.load(plain.folder / name)


def test_training_and_a_graph_that_fails_leave_nothing_in_the_working_folder(tmp_path):
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from unetcli.framework import prepare_process
        prepare_process()
        from unetcli.config import load_config
        from unetcli.engine import Engine, Runtime

        class Batches:
            steps_per_epoch = 1
            patches_per_step = 2

            def __init__(self, num_channels):
                self.num_channels = num_channels

            def __getitem__(self, step):
                return np.zeros((1, self.num_channels, 8, 8), np.float32), np.zeros((1, 8, 8), np.int32)

        options = {"model.in_channels": 1, "model.num_classes": 2, "model.base_channels": 2, "model.depth": 2,
                   "data.patch_size": (8, 8), "train.epochs": 1}
        for num_channels in (1, 2):
            engine = Engine.start(load_config(options=options), Runtime("CPU"))
            engine.fit(Batches(num_channels), lambda: {"mean_iou": 0.5}, lambda event: None, Path("run"))
            print("trained", file=sys.stderr, flush=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    before, trained, after = done.stderr.partition("trained\n")
    assert (before, trained, done.stdout) == ("", "trained\n", "")
    assert done.returncode == 1
    assert "Conv2D" in after
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["best.ckpt", "last.ckpt"]
