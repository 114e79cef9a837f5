from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mindspore import Tensor, nn

from unetcli.config import OptimizerSettings, ScheduleSettings
from unetcli.engine.optimization import build_optimizer, learning_rates
from unetcli.engine.precision import Scaling
from unetcli.engine.stepping import TrainStep

RATES = np.array([0.1, 0.05, 0.02, 0.01, 0.01], np.float32)


class Quadratic(nn.Cell):
    """Half the squared distance of a line's prediction; its gradient changes with the weights."""

    def __init__(self, start: np.ndarray) -> None:
        super().__init__()
        self.weight = ms.Parameter(Tensor(start), name="weight")

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return (((x * self.weight).sum(1) - y) ** 2).mean()


def train_ours(settings: OptimizerSettings, batches, start) -> np.ndarray:
    network = Quadratic(start.copy())
    optimizer = build_optimizer(settings, RATES, network.trainable_params())
    if settings.loss_scale:
        step = TrainStep(network, optimizer, scaling=Scaling(settings.loss_scale))
    else:
        step = nn.TrainOneStepCell(network, optimizer)
    step.set_train()
    for x, y in batches:
        step(Tensor(x), Tensor(y))
    return network.weight.asnumpy()


def train_torch(settings: OptimizerSettings, batches, start) -> np.ndarray:
    weight = torch.tensor(start.copy(), requires_grad=True)
    rate, decay = 1.0, settings.weight_decay
    match settings.name:
        case "adam":
            optimizer = torch.optim.Adam([weight], lr=rate, weight_decay=decay)
        case "adamw":
            optimizer = torch.optim.AdamW([weight], lr=rate, weight_decay=decay)
        case "sgd":
            optimizer = torch.optim.SGD(
                [weight], lr=rate, momentum=settings.momentum, weight_decay=decay, nesterov=settings.nesterov
            )
    for (x, y), step_rate in zip(batches, RATES, strict=True):
        optimizer.param_groups[0]["lr"] = float(step_rate)
        optimizer.zero_grad()
        (((torch.tensor(x) * weight).sum(1) - torch.tensor(y)) ** 2).mean().backward()
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_([weight], settings.clip_norm)
        optimizer.step()
    return weight.detach().numpy()


@pytest.fixture
def batches(rng):
    return [(rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=4).astype(np.float32)) for _ in RATES]


@pytest.mark.parametrize("loss_scale", [None, 1024.0])
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adam"},
        {"name": "adam", "weight_decay": 0.1},
        {"name": "adamw", "weight_decay": 0.1},
        {"name": "adamw", "weight_decay": 0.1, "clip_norm": 0.5},
        {"name": "sgd", "momentum": 0.9},
        {"name": "sgd", "momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
        {"name": "sgd", "momentum": 0.5, "clip_norm": 0.5},
    ],
    ids=str,
)
def test_steps_equal_pytorch_with_and_without_loss_scale(settings, loss_scale, batches):
    start = np.array([1.0, -2.0, 3.0], np.float32)
    checked = OptimizerSettings(**settings, loss_scale=loss_scale)
    np.testing.assert_allclose(
        train_ours(checked, batches, start), train_torch(checked, batches, start), rtol=2e-5, atol=2e-6
    )


def test_cosine_by_hand():
    rates = learning_rates(ScheduleSettings(name="cosine", warmup_steps=2, warmup_ratio=0.5), 1.0, 7)
    np.testing.assert_allclose(rates, [0.5, 0.75, 1.0, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0.0], atol=1e-7)


def test_polynomial_and_constant_by_hand():
    np.testing.assert_allclose(
        learning_rates(ScheduleSettings(name="polynomial", power=2, final_ratio=0.2), 10.0, 3), [10.0, 4.0, 2.0]
    )
    np.testing.assert_array_equal(learning_rates(ScheduleSettings(name="constant"), 3.0, 4), [3.0] * 4)


@given(
    name=st.sampled_from(["constant", "cosine", "polynomial"]),
    num_steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_rates_rise_to_the_peak_then_never_rise_again(name, num_steps, warmup, start, final):
    settings = ScheduleSettings(name=name, warmup_steps=warmup, warmup_ratio=start, final_ratio=final)
    rates = learning_rates(settings, 0.5, num_steps)
    assert rates.shape == (num_steps,)
    assert np.all(rates >= 0)
    assert np.all(rates <= 0.5)
    assert np.all(np.diff(rates[: warmup + 1]) >= 0)
    assert np.all(np.diff(rates[warmup:]) <= 1e-7)


def test_the_cosine_of_the_zoo_ends_at_three_percent_and_ours_at_nothing():
    settings = ScheduleSettings(name="cosine_zoo", warmup_steps=120, warmup_ratio=0.3)
    zoo = learning_rates(settings, 5e-4, 1100)
    ours = learning_rates(settings.model_copy(update={"name": "cosine"}), 5e-4, 1100)

    by_hand = [
        5e-4 * (0.3 + 0.7 * i / 120) if i < 120 else 5e-4 * (1 + np.cos((i - 120) / 1100 * np.pi)) / 2
        for i in range(1100)
    ]
    np.testing.assert_allclose(zoo, by_hand, rtol=1e-6)
    assert zoo[-1] / 5e-4 == pytest.approx(0.0296, abs=1e-4)
    np.testing.assert_array_equal(ours[:121], zoo[:121])
    assert ours[-1] == 0
