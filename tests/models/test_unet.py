from __future__ import annotations

import mindspore
import numpy as np
import onnxruntime
import pytest
import torch
from mindspore import Tensor, nn
from torch.nn import functional

from unetcli.config import LossSettings, ModelSettings
from unetcli.engine.export import mend_onnx
from unetcli.models import build_loss, build_model

SMALL = ModelSettings(in_channels=1, num_classes=3, base_channels=4, depth=3)
VARIANTS = {
    "transposed": SMALL.model_copy(update={"dropout": 0.3}),
    "bilinear, residual": SMALL.model_copy(update={"upsample": "bilinear", "residual": True}),
    "nearest, no norm": SMALL.model_copy(update={"upsample": "nearest", "norm": "none"}),
    "valid": SMALL.model_copy(update={"architecture": "unet_valid", "norm": "none"}),
    "valid, residual": SMALL.model_copy(update={"architecture": "unet_valid", "residual": True}),
}
each_variant = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())


def evaluated(settings: ModelSettings, rng: np.random.Generator, seed: int = 1) -> nn.Cell:
    """A network as after training: no bias, scale or running statistic at its first value."""
    network = build_model(settings, seed=seed).set_train(False)
    for parameter in network.get_parameters():
        if len(parameter.shape) == 1:
            values = rng.uniform(0.5, 1.5, parameter.shape)
            parameter.set_data(Tensor(values.astype(np.float32)))
    return network


class TorchTwin:
    """The network again, on PyTorch's functions, with the same weights under the same names."""

    def __init__(self, settings: ModelSettings, network: nn.Cell) -> None:
        self.settings = settings
        self.weights = {p.name: torch.tensor(p.asnumpy()) for p in network.get_parameters()}
        self.padding = 1 if settings.architecture == "unet" else 0

    def convolve(self, name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
        return functional.conv2d(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), padding=padding)

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = x
        for part in "12":
            y = self.convolve(f"{name}.conv{part}", y, self.padding)
            if self.settings.norm == "batch":
                keys = ("moving_mean", "moving_variance", "gamma", "beta")
                y = functional.batch_norm(y, *(self.weights[f"{name}.norm{part}.{key}"] for key in keys))
            y = y.relu()
        if self.settings.residual:
            y = y + centre(self.convolve(f"{name}.shortcut", x), y)
        return y

    def up(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self.settings.upsample == "transposed":
            weight, bias = self.weights[f"{name}.double.weight"], self.weights[f"{name}.double.bias"]
            return functional.conv_transpose2d(x, weight, bias, stride=2)
        return self.convolve(f"{name}.mix", functional.interpolate(x, scale_factor=2, mode=self.settings.upsample))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level in range(self.settings.depth):
            x = self.block(f"encoder.{level}", functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(self.settings.depth - 1)):
            x = self.up(f"upsample.{level}", x)
            x = self.block(f"decoder.{level}", torch.cat([centre(skips[level], x), x], 1))
        return self.convolve("head", x)


def centre(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    for axis in (2, 3):
        x = x.narrow(axis, (x.shape[axis] - like.shape[axis]) // 2, like.shape[axis])
    return x


def parameters(settings: ModelSettings) -> int:
    return sum(int(np.prod(p.shape)) for p in build_model(settings, seed=0).trainable_params())


@each_variant
def test_the_network_equals_its_twin_in_torch(rng, settings):
    network = evaluated(settings, rng)
    x = rng.standard_normal((2, 1, 64, 80), dtype=np.float32)
    settings.check_size("x", x.shape[2:])
    expected = TorchTwin(settings, network)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(network(Tensor(x)).asnumpy(), expected, atol=1e-4 * expected.std())


@each_variant
def test_the_network_is_exported_for_any_batch_and_size(rng, tmp_path, settings):
    tiles = [rng.standard_normal((batch, 1, *size), dtype=np.float32) for batch, size in ((2, (48, 64)), (1, (80, 56)))]
    network = evaluated(settings, rng)
    expected = [network(Tensor(tile)).asnumpy() for tile in tiles]

    mindir = tmp_path / "network.mindir"
    open_shape = Tensor(shape=[None, 1, None, None], dtype=mindspore.float32)
    mindspore.export(network, open_shape, file_name=str(mindir), file_format="MINDIR")
    graph = nn.GraphCell(mindspore.load(str(mindir)))
    onnx = tmp_path / "network.onnx"
    mindspore.export(network, Tensor(np.zeros((1, 1, 64, 64), np.float32)), file_name=str(onnx), file_format="ONNX")
    onnx.chmod(0o600)
    mend_onnx(onnx, (None, 1, None, None))
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])

    for tile, scores in zip(tiles, expected, strict=True):
        assert scores.shape == (tile.shape[0], 3, *(length - 2 * settings.margin for length in tile.shape[2:]))
        tolerance = 1e-4 * scores.std()
        np.testing.assert_allclose(graph(Tensor(tile)).asnumpy(), scores, atol=tolerance)
        np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: tile})[0], scores, atol=tolerance)


