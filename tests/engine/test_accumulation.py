"""Gradients of several batches in one step: they must be those of one large batch, and nothing may get lost."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from watching import WATCHING

from unetcli.config import LossSettings, OptimizerSettings
from unetcli.engine.device import set_up
from unetcli.engine.optimization import build_optimizer
from unetcli.engine.stepping import TrainStep, build_trainer
from unetcli.models import build_loss

RATES = np.array([0.5, 0.25, 0.125], np.float32)
TIMES = 3


@pytest.fixture(autouse=True)
def in_graphs():
    set_up("CPU", seed=1)


def values_of(cell) -> dict[str, np.ndarray]:
    return {name: parameter.asnumpy().copy() for name, parameter in cell.parameters_dict().items()}


class Small(nn.Cell):
    """Two convolutions."""

    def __init__(self, norm: str) -> None:
        super().__init__()
        weights = np.random.default_rng(1).normal(0, 0.3, 72).astype(np.float32)
        self.conv1 = nn.Conv2d(1, 4, 3, weight_init=Tensor(weights[:36].reshape(4, 1, 3, 3)))
        self.norm = nn.BatchNorm2d(4) if norm == "batch" else nn.Identity()
        self.conv2 = nn.Conv2d(4, 2, 3, weight_init=Tensor(weights.reshape(2, 4, 3, 3)))

    def construct(self, x: Tensor) -> Tensor:
        return self.conv2(ops.relu(self.norm(self.conv1(x))))


def small_step(optimizer, *, accumulation=1, norm="none", is_weighted=False):
    network = Small(norm)
    rule = build_optimizer(OptimizerSettings(**optimizer), RATES, network.trainable_params())
    loss = build_loss(LossSettings(dice=1.0), num_classes=2)
    trainer = build_trainer(network, loss, rule, accumulation=accumulation, is_weighted=is_weighted)
    return trainer.train_network.set_train()


@pytest.fixture
def large(rng):
    images = rng.normal(size=(2 * TIMES, 1, 16, 16)).astype(np.float32)
    return Tensor(images), Tensor((images[:, 0] > 0.5).astype(np.int32))


def test_batches_added_up_are_one_large_batch(large):
    optimizer = {"name": "sgd", "weight_decay": 0.1, "clip_norm": 0.2}
    whole, parts = small_step(optimizer), small_step(optimizer, accumulation=TIMES)
    start = values_of(whole)
    for _ in RATES:
        np.testing.assert_allclose(parts(*large).asnumpy(), whole(*large).asnumpy(), rtol=1e-5)
    expected, found = values_of(whole), values_of(parts)
    assert found.keys() == expected.keys()
    assert any(np.abs(expected[name] - start[name]).max() > 1e-2 for name in start if "conv" in name)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, rtol=1e-5, err_msg=name)


def test_batch_normalisation_sees_each_batch_by_itself(large):
    parts = small_step({"name": "sgd", "learning_rate": 1e-3}, accumulation=TIMES, norm="batch")
    one = small_step({"name": "sgd", "learning_rate": 1e-3}, norm="batch")
    images, labels = (tensor.asnumpy() for tensor in large)
    weights = values_of(one)
    parts(*large)
    # without a step in between, the running statistics are those of three batches in a row
    for number in range(TIMES):
        one(Tensor(images[2 * number : 2 * number + 2]), Tensor(labels[2 * number : 2 * number + 2]))
        for name, value in one.parameters_dict().items():
            if "moving" not in name:
                value.set_data(Tensor(weights[name]))
    found = values_of(parts)
    statistics = [name for name in found if "moving" in name]
    assert statistics
    for name in statistics:
        np.testing.assert_allclose(found[name], one.parameters_dict()[name].asnumpy(), atol=1e-6, err_msg=name)


def test_weighed_batches_added_up_are_one_large_batch(large, rng):
    weights = Tensor(rng.random(large[1].shape, np.float32) * 3)
    optimizer = {"name": "sgd", "clip_norm": 0.2}
    whole = small_step(optimizer, is_weighted=True)
    parts = small_step(optimizer, accumulation=TIMES, is_weighted=True)
    plain = small_step(optimizer)
    for _ in RATES:
        loss = parts(*large, weights).asnumpy()
        np.testing.assert_allclose(loss, whole(*large, weights).asnumpy(), rtol=1e-5)
        assert plain(*large).asnumpy() != loss
    expected = values_of(whole)
    for name, value in values_of(parts).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-6, rtol=1e-5, err_msg=name)


class Line(nn.Cell):
    """The mean of a line's values: its gradient is the mean of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = ms.Parameter(Tensor([1.0, 2.0], ms.float32), name="weight")

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return (x * self.weight).sum(1).mean() + y.mean()


