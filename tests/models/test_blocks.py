from __future__ import annotations

import mindspore
import numpy as np
import pytest
import torch
from mindspore import Tensor

from unetcli.models.blocks import ConvBlock, Crop, Dropout, Upsample, initialize
from unetcli.models.layers import ImageLayers

PADDED = ImageLayers(padded=True, norm="none")


def mask_by_numpy(size: int, seed: int, call: int, rate: float) -> np.ndarray:
    """The kept places of a dropout cell, by 64-bit arithmetic and from its description."""

    def mix(x: np.ndarray) -> np.ndarray:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
        return x ^ (x >> np.uint64(16))

    secret = np.random.SeedSequence(seed).generate_state(2).astype(np.uint64)
    key = mix(mix((secret[:1] + np.uint64(call)) & np.uint64(0xFFFFFFFF)) ^ secret)
    hashed = mix((mix(np.arange(size, dtype=np.uint64) ^ key[0]) + key[1]) & np.uint64(0xFFFFFFFF))
    # the cell compares signed integers, so the upper half comes first
    return (hashed + 2**31) % 2**32 / 2**32 >= rate


def dropout(rate: float = 0.3, seed: int = 7) -> Dropout:
    cell = Dropout(rate, seed=seed)
    cell.set_train(True)
    return cell


def kept(cell: Dropout, shape: tuple[int, ...] = (4, 8, 32, 32)) -> np.ndarray:
    return cell(Tensor(np.ones(shape, np.float32))).asnumpy() > 0


def z_score(a: np.ndarray, b: np.ndarray, share: float) -> float:
    """Standard deviations by which the correlation of two masks is off 0."""
    a, b = (a.ravel() - share, b.ravel() - share)
    return float((a * b).mean() / (share * (1 - share)) * np.sqrt(a.size))


@pytest.mark.parametrize(("padded", "size"), [(True, (9, 12)), (False, (5, 8))])
@pytest.mark.parametrize("residual", [False, True])
def test_a_block_pads_or_eats_two_pixels_a_side(rng, padded, size, residual):
    block = ConvBlock(ImageLayers(padded=padded, norm="batch"), 3, 5, (3, 3), residual=residual)
    x = Tensor(rng.standard_normal((2, 3, 9, 12), dtype=np.float32))
    assert block(x).shape == (2, 5, *size)


def test_a_residual_block_adds_a_1x1_convolution_of_its_own_input(rng):
    block = ConvBlock(ImageLayers(padded=False, norm="none"), 3, 5, (3, 3), residual=True)
    weight = rng.standard_normal((5, 3, 1, 1), dtype=np.float32)
    block.shortcut.weight.set_data(Tensor(weight))  # the other convolutions are still 0
    x = rng.standard_normal((2, 3, 9, 12), dtype=np.float32)
    expected = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], x[:, :, 2:-2, 2:-2])
    np.testing.assert_allclose(block(Tensor(x)).asnumpy(), expected, atol=1e-5)


def test_a_bias_is_only_where_no_normalisation_removes_it():
    def names(norm):
        return {
            p.name for p in ConvBlock(ImageLayers(padded=True, norm=norm), 3, 5, (3, 3), residual=True).get_parameters()
        }

    assert {"conv1.bias", "conv2.bias", "shortcut.bias"} <= names("none")
    assert not {name for name in names("batch") if name.endswith("bias")}


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_fixed_upsampling_equals_interpolation_followed_by_a_1x1_convolution(rng, method):
    up = Upsample(PADDED, 6, 4, (2, 2), method)
    initialize(up, seed=1)
    up.mix.bias.set_data(Tensor(rng.standard_normal(4, dtype=np.float32)))
    x = rng.standard_normal((2, 6, 5, 7), dtype=np.float32)
    large = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=2, mode=method)
    weight, bias = (torch.tensor(p.asnumpy()) for p in (up.mix.weight, up.mix.bias))
    expected = torch.nn.functional.conv2d(large, weight, bias)
    np.testing.assert_allclose(up(Tensor(x)).asnumpy(), expected.numpy(), atol=1e-5)
    assert [p.name for p in up.trainable_params()] == ["mix.weight", "mix.bias"]


def test_crop_keeps_the_middle(rng):
    x = rng.standard_normal((1, 2, 9, 8), dtype=np.float32)
    np.testing.assert_array_equal(Crop(3, (2, 3))(Tensor(x)).asnumpy(), x[:, :, 3:-3, 3:-3])
    np.testing.assert_array_equal(Crop(0, (2, 3))(Tensor(x)).asnumpy(), x)


