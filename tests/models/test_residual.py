from __future__ import annotations

from math import prod

import mindspore
import numpy as np
import pytest
import torch
from mindspore import Tensor
from torch.nn import functional

from unetcli.config import ModelSettings
from unetcli.models import build_model

SMALL = ModelSettings(architecture="unet_residual", ndim=3, in_channels=1, num_classes=4, base_channels=2, depth=3)
VARIANTS = {
    "volume": SMALL,
    "image": SMALL.model_copy(update={"ndim": 2}),
    "thick slices": SMALL.model_copy(
        update={"strides": ((1, 2, 2), (2, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
    ),
    "no norm": SMALL.model_copy(update={"norm": "none"}),
}


class TorchTwin:
    """The network again, on PyTorch's functions, with the same weights under the same names."""

    def __init__(self, settings: ModelSettings, weights: dict[str, np.ndarray]) -> None:
        self.settings = settings
        self.weights = {name: torch.tensor(weight) for name, weight in weights.items()}
        is_image = settings.ndim == 2
        self.conv = functional.conv2d if is_image else functional.conv3d
        self.transposed = functional.conv_transpose2d if is_image else functional.conv_transpose3d

    def convolve(self, name: str, x: torch.Tensor, stride: int | tuple[int, ...] = 1) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        padding = [size // 2 for size in weight.shape[2:]]
        return self.conv(x, weight, self.weights.get(f"{name}.bias"), stride=stride, padding=padding)

    def activate(self, name: str, part: int, x: torch.Tensor) -> torch.Tensor:
        if self.settings.norm == "batch":
            keys = ("moving_mean", "moving_variance", "gamma", "beta")
            x = functional.batch_norm(x, *(self.weights[f"{name}.norm{part}.{key}"] for key in keys))
        return functional.prelu(x, self.weights[f"{name}.act{part}.w"])

    def unit(self, level: int, x: torch.Tensor) -> torch.Tensor:
        name = f"encoder.{level}"
        stride = (*self.settings.level_strides, 1)[level]
        y = self.activate(name, 1, self.convolve(f"{name}.conv1", x, stride))
        return self.activate(name, 2, self.convolve(f"{name}.conv2", y)) + self.convolve(f"{name}.shortcut", x, stride)

    def up(self, level: int, x: torch.Tensor) -> torch.Tensor:
        name, stride = f"decoder.{level}", self.settings.level_strides[level]
        weight = self.weights[f"{name}.up.weight"]
        padding = [size // 2 for size in weight.shape[2:]]
        missing = [step - 1 for step in stride]
        x = self.transposed(x, weight, self.weights.get(f"{name}.up.bias"), stride, padding, missing)
        x = self.activate(name, 1, x)
        y = self.convolve(f"{name}.conv", x)
        return self.activate(name, 2, y) + x if level else y

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level in range(self.settings.depth):
            x = self.unit(level, x)
            skips.append(x)
        for level in reversed(range(self.settings.depth - 1)):
            x = self.up(level, torch.cat([x, skips[level]], 1))
        return x


@pytest.mark.parametrize("target", ["any", "cpu"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_network_equals_its_twin_in_torch(rng, settings, target):
    network = build_model(settings, seed=1, target=target).set_train(False)
    for parameter in network.get_parameters():
        if len(parameter.shape) == 1:
            parameter.set_data(Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    x = rng.standard_normal((2, 1, *(8, 12, 16)[: settings.ndim]), dtype=np.float32)
    weights = {p.name: p.asnumpy() for p in network.get_parameters()}
    expected = TorchTwin(settings, weights)(torch.tensor(x)).numpy()
    assert expected.shape == (2, 4, *x.shape[2:])
    np.testing.assert_allclose(network(Tensor(x)).asnumpy(), expected, atol=1e-4 * expected.std())


def test_the_network_of_the_zoo_has_4_81_million_parameters():
    levels = (16, 32, 64, 128, 256)

    def normalised(weights: int, channels: int) -> int:
        return weights + 2 * channels + 1  # scale and shift of each channel, one slope

    down = 0
    for below, above in zip((1, *levels), levels, strict=False):
        beside = below * above * (1 if above == 256 else 27)
        down += normalised(27 * below * above, above) + normalised(27 * above * above, above) + beside
    up = 0
    for below, skip, above in ((256, 128, 64), (64, 64, 32), (32, 32, 16)):
        up += normalised(27 * (below + skip) * above, above) + normalised(27 * above * above, above)
    last = normalised(27 * (16 + 16) * 4, 4) + 27 * 4 * 4

    settings = ModelSettings(architecture="unet_residual", ndim=3, in_channels=1, num_classes=4, base_channels=16)
    found = sum(prod(p.shape) for p in build_model(settings, seed=0).trainable_params())
    assert found == down + up + last
    assert round(found / 1e6, 2) == 4.81


def test_slopes_begin_at_a_quarter_and_learn(rng):
    network = build_model(SMALL, seed=1, target="cpu").set_train(True)
    slopes = [p for p in network.trainable_params() if p.name.endswith(".w")]
    assert {p.shape for p in slopes} == {(1,)}
    assert all(p.asnumpy() == 0.25 for p in slopes)
    x = Tensor(rng.standard_normal((1, 1, 8, 8, 8), dtype=np.float32))

    def mean_square(x):
        return (network(x) ** 2).mean()

    gradients = mindspore.grad(mean_square, None, slopes)(x)
    assert all(gradient.asnumpy() != 0 for gradient in gradients)
