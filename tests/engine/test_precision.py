"""Mixed precision and the loss scale: what is refused, what is computed, and that a scale changes no bit."""

from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, amp, nn, ops

from unetcli.config import OptimizerSettings
from unetcli.engine import precision
from unetcli.engine.checkpoint import read_checkpoint
from unetcli.engine.compiling import graph_key
from unetcli.engine.device import set_up
from unetcli.engine.optimization import build_optimizer
from unetcli.engine.precision import (
    MOST_SKIPPED,
    OverflowWatch,
    Scaling,
    check_precision,
    loss_scaling,
    with_precision,
)
from unetcli.engine.stepping import LARGEST_SCALE, TrainStep
from unetcli.errors import DeviceError, RunError
from unetcli.models import build_loss, build_model

RATES = np.array([0.5, 0.25, 0.125, 0.5, 0.25, 0.125, 0.5, 0.25], np.float32)


class Quadratic(nn.Cell):
    """The mean squared distance of a line's prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = ms.Parameter(Tensor([1.0, -2.0, 3.0], ms.float32), name="weight")

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return (((x * self.weight).sum(1) - y) ** 2).mean()


def make_step(scaling, *, accumulation=1, **optimizer):
    network = Quadratic()
    rule = build_optimizer(OptimizerSettings(**{"name": "sgd"} | optimizer), RATES, network.trainable_params())
    return TrainStep(network, rule, accumulation=accumulation, scaling=scaling).set_train()


@pytest.fixture(autouse=True)
def in_graphs():
    set_up("CPU", seed=1)


def values_of(cell) -> dict[str, np.ndarray]:
    return {name: parameter.asnumpy().copy() for name, parameter in cell.parameters_dict().items()}


@pytest.fixture
def batch(rng):
    return Tensor(rng.normal(size=(4, 3)).astype(np.float32)), Tensor(rng.normal(size=4).astype(np.float32))


@pytest.fixture
def batch_of_images(rng):
    images = rng.normal(size=(2, 1, 16, 16)).astype(np.float32)
    return Tensor(images), Tensor((images[:, 0] > 0.5).astype(np.int32))


HUGE = (Tensor(np.full((4, 3), 1e18, np.float32)), Tensor(np.zeros(4, np.float32)))
"""Its loss is finite, and its gradients are not when they are 256 times as large or more."""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip_norm": 0.1},
        {"accumulation": 2},
        {"accumulation": 4, "clip_norm": 0.1, "weight_decay": 0.1, "nesterov": True},
    ],
    ids=str,
)
def test_one_step_of_sgd_with_a_scale_of_1_and_of_1024_gives_equal_weights(settings, batch):
    left = []
    for scaling in (Scaling(1.0), Scaling(1024.0), None):
        step = make_step(scaling, **settings)
        before = values_of(step)["weight"]
        loss = step(*batch)
        left.append((float((loss[0] if scaling else loss).asnumpy()), *values_of(step)["weight"]))
        assert np.abs(left[-1][1:] - before).min() > 1e-3
    assert len(set(left)) == 1


def test_adam_with_a_scale_moves_as_without(batch):
    left = []
    for scaling in (None, Scaling(1000.0)):
        step = make_step(scaling, name="adamw", accumulation=2, clip_norm=0.5, weight_decay=0.1)
        for _ in range(3):
            step(*batch)
        left.append(values_of(step))
    for key, value in left[0].items():
        np.testing.assert_allclose(left[1][key], value, rtol=1e-5, err_msg=key)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_fixed_scale_is_that_of_mindspore_bit_for_bit(name, batch):
    """So that a run of version 0.3 goes on with the same values."""
    network, constants = Quadratic(), {"weight_decay": 0.1, "loss_scale": 256.0}
    rates = Tensor(RATES)
    if name == "adam":
        rule = nn.Adam(network.trainable_params(), rates, **constants)
    else:
        rule = nn.SGD(network.trainable_params(), rates, momentum=0.9, **constants)
    manager = amp.FixedLossScaleManager(256.0, drop_overflow_update=False)
    theirs = ms.Model(network, optimizer=rule, loss_scale_manager=manager).train_network.set_train()
    ours = make_step(Scaling(256.0), name=name, weight_decay=0.1)
    for _ in range(3):
        theirs(*batch)
        ours(*batch)
    expected, found = values_of(theirs), values_of(ours)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.parametrize("scaling", [Scaling(1024.0), Scaling(1024.0, window=5)])
def test_an_overflow_leaves_weights_and_moments_and_takes_the_step(scaling, batch):
    step = make_step(scaling, name="adamw", weight_decay=0.1)
    step(*batch)
    before = values_of(step)
    loss, is_overflow, scale = step(*HUGE)
    assert np.isfinite(loss.asnumpy())
    assert (bool(is_overflow.asnumpy()), float(scale.asnumpy())) == (True, 1024)
    after = values_of(step)
    differing = {name for name in after if not np.array_equal(after[name], before[name])}
    assert differing == {"global_step"} | ({"loss_scale", "good_steps"} if scaling.window else set())
    assert after["global_step"] == before["global_step"] + 1
    if scaling.window:
        assert (after["loss_scale"], after["good_steps"]) == (512, 0)
    _, is_overflow, _ = step(*batch)
    assert not is_overflow.asnumpy()
    assert not np.array_equal(values_of(step)["weight"], after["weight"])


def test_a_dynamic_scale_halves_and_doubles_and_a_skipped_step_uses_up_its_learning_rate(batch):
    step = make_step(Scaling(1024.0, window=2), momentum=0.0)
    weight, told = values_of(step)["weight"].astype(np.float64), []
    x, y = (tensor.asnumpy().astype(np.float64) for tensor in batch)
    for rate, is_good in zip(RATES, (1, 1, 0, 0, 1, 1, 1, 1), strict=True):
        _, is_overflow, scale = step(*(batch if is_good else HUGE))
        told.append((float(scale.asnumpy()), int(step.good_steps.asnumpy())))
        assert bool(is_overflow.asnumpy()) != is_good
        if is_good:
            weight = weight - rate / 2 * ((x @ weight - y) @ x)  # the mean of 4
    assert told == [(1024, 1), (1024, 0), (2048, 0), (1024, 0), (512, 1), (512, 0), (1024, 1), (1024, 0)]
    assert step.scale.asnumpy() == 2048
    np.testing.assert_allclose(values_of(step)["weight"], weight, rtol=1e-4)


def test_a_dynamic_scale_stays_between_1_and_its_limit(batch):
    low, high = make_step(Scaling(1.0, window=9)), make_step(Scaling(LARGEST_SCALE, window=1))
    low(Tensor(np.full((4, 3), np.inf, np.float32)), batch[1])
    high(*batch)
    assert (float(low.scale.asnumpy()), float(high.scale.asnumpy())) == (1.0, LARGEST_SCALE)


def test_a_step_goes_on_from_its_parameters_in_the_midst_of_a_window(batch):
    whole, first, second = (make_step(Scaling(1024.0, window=3), name="adam") for _ in range(3))
    kinds = [batch, HUGE, batch, batch, HUGE, batch, batch, batch]
    for kind in kinds:
        whole(*kind)
    for kind in kinds[:4]:
        first(*kind)
    ms.load_param_into_net(second, {name: ms.Parameter(value, name=name) for name, value in values_of(first).items()})
    assert second.good_steps.asnumpy() == 2
    for kind in kinds[4:]:
        second(*kind)
    expected, found = values_of(whole), values_of(second)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class Elsewhere(nn.Cell):
    """The sum over the devices where another one has overflowed."""

    def construct(self, overflows: Tensor) -> Tensor:
        return overflows + 1.0


def test_an_overflow_on_another_device_is_one_here(batch):
    step = make_step(Scaling(8.0, window=3))
    step.sum_over_devices = Elsewhere()
    before = values_of(step)["weight"]
    _, is_overflow, _ = step(*batch)
    assert bool(is_overflow.asnumpy())
    np.testing.assert_array_equal(values_of(step)["weight"], before)
    assert step.scale.asnumpy() == 4


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"optimizer__loss_scale": 256.0}, Scaling(256.0)),
        ({"optimizer__loss_scale": "dynamic"}, Scaling(2.0**16, 2000)),
        ({"train__amp": "O2"}, Scaling(2.0**16, 2000)),
        ({"train__amp": "auto", "optimizer__loss_scale_window": 500}, Scaling(2.0**16, 500)),
        ({"train__amp": "O3", "optimizer__loss_scale": 1024.0}, Scaling(1024.0)),
    ],
)
def test_the_scale_is_what_is_set_and_dynamic_where_float16_has_none(toy_config, settings, expected):
    assert loss_scaling(toy_config(**settings)) == expected


@pytest.mark.parametrize("level", ["O1", "O2", "O3", "auto"])
def test_a_cpu_refuses_every_level_but_o0_by_name(toy_config, start, toy_batches, tmp_path, level):
    with pytest.raises(DeviceError, match=rf"^train\.amp {level}: not on CPU") as caught:
        check_precision(toy_config(train__amp=level), "CPU")
    assert caught.value.exit_code == 5
    assert "--amp O0" in caught.value.hint
    for device in ("GPU", "Ascend"):
        check_precision(toy_config(train__amp=level), device)
    check_precision(toy_config(), "CPU")
    engine = start(train__amp=level)  # such a run may still predict
    with pytest.raises(DeviceError, match=level):
        engine.fit(toy_batches(), dict, lambda _: None, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", ["O0", "O1", "O2", "O3", "auto"])
def test_the_level_that_is_set_is_what_mindspore_is_given(start, monkeypatch, level):
    given = []
    monkeypatch.setattr("unetcli.engine.check_precision", lambda *_: None)
    monkeypatch.setattr(precision.amp, "auto_mixed_precision", lambda network, level: given.append(level) or network)
    monkeypatch.setattr(precision, "_with_layers_in_float16", lambda network: given.append("O1") or network)
    engine = start(train__amp=level)
    step = engine._build_training(RATES).train_network
    assert given == ([] if level == "O0" else [level])
    assert type(step) is (nn.TrainOneStepCell if level == "O0" else TrainStep)
    weights = engine._network.parameters_dict()
    assert all(parameter is weights[name] for name, parameter in step.network.parameters_dict().items())


def test_at_o2_loss_weights_and_what_predicts_stay_in_float32(start, toy_batches, tmp_path, monkeypatch):
    monkeypatch.setattr("unetcli.engine.check_precision", lambda *_: None)
    engine, plain = start(train__amp="O2", train__epochs=1, loss__dice=1.0), start()
    tiles, losses, scores = toy_batches()[0][0], [], []
    np.testing.assert_array_equal(engine.predict(tiles), plain.predict(tiles))

    def validate():
        scores.append(engine.predict(tiles))
        return {"mean_iou": 0.5}

    engine.fit(toy_batches(), validate, lambda event: losses.append(event["loss"]), tmp_path)
    assert scores[0].dtype == np.float32
    assert np.isfinite(losses).all()
    tensors, _ = read_checkpoint(tmp_path / "last.ckpt")
    assert {tensor.dtype for tensor in tensors.values()} == {ms.float32, ms.int32}
    assert tensors["loss_scale"].asnumpy() <= 2**16
    assert not np.array_equal(scores[0], plain.predict(tiles))
    plain.load(tmp_path / "best.ckpt")  # a run in float32 takes its weights, and scores the same
    np.testing.assert_array_equal(plain.predict(tiles), scores[0])


class Gradients(nn.Cell):
    """Those of a network's weights, at a scale of 1024."""

    def __init__(self, network, loss, weights):
        super().__init__(auto_prefix=False)
        self.network = nn.WithLossCell(network, loss)
        self.weights = ms.ParameterTuple(weights)
        self.grad = ops.GradOperation(get_by_list=True, sens_param=True)

    def construct(self, x: Tensor, y: Tensor):
        return self.grad(self.network, self.weights)(x, y, Tensor(1024.0, ms.float32))