def test_dropout_mask_is_the_hash_of_seed_call_and_place():
    cell = dropout()
    for call in (1, 2, 3):
        expected = mask_by_numpy(4 * 8 * 32 * 32, seed=7, call=call, rate=0.3)
        np.testing.assert_array_equal(kept(cell).ravel(), expected)


def test_dropout_mask_is_the_same_in_a_compiled_graph():
    cell = dropout()

    @mindspore.jit
    def compiled(x):
        return cell(x)

    for call in (1, 2):
        values = compiled(Tensor(np.ones((4, 8, 32, 32), np.float32))).asnumpy()
        np.testing.assert_array_equal(values.ravel() > 0, mask_by_numpy(values.size, seed=7, call=call, rate=0.3))


def test_dropout_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    cell, resumed = dropout(), dropout()
    for _ in range(3):
        kept(cell)
    path = str(tmp_path / "dropout.ckpt")
    mindspore.save_checkpoint(cell, path)
    assert mindspore.load_param_into_net(resumed, mindspore.load_checkpoint(path)) == ([], [])
    np.testing.assert_array_equal(kept(resumed), kept(cell))
    assert not cell.trainable_params()


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(rate):
    cell = dropout(rate)
    values = np.stack([cell(Tensor(np.ones((4, 8, 32, 32), np.float32))).asnumpy() for _ in range(8)])
    share = (values > 0).mean((1, 2, 3, 4))
    np.testing.assert_allclose(share, 1 - rate, atol=4.5 * np.sqrt(rate * (1 - rate) / values[0].size))
    np.testing.assert_allclose(values[values > 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_masks_of_calls_seeds_samples_and_neighbours_are_unrelated():
    cell = dropout()
    first, second, other = kept(cell), kept(cell), kept(dropout(seed=8))
    pairs = [(first, second), (first, other), (first[:2], first[2:])]
    pairs += [(first.ravel()[:-lag], first.ravel()[lag:]) for lag in (1, 2, 32, 1024)]
    pairs += [(first.ravel()[:-lag], second.ravel()[lag:]) for lag in (1, 2)]
    assert max(abs(z_score(a, b, 0.7)) for a, b in pairs) < 4.5


def test_dropout_passes_gradients_where_it_kept_the_value(rng):
    cell = dropout()
    x = Tensor(rng.standard_normal((2, 3, 4, 4), dtype=np.float32))

    def total(x):
        return cell(x).sum()

    gradient = mindspore.grad(total)(x).asnumpy()
    np.testing.assert_allclose(gradient.ravel(), mask_by_numpy(96, seed=7, call=1, rate=0.3) / 0.7, rtol=1e-6)


def test_dropout_is_the_identity_outside_training(rng):
    cell = dropout().set_train(False)
    x = rng.standard_normal((2, 3, 4, 4), dtype=np.float32)
    np.testing.assert_array_equal(cell(Tensor(x)).asnumpy(), x)
    assert int(cell.calls.asnumpy()) == 0


def test_weights_have_the_deviation_of_he_before_a_relu_and_its_half_square_elsewhere():
    block = ConvBlock(PADDED, 32, 64, (3, 3), residual=True)
    initialize(block, seed=3)
    for convolution, variance in ((block.conv1, 2 / (32 * 9)), (block.conv2, 2 / (64 * 9)), (block.shortcut, 1 / 32)):
        weight = convolution.weight.asnumpy()
        tolerance = 4.5 * np.sqrt(2 / weight.size)
        assert weight.var() == pytest.approx(variance, rel=tolerance)
        assert abs(weight.mean()) < 4.5 * np.sqrt(variance / weight.size)
    assert not block.conv1.bias.asnumpy().any()


def test_weights_before_a_prelu_have_less_variance():
    block = ConvBlock(ImageLayers(padded=True, norm="none", activation="prelu"), 32, 64, (3, 3))
    initialize(block, seed=3)
    weight = block.conv2.weight.asnumpy()
    assert weight.var() == pytest.approx(2 / (1 + 0.25**2) / (64 * 9), rel=4.5 * np.sqrt(2 / weight.size))


def test_an_up_convolution_keeps_the_variance_of_its_input(rng):
    up = Upsample(PADDED, 128, 64, (2, 2), "transposed")
    initialize(up, seed=3)
    x = Tensor(rng.standard_normal((1, 128, 16, 16), dtype=np.float32))
    assert up(x).asnumpy().var() == pytest.approx(1, rel=0.1)