def test_a_step_moves_by_the_mean_gradient_and_tells_the_mean_loss():
    network = Line()
    optimizer = build_optimizer(OptimizerSettings(name="sgd", momentum=0.0), RATES, network.trainable_params())
    step = TrainStep(network, optimizer, accumulation=4).set_train()
    x = np.array([[1, 0], [3, 0], [0, 2], [0, 2], [8, 0], [0, 0], [0, 4], [0, 8]], np.float32)
    loss = step(Tensor(x), Tensor(np.zeros(8, np.float32)))
    assert loss.asnumpy() == 5.5  # (2 + 4 + 4 + 12) / 4
    np.testing.assert_array_equal(network.weight.asnumpy(), [1 - 0.5 * 1.5, 2 - 0.5 * 2.0])
    assert optimizer.global_step.asnumpy() == 1


WORKER = (
    WATCHING
    + """
    import hashlib, json, os, signal, sys
    class Batches:
        steps_per_epoch = 3
        patches_per_step = 4

        def __getitem__(self, step):
            rng = np.random.default_rng(step)
            return rng.normal(size=(4, 1, 16, 16)).astype(np.float32), rng.integers(0, 2, (4, 16, 16)).astype(np.int32)

    graphs, folder, stop_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    options = {"model.in_channels": 1, "model.num_classes": 2, "model.base_channels": 2, "model.depth": 2,
               "model.dropout": 0.3, "data.patch_size": (16, 16), "train.batch_size": 2, "train.epochs": 2,
               "train.accumulation": 2, "optimizer.loss_scale": "dynamic", "optimizer.loss_scale_window": 4}
    engine = Engine.start(load_config(options=options), Runtime("CPU", graphs))
    if (folder / "last.ckpt").exists():
        engine.load(folder / "last.ckpt")

    def record(event):
        if event["event"] == "step" and event["step"] == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    engine.fit(Batches(), lambda: {"mean_iou": 0.5}, record, folder)
    tensors, facts = read_checkpoint(folder / "last.ckpt")
    values = {name: tensor.asnumpy() for name, tensor in tensors.items()}
    digests = {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in values.items()}
    scale = [float(values[name]) for name in ("loss_scale", "good_steps")]
    print(json.dumps({"taken": taken, "step": engine.step, "scale": scale, "left": [digests, facts]}))
"""
)


def test_a_run_that_is_torn_in_a_window_and_takes_kept_graphs_ends_with_the_same_values(tmp_path):
    def work(name, stop_at=0):
        (tmp_path / name).mkdir(exist_ok=True)
        arguments = [str(tmp_path / "graphs"), str(tmp_path / name), str(stop_at)]
        code = textwrap.dedent(WORKER)
        done = subprocess.run([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    whole, half, torn = work("whole"), work("torn", stop_at=2), work("torn")
    assert [run["taken"] for run in (whole, half, torn)] == [[False], [True], [True]]
    assert half["scale"] == [2**16, half["step"]]
    assert 2 <= half["step"] < 4
    assert whole["scale"] == [2**17, 2]
    assert torn["left"] == whole["left"]