def test_a_network_in_mixed_precision_has_about_the_gradients_of_that_in_float32(toy_config, batch_of_images):
    config = toy_config(loss__dice=1.0)
    network, loss = build_model(config.model, seed=1), build_loss(config.loss, num_classes=2)

    def gradients_of(kind):
        gradients = Gradients(kind, loss, network.trainable_params()).set_train()(*batch_of_images)
        assert {gradient.dtype for gradient in gradients} == {ms.float32}
        values = np.concatenate([gradient.asnumpy().ravel() for gradient in gradients])
        return values / np.linalg.norm(values)

    full = gradients_of(network)
    for level in ("O1", "O2", "auto"):
        mixed = gradients_of(with_precision(network, build_model(config.model, seed=2), level))
        assert not np.array_equal(mixed, full)
        assert mixed @ full > 0.99, level


def test_o1_has_convolutions_in_float16_and_o2_all_but_batch_normalisation(toy_config):
    settings = toy_config().model
    for level, halved in (("O1", {"Conv2d", "Conv2dTranspose"}), ("O2", {"Conv2d", "Conv2dTranspose", "ReLU"})):
        mixed = with_precision(build_model(settings, seed=1), build_model(settings, seed=2), level)
        layers = [cell for _, cell in mixed.cells_and_names()]
        found = {type(cell).__name__ for cell in layers if getattr(cell, "fp16", False)}
        assert found & {"Conv2d", "Conv2dTranspose", "ReLU", "BatchNorm2d"} == halved


