from __future__ import annotations

from math import prod

import mindspore
import numpy as np
import pytest
import torch
from mindspore import Tensor
from torch.nn import functional

from unetcli.config import LossSettings, ModelSettings
from unetcli.models import build_loss, build_model

SMALL = ModelSettings(architecture="unet_nested", in_channels=1, num_classes=3, base_channels=2, depth=4)
VARIANTS = {
    "transposed": SMALL,
    "bilinear": SMALL.model_copy(update={"upsample": "bilinear"}),
    "no norm": SMALL.model_copy(update={"norm": "none", "depth": 2}),
    "thick slices": SMALL.model_copy(
        update={
            "ndim": 3,
            "depth": 3,
            "strides": ((1, 2, 2), (2, 2, 2)),
            "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        }
    ),
}


class TorchTwin:
    """The network again, on PyTorch's functions and node by node, with the same weights under the same names."""

    def __init__(self, settings: ModelSettings, weights: dict[str, np.ndarray]) -> None:
        self.settings = settings
        self.weights = {name: torch.tensor(weight) for name, weight in weights.items()}
        is_image = settings.ndim == 2
        self.conv = functional.conv2d if is_image else functional.conv3d
        self.pool = functional.max_pool2d if is_image else functional.max_pool3d
        self.transposed = functional.conv_transpose2d if is_image else functional.conv_transpose3d
        self.places = [(i, j) for j in range(1, settings.depth) for i in range(settings.depth - j)]

    def convolve(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        return self.conv(x, weight, self.weights.get(f"{name}.bias"), padding=[size // 2 for size in weight.shape[2:]])

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        for part in "12":
            x = self.convolve(f"{name}.conv{part}", x)
            if name.startswith("encoder") and self.settings.norm == "batch":
                keys = ("moving_mean", "moving_variance", "gamma", "beta")
                x = functional.batch_norm(x, *(self.weights[f"{name}.norm{part}.{key}"] for key in keys))
            x = x.relu()
        return x

    def up(self, number: int, stride: tuple[int, ...], x: torch.Tensor) -> torch.Tensor:
        name = f"upsample.{number}"
        if self.settings.upsample == "transposed":
            weight, bias = self.weights[f"{name}.double.weight"], self.weights[f"{name}.double.bias"]
            return self.transposed(x, weight, bias, stride=stride)
        return self.convolve(f"{name}.mix", functional.interpolate(x, scale_factor=stride, mode="bilinear"))

    def node(self, level: int, column: int, x: torch.Tensor) -> torch.Tensor:
        """X(i, j) of an image, with all that it depends on, by equation 1 of the paper."""
        if column == 0:
            below = self.pool(self.node(level - 1, 0, x), self.settings.level_strides[level - 1]) if level else x
            return self.block(f"encoder.{level}", below)
        number = self.places.index((level, column))
        skips = [self.node(level, before, x) for before in range(column)]
        deeper = self.up(number, self.settings.level_strides[level], self.node(level + 1, column - 1, x))
        return self.block(f"decoder.{number}", torch.cat([*skips, deeper], 1))

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The logits of all columns, the last one first."""
        last = self.settings.depth - 1
        heads = {last: "head"}
        if self.settings.deep_supervision:
            heads |= {column: f"early_heads.{column - 1}" for column in range(1, last)}
        return [self.convolve(heads[column], self.node(0, column, x)) for column in sorted(heads, reverse=True)]


def trained(settings: ModelSettings, rng: np.random.Generator, target: str = "any"):
    """A network as after training: no bias, scale or running statistic at its first value."""
    network = build_model(settings, seed=1, target=target).set_train(False)
    for parameter in network.get_parameters():
        if len(parameter.shape) == 1:
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return network, TorchTwin(settings, {p.name: p.asnumpy() for p in network.get_parameters()})


def image(settings: ModelSettings, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((2, 1, *(8, 16, 24)[: settings.ndim]), dtype=np.float32)


@pytest.mark.parametrize("target", ["any", "cpu"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_network_equals_its_twin_in_torch(rng, settings, target):
    network, twin = trained(settings, rng, target)
    x = image(settings, rng)
    expected = twin(torch.tensor(x))[0].numpy()
    np.testing.assert_allclose(network(Tensor(x)).asnumpy(), expected, atol=1e-4 * expected.std())


def test_while_training_deep_supervision_gives_the_logits_of_all_columns(rng):
    settings = SMALL.model_copy(update={"norm": "none", "deep_supervision": True})
    network, twin = trained(settings, rng)
    x = image(settings, rng)
    expected = [scores.numpy() for scores in twin(torch.tensor(x))]
    logits = network.set_train(True)(Tensor(x))
    assert len(logits) == len(expected) == 3
    for scores, scores_of_twin in zip(logits, expected, strict=True):
        np.testing.assert_allclose(scores.asnumpy(), scores_of_twin, atol=1e-4 * scores_of_twin.std())
    np.testing.assert_array_equal(network.set_train(False)(Tensor(x)).asnumpy(), logits[0].asnumpy())


def test_its_loss_is_the_mean_over_all_columns(rng):
    loss = build_loss(LossSettings(), 3)
    logits = [Tensor(rng.standard_normal((2, 3, 8, 8), dtype=np.float32)) for _ in range(4)]
    labels = Tensor(rng.integers(0, 3, (2, 8, 8)).astype(np.int32))
    expected = np.mean([loss(scores, labels).asnumpy() for scores in logits])
    assert float(loss(tuple(logits), labels).asnumpy()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("upsample", ["transposed", "bilinear"])
@pytest.mark.parametrize("deep_supervision", [False, True])
def test_it_has_the_parameters_of_the_zoo_and_biases_where_no_norm_follows(upsample, deep_supervision):
    # the zoo's 32 to 512 channels, without the biases that it does not have
    c = [32, 64, 128, 256, 512]
    zoo = sum(9 * a * b + 9 * b * b + 2 * 2 * b for a, b in zip([1, *c], c, strict=False))
    kernel = {"transposed": 4, "bilinear": 1}[upsample]
    nodes = [(i, j) for i in range(4) for j in range(1, 5 - i)]
    zoo += sum(kernel * c[i + 1] * c[i] + 9 * (j + 1) * c[i] * c[i] + 9 * c[i] * c[i] for i, j in nodes)
    zoo += 4 * 32 * 2
    biases = sum(3 * c[i] for i, _ in nodes) + 4 * 2
    without = 0 if deep_supervision else 3 * (32 * 2 + 2)

    settings = ModelSettings(
        architecture="unet_nested",
        in_channels=1,
        num_classes=2,
        feature_scale=2,
        upsample=upsample,
        deep_supervision=deep_supervision,
    )
    found = sum(prod(p.shape) for p in build_model(settings, seed=0).trainable_params())
    assert found == zoo + biases - without


def test_a_gradient_reaches_every_weight(rng):
    settings = SMALL.model_copy(update={"deep_supervision": True})
    network = build_model(settings, seed=1, target="cpu").set_train(True)
    loss = build_loss(LossSettings(), 3)
    labels = Tensor(rng.integers(0, 3, (2, 8, 16)).astype(np.int32))
    weights = network.trainable_params()

    def loss_of(x):
        return loss(network(x), labels)

    gradients = mindspore.grad(loss_of, None, weights)(Tensor(image(settings, rng)))
    dead = [w.name for w, g in zip(weights, gradients, strict=True) if not np.abs(g.asnumpy()).max() > 0]
    assert not dead