def test_the_original_turns_572_pixels_into_388():
    settings = ModelSettings(architecture="unet_valid", norm="none", in_channels=1, num_classes=2, base_channels=1)
    network = build_model(settings, seed=1).set_train(False)
    assert network(Tensor(np.zeros((1, 1, 572, 572), np.float32))).shape == (1, 2, 388, 388)


def test_the_original_has_31_million_parameters():
    # by the figure of the paper, weights and biases: two 3x3 convolutions a block, 2x2 up-convolutions, a 1x1 head
    levels = (64, 128, 256, 512, 1024)
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in zip((1, *levels), levels, strict=False))
    up = sum(4 * 2 * c * c + c + 9 * 2 * c * c + c + 9 * c * c + c for c in levels[:-1])
    settings = ModelSettings(architecture="unet_valid", norm="none", in_channels=1, num_classes=2)
    assert parameters(settings) == down + up + 64 * 2 + 2 == 31_030_658


def test_padding_costs_no_parameters_and_feature_scale_divides_the_channels():
    valid = ModelSettings(architecture="unet_valid", norm="none", in_channels=1, num_classes=2, base_channels=8)
    padded = valid.model_copy(update={"architecture": "unet"})
    scaled = padded.model_copy(update={"base_channels": 16, "feature_scale": 2})
    assert parameters(padded) == parameters(valid) == parameters(scaled)


@each_variant
def test_a_gradient_reaches_every_weight(rng, settings):
    network = build_model(settings, seed=1).set_train(True)
    loss = build_loss(LossSettings(), 3)
    x = Tensor(rng.standard_normal((2, 1, 64, 64), dtype=np.float32))
    size = 64 - 2 * settings.margin
    labels = Tensor(rng.integers(0, 3, (2, size, size)).astype(np.int32))
    weights = network.trainable_params()

    def loss_of(x):
        return loss(network(x), labels)

    gradients = mindspore.grad(loss_of, None, weights)(x)
    assert "encoder.0.conv1.weight" in {weight.name for weight in weights}
    dead = [w.name for w, g in zip(weights, gradients, strict=True) if not np.abs(g.asnumpy()).max() > 0]
    assert not dead


def test_weights_depend_on_the_seed_and_on_nothing_that_ran_before():
    first = {p.name: p.asnumpy() for p in build_model(SMALL, seed=5).get_parameters()}
    mindspore.set_seed(99)
    np.random.default_rng(3).random(100)
    build_model(SMALL, seed=6)
    again = {p.name: p.asnumpy() for p in build_model(SMALL, seed=5).get_parameters()}
    other = {p.name: p.asnumpy() for p in build_model(SMALL, seed=6).get_parameters()}
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)
    assert all((first[name] != other[name]).any() for name in first if name.endswith("weight"))


def test_dropout_acts_at_the_two_coarsest_levels_while_training_only(rng):
    network = build_model(VARIANTS["transposed"], seed=1)
    plain = build_model(SMALL, seed=1).set_train(False)
    x = Tensor(rng.standard_normal((1, 1, 32, 32), dtype=np.float32))
    counters = [p for p in network.get_parameters() if p.name.endswith("calls")]
    assert [p.name for p in counters] == ["dropout.1.calls", "dropout.2.calls"]
    np.testing.assert_array_equal(network.set_train(False)(x).asnumpy(), plain(x).asnumpy())
    first, second = (network.set_train(True)(x).asnumpy() for _ in range(2))
    assert [int(p.asnumpy()) for p in counters] == [2, 2]
    assert (first != second).any()


def test_channels_and_classes_must_be_known():
    with pytest.raises(ValueError, match="in_channels and num_classes must be set"):
        build_model(ModelSettings(in_channels=1), seed=1)
