from __future__ import annotations

import mindspore
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn

from unetcli.config import LossSettings, ModelSettings
from unetcli.models import build_loss, build_model
from unetcli.models.layers import ImageLayers
from unetcli.models.planes import PlaneLayers, Turn

BASE = ModelSettings(in_channels=2, num_classes=3, base_channels=2, depth=3)
THICK = {"strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (3, 3), (3, 3))}
NETWORKS = {
    "unet": {"activation": "prelu"},
    "wide pixels": THICK,
    "bilinear": {"upsample": "bilinear", "residual": True},
    "nearest": {"upsample": "nearest", "norm": "none"},
    "valid": {"architecture": "unet_valid", "norm": "none", "depth": 2},
    "residual": {"architecture": "unet_residual", **THICK},
    "deep supervision": {"deep_supervision": True},
    "attention": {"attention": True, **THICK},
    "simple": {"architecture": "unet_simple"},
    "activated upsampling": {"upsample_activation": True},
    "nested": {"architecture": "unet_nested", "deep_supervision": True},
    "nested, wide pixels, bilinear": {"architecture": "unet_nested", "upsample": "bilinear", **THICK},
}
few = settings(max_examples=20)


def both(build) -> tuple[nn.Cell, nn.Cell]:
    """A layer of MindSpore's and ours, with the same weights."""
    cells = tuple(build(layers) for layers in (ImageLayers, PlaneLayers))
    rng = np.random.default_rng(3)
    for one, other in zip(*(cell.get_parameters() for cell in cells), strict=True):
        assert (one.name, one.shape) == (other.name, other.shape)
        values = Tensor(rng.uniform(-1, 1, one.shape).astype(np.float32))
        one.set_data(values)
        other.set_data(values)
    return cells


def values_and_gradients(cell: nn.Cell, x: np.ndarray) -> list[np.ndarray]:
    """What a cell gives, and the gradients of its weighted sum by the input and the weights."""

    def weighted_sum(x):
        y = cell(x)
        weight = np.random.default_rng(4).standard_normal(y.shape, dtype=np.float32)
        return (y * Tensor(weight)).sum(), y

    weights = cell.trainable_params()
    gradient = mindspore.value_and_grad(weighted_sum, 0, weights or None, has_aux=True)
    (_, y), gradients = gradient(Tensor(x))
    by_input, by_weights = gradients if weights else (gradients, ())
    return [tensor.asnumpy() for tensor in (y, by_input, *by_weights)]


def assert_same(cells: tuple[nn.Cell, nn.Cell], x: np.ndarray) -> None:
    for expected, found in zip(*(values_and_gradients(cell, x) for cell in cells), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def image(channels: int, size: tuple[int, ...], batch: int = 2) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((batch, channels, *size), dtype=np.float32)


@few
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.sampled_from((1, 3)), st.sampled_from((1, 3))),
    stride=st.tuples(st.sampled_from((1, 2)), st.sampled_from((1, 2))),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)) | st.sampled_from(((130, 64), (64, 130))),
    padded=st.booleans(),
    has_bias=st.booleans(),
)
@example(size=(3, 3), kernel=(3, 3), stride=(1, 1), channels=(1, 1), padded=False, has_bias=True)
@example(size=(3, 7), kernel=(1, 3), stride=(1, 1), channels=(3, 2), padded=False, has_bias=False)
def test_a_convolution_and_its_gradients_are_those_of_mindspore(size, kernel, stride, channels, padded, has_bias):
    def build(layers):
        return layers(padded, "batch").convolution(*channels, kernel, stride=stride, has_bias=has_bias)

    assert_same(both(build), image(channels[0], size))


def test_weights_are_turned_round_along_their_spatial_axes(rng):
    for kernel in ((3, 1), (2, 3), (3, 2, 3)):
        weight = rng.standard_normal((3, 2, *kernel), dtype=np.float32)
        expected = np.flip(weight, tuple(range(2, weight.ndim)))
        np.testing.assert_array_equal(Turn(kernel)(Tensor(weight)).asnumpy(), expected)


@pytest.mark.parametrize("update", NETWORKS.values(), ids=NETWORKS.keys())
def test_one_checkpoint_serves_both_targets_and_they_learn_the_same(update):
    network_settings = ModelSettings(**(BASE.model_dump() | update))
    size = (20, 20) if network_settings.margin else (8, 12)
    x = Tensor(image(2, size))
    eaten = [length - 2 * network_settings.margin for length in size]
    labels = Tensor(np.random.default_rng(6).integers(0, 3, (2, *eaten)).astype(np.int32))
    found = []
    for target in ("any", "cpu"):
        network = build_model(network_settings, seed=1, target=target).set_train(True)
        names = [(p.name, p.shape, p.requires_grad) for p in network.get_parameters()]
        value, gradients = learn(network, x, labels)
        found.append((names, [value, *gradients]))
    assert found[0][0] == found[1][0]
    for expected, tensor in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("ndim", "update"),
    [
        (2, {}),
        (3, {}),
        (3, {"architecture": "unet_residual", "kernels": ((1, 3, 3), (3, 3, 3)), "strides": ((1, 2, 2),)}),
    ],
)
def test_a_compiled_network_has_the_gradients_of_the_standard_one(ndim, update):
    network_settings = BASE.model_copy(update={"ndim": ndim, "depth": 2, "base_channels": 6, **update})
    x = Tensor(image(2, (4, 6, 8)[-ndim:]))
    labels = Tensor(np.random.default_rng(6).integers(0, 3, (2, *x.shape[2:])).astype(np.int32))
    value, gradients = learn(build_model(network_settings, seed=1).set_train(True), x, labels)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    try:
        network = build_model(network_settings, seed=1, target="cpu").set_train(True)
        compiled_value, compiled = learn(network, x, labels)
    finally:
        mindspore.set_context(mode=mindspore.PYNATIVE_MODE)
    assert compiled_value == pytest.approx(float(value), rel=1e-5)
    for expected, tensor in zip(gradients, compiled, strict=True):
        np.testing.assert_allclose(tensor, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def learn(network: nn.Cell, x: Tensor, labels: Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
    """The loss and its gradient by every weight."""
    loss = build_loss(LossSettings(), 3)

    def loss_of(x, labels):
        return loss(network(x), labels)

    value, gradients = mindspore.value_and_grad(loss_of, None, network.trainable_params())(x, labels)
    return value.asnumpy(), [gradient.asnumpy() for gradient in gradients]
