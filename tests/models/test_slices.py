from __future__ import annotations

import mindspore
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn

from unetcli.config import ModelSettings
from unetcli.models import build_model
from unetcli.models.layers import VolumeLayers
from unetcli.models.slices import SliceLayers, depth_taps

BASE = ModelSettings(ndim=3, in_channels=1, num_classes=3, base_channels=2, depth=3)
THICK = {"strides": ((1, 2, 2), (2, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
NETWORKS = {
    "unet": {},
    "many channels in": {"in_channels": 5, "activation": "prelu"},
    "thick slices": THICK,
    "bilinear": {"upsample": "bilinear", "residual": True, "strides": ((1, 2, 2), (2, 1, 2))},
    "nearest": {"upsample": "nearest", "norm": "none"},
    "valid": {"architecture": "unet_valid", "norm": "none", "depth": 2},
    "cicek": {"architecture": "unet_cicek"},
    "residual": {"architecture": "unet_residual"},
    "residual, thick slices": {"architecture": "unet_residual", **THICK},
    "deep supervision": {"deep_supervision": True},
    "attention, thick slices": {"attention": True, **THICK},
    "nested": {"architecture": "unet_nested", "deep_supervision": True, "upsample": "bilinear", **THICK},
}
each_network = pytest.mark.parametrize(
    "network_settings", [ModelSettings(**(BASE.model_dump() | u)) for u in NETWORKS.values()], ids=NETWORKS.keys()
)
axes = st.tuples(*[st.sampled_from((1, 2))] * 3)
kernels = st.tuples(*[st.sampled_from((1, 3))] * 3)
sizes = st.tuples(*[st.integers(1, 3).map(lambda n: 2 * n)] * 3)
few = settings(max_examples=12)


def both(build) -> tuple[nn.Cell, nn.Cell]:
    """A layer in either layout, taking and giving (N, C, D, H, W), with the same weights."""
    cells = []
    for layers in (VolumeLayers, SliceLayers):
        parts = layers(padded=True, norm="batch")
        cells.append(nn.SequentialCell(parts.enter(), build(parts), parts.leave()))
    rng = np.random.default_rng(3)
    for one, other in zip(cells[0].get_parameters(), cells[1].get_parameters(), strict=True):
        assert (one.name, one.shape) == (other.name, other.shape)
        values = Tensor(rng.uniform(0.5, 1.5, one.shape).astype(np.float32))
        one.set_data(values)
        other.set_data(values)
    return tuple(cells)


def values_and_gradients(cell: nn.Cell, x: np.ndarray) -> list[np.ndarray]:
    """What a cell gives, and the gradients of its weighted sums by the input and the weights."""
    outputs = []

    def weighted_sum(x):
        y = cell(x)
        outputs.extend(y if isinstance(y, tuple) else (y,))
        total = 0.0
        for part in outputs:
            weight = np.random.default_rng(4).standard_normal(part.shape, dtype=np.float32)
            total = total + (part * Tensor(weight)).sum()
        return total

    weights = cell.trainable_params()
    gradients = mindspore.grad(weighted_sum, 0, weights or None)(Tensor(x))
    by_input, by_weights = gradients if weights else (gradients, ())
    return [tensor.asnumpy() for tensor in (*outputs, by_input, *by_weights)]


def assert_same(cells: tuple[nn.Cell, nn.Cell], x: np.ndarray) -> None:
    for expected, found in zip(*(values_and_gradients(cell, x) for cell in cells), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def volume(channels: int, size: tuple[int, ...], batch: int = 2) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((batch, channels, *size), dtype=np.float32)


@few
@given(size=sizes, kernel=kernels, stride=axes, channels=st.tuples(st.integers(1, 6), st.integers(1, 3)))
@example(size=(2, 2, 2), kernel=(3, 1, 1), stride=(2, 1, 1), channels=(1, 1))
@example(size=(2, 2, 2), kernel=(3, 3, 3), stride=(2, 2, 2), channels=(6, 2))
@example(size=(1, 2, 2), kernel=(3, 1, 1), stride=(1, 1, 1), channels=(1, 1))
@example(size=(1, 2, 2), kernel=(3, 1, 1), stride=(1, 1, 1), channels=(6, 2))
def test_a_convolution_of_slices_is_that_of_volumes(size, kernel, stride, channels):
    cells = both(lambda layers: layers.convolution(*channels, kernel, stride=stride, has_bias=True))
    assert_same(cells, volume(channels[0], size))


@few
@given(size=sizes, kernel=kernels, stride=axes)
def test_a_transposed_convolution_of_slices_is_that_of_volumes(size, kernel, stride):
    kernel = tuple(max(pair) for pair in zip(kernel, stride, strict=True))
    cells = both(lambda layers: layers.up_convolution(3, 2, kernel, stride=stride, has_bias=True))
    x = volume(3, size)
    assert_same(cells, x)
    expected = (2, 2, *(length * step for length, step in zip(size, stride, strict=True)))
    assert cells[1](Tensor(x)).shape == expected


@few
@given(size=sizes, stride=axes)
def test_pooling_of_slices_is_that_of_volumes(size, stride):
    assert_same(both(lambda layers: layers.pooling(stride)), volume(2, size))


def test_batch_statistics_of_slices_are_those_of_volumes():
    cells = both(lambda layers: layers.normalization(3))
    for cell in cells:
        cell.set_train(True)
    assert_same(cells, volume(3, (4, 2, 6)))
    for one, other in zip(*(cell.get_parameters() for cell in cells), strict=True):
        np.testing.assert_allclose(other.asnumpy(), one.asnumpy(), rtol=1e-5)


def test_weights_along_the_depth_meet_their_planes():
    # a stride of 2: the middle weight meets even planes, the outer ones the odd planes before and after
    assert depth_taps(3, 1, 1) == (((0, -1), (1, 0), (2, 1)),)
    assert depth_taps(3, 2, 1) == (((1, 0),), ((0, -1), (2, 0)))
    assert depth_taps(2, 2, 0) == (((0, 0),), ((1, 0),))


@each_network
def test_one_checkpoint_serves_both_layouts_and_they_agree(network_settings):
    cells = tuple(build_model(network_settings, seed=1, target=target) for target in ("any", "cpu"))
    frozen = build_model(network_settings, seed=1, frozen=True)
    names = [[(p.name, p.shape, p.requires_grad) for p in cell.get_parameters()] for cell in (*cells, frozen)]
    assert names[0] == names[1] == names[2]
    size = (20, 22, 24) if network_settings.margin else (8, 12, 16)
    network_settings.check_size("size", size)
    x = volume(network_settings.in_channels, size)
    for cell in cells:
        cell.set_train(True)
    assert_same(cells, x)
    scores = [cell.set_train(False)(Tensor(x)).asnumpy() for cell in cells]
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4 * np.abs(scores[0]).max())


def test_a_compiled_network_of_slices_is_the_eager_one():
    network = build_model(ModelSettings(**(BASE.model_dump() | THICK)), seed=1, target="cpu").set_train(False)

    @mindspore.jit
    def compiled(x):
        return network(x)

    x = Tensor(volume(1, (4, 8, 8)))
    np.testing.assert_allclose(compiled(x).asnumpy(), network(x).asnumpy(), atol=1e-5)


def test_a_frozen_network_has_no_slices():
    with pytest.raises(ValueError, match="a frozen network must have the target 'any'"):
        build_model(BASE, seed=1, target="cpu", frozen=True)