def test_what_changes_a_step_changes_the_key_of_its_graph(start):
    def key_of(**settings):
        step = start(**settings)._build_training(RATES).train_network.set_train()
        images, labels = np.zeros((4, 1, 16, 16), np.float32), np.zeros((4, 16, 16), np.int32)
        return graph_key(step, (Tensor(images), Tensor(labels)), {})

    keys = [
        key_of(**settings)
        for settings in (
            {},
            {"train__accumulation": 2},
            {"train__accumulation": 4},
            {"optimizer__loss_scale": 256.0},
            {"optimizer__loss_scale": 512.0},
            {"optimizer__loss_scale": 256.0, "train__accumulation": 2},
            {"optimizer__loss_scale": "dynamic"},
            {"optimizer__loss_scale": "dynamic", "optimizer__loss_scale_window": 7},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert key_of() == keys[0]


def told(outputs):
    """What a callback is given after a step."""
    return SimpleNamespace(original_args=lambda: SimpleNamespace(net_outputs=outputs))


def test_a_training_that_skips_step_after_step_is_ended():
    watch, scale = OverflowWatch(), Tensor(1.0, ms.float32)
    bad, good = ((Tensor(0.5), Tensor(is_overflow), scale) for is_overflow in (True, False))
    for outputs in (*[bad] * (MOST_SKIPPED - 1), good, *[bad] * (MOST_SKIPPED - 1), Tensor(0.5)):
        watch.on_train_step_end(told(outputs))
    with pytest.raises(RunError, match=r"not finite in 50 steps in a row, with a loss scale of 1$"):
        watch.on_train_step_end(told(bad))
