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
VOLUME = SMALL.model_copy(update={"ndim": 3, "base_channels": 2})
THICK = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
VARIANTS = {
    "transposed": SMALL.model_copy(update={"dropout": 0.3}),
    "bilinear, residual": SMALL.model_copy(update={"upsample": "bilinear", "residual": True}),
    "nearest, no norm": SMALL.model_copy(update={"upsample": "nearest", "norm": "none"}),
    "valid": SMALL.model_copy(update={"architecture": "unet_valid", "norm": "none"}),
    "valid, residual": SMALL.model_copy(update={"architecture": "unet_valid", "residual": True}),
    "volume": VOLUME,
    "thick slices, bilinear": VOLUME.model_copy(
        update={"strides": ((1, 2, 2), (2, 2, 2)), "kernels": THICK, "upsample": "bilinear", "residual": True}
    ),
    "volume, nearest, no norm": VOLUME.model_copy(update={"upsample": "nearest", "norm": "none"}),
    "cicek": VOLUME.model_copy(update={"architecture": "unet_cicek"}),
    "simple": SMALL.model_copy(update={"architecture": "unet_simple"}),
    "simple, bilinear": SMALL.model_copy(update={"architecture": "unet_simple", "upsample": "bilinear"}),
    "attention": SMALL.model_copy(update={"attention": True}),
    "attention, volume, thick slices": VOLUME.model_copy(
        update={"attention": True, "strides": ((1, 2, 2), (2, 2, 2)), "kernels": THICK}
    ),
    "valid, activated upsampling": SMALL.model_copy(
        update={"architecture": "unet_valid", "norm": "none", "upsample_activation": True}
    ),
    "bilinear, activated upsampling": SMALL.model_copy(update={"upsample": "bilinear", "upsample_activation": True}),
}
RESIDUAL = {"architecture": "unet_residual"}
NESTED = {"architecture": "unet_nested", "deep_supervision": True}
EXPORTED = VARIANTS | {
    "nested": SMALL.model_copy(update=NESTED),
    "nested, bilinear": SMALL.model_copy(update={**NESTED, "upsample": "bilinear"}),
    "nested volume": VOLUME.model_copy(update=NESTED),
    "wide pixels": SMALL.model_copy(update={"strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (3, 3), (3, 3))}),
    "strided image": SMALL.model_copy(update=RESIDUAL),
    "strided volume": VOLUME.model_copy(update=RESIDUAL),
    "strided thick slices": VOLUME.model_copy(
        update={"strides": ((1, 2, 2), (2, 2, 2)), "kernels": THICK, **RESIDUAL, "norm": "none"}
    ),
}
SIZES = {2: (64, 80), 3: (8, 12, 16)}
each_variant = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())


def evaluated(settings: ModelSettings, rng: np.random.Generator) -> nn.Cell:
    """A network as after training: no bias, scale or running statistic at its first value."""
    network = build_model(settings, seed=1).set_train(False)
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
        self.is_padded = settings.architecture != "unet_valid"
        is_image = settings.ndim == 2
        self.conv = functional.conv2d if is_image else functional.conv3d
        self.pool = functional.max_pool2d if is_image else functional.max_pool3d
        self.transposed = functional.conv_transpose2d if is_image else functional.conv_transpose3d
        self.linear = "bilinear" if is_image else "trilinear"

    def convolve(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight = self.weights[f"{name}.weight"]
        padding = [size // 2 if self.is_padded else 0 for size in weight.shape[2:]]
        return self.conv(x, weight, self.weights.get(f"{name}.bias"), padding=padding)

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y = x
        for part in "12":
            y = self.convolve(f"{name}.conv{part}", y)
            if f"{name}.norm{part}.gamma" in self.weights:
                keys = ("moving_mean", "moving_variance", "gamma", "beta")
                y = functional.batch_norm(y, *(self.weights[f"{name}.norm{part}.{key}"] for key in keys))
            y = y.relu()
        if self.settings.residual:
            y = y + centre(self.convolve(f"{name}.shortcut", x), y)
        return y

    def gated(self, level: int, skip: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        if not self.settings.attention:
            return skip
        name, stride = f"gate.{level}", self.settings.level_strides[level]
        both = self.convolve(f"{name}.of_skip", self.pool(skip, stride)) + self.convolve(f"{name}.of_gate", gate)
        share = self.convolve(f"{name}.psi", both.relu()).sigmoid()
        return skip * functional.interpolate(share, scale_factor=stride, mode=self.linear)

    def up(self, level: int, x: torch.Tensor) -> torch.Tensor:
        y = self.enlarged(level, x)
        return y.relu() if self.settings.upsample_activation else y

    def enlarged(self, level: int, x: torch.Tensor) -> torch.Tensor:
        name, stride = f"upsample.{level}", self.settings.level_strides[level]
        if self.settings.upsample == "transposed":
            weight, bias = self.weights[f"{name}.double.weight"], self.weights.get(f"{name}.double.bias")
            return self.transposed(x, weight, bias, stride=stride)
        mode = self.linear if self.settings.upsample == "bilinear" else "nearest"
        return self.convolve(f"{name}.mix", functional.interpolate(x, scale_factor=stride, mode=mode))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for level in range(self.settings.depth):
            x = self.pool(x, self.settings.level_strides[level - 1]) if level else x
            x = self.block(f"encoder.{level}", x)
            skips.append(x)
        for level in reversed(range(self.settings.depth - 1)):
            enlarged = self.up(level, x)
            skip = self.gated(level, centre(skips[level], enlarged), x)
            x = self.block(f"decoder.{level}", torch.cat([skip, enlarged], 1))
        return self.convolve("head", x)


def centre(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    for axis in range(2, x.ndim):
        x = x.narrow(axis, (x.shape[axis] - like.shape[axis]) // 2, like.shape[axis])
    return x


def parameters(settings: ModelSettings) -> int:
    return sum(int(np.prod(p.shape)) for p in build_model(settings, seed=0).trainable_params())


def block(below: int, width: int) -> int:
    """Parameters of two normalised 3x3 convolutions."""
    return 9 * below * width + 9 * width * width + 2 * 2 * width


@each_variant
def test_the_network_equals_its_twin_in_torch(rng, settings):
    network = evaluated(settings, rng)
    x = rng.standard_normal((2, 1, *SIZES[settings.ndim]), dtype=np.float32)
    settings.check_size("x", x.shape[2:])
    expected = TorchTwin(settings, network)(torch.tensor(x)).numpy()
    np.testing.assert_allclose(network(Tensor(x)).asnumpy(), expected, atol=1e-4 * expected.std())


@pytest.mark.parametrize("settings", EXPORTED.values(), ids=EXPORTED.keys())
def test_the_network_is_exported_for_any_batch_and_size(rng, tmp_path, settings):
    others = [(2, SIZES[settings.ndim][::-1]), (1, (48, 64) if settings.ndim == 2 else (16, 8, 12))]
    tiles = [rng.standard_normal((batch, 1, *size), dtype=np.float32) for batch, size in others]
    trained = evaluated(settings, rng)
    expected = [trained(Tensor(tile)).asnumpy() for tile in tiles]
    network = build_model(settings, seed=2, frozen=True).set_train(False)
    assert mindspore.load_param_into_net(network, trained.parameters_dict()) == ([], [])

    mindir = tmp_path / "network.mindir"
    shape = (None, 1, *[None] * settings.ndim)
    open_shape = Tensor(shape=list(shape), dtype=mindspore.float32)
    mindspore.export(network, open_shape, file_name=str(mindir), file_format="MINDIR")
    graph = nn.GraphCell(mindspore.load(str(mindir)))
    onnx = tmp_path / "network.onnx"
    example = Tensor(np.zeros((1, 1, *[64 if settings.ndim == 2 else 8] * settings.ndim), np.float32))
    mindspore.export(network, example, file_name=str(onnx), file_format="ONNX")
    onnx.chmod(0o600)
    mend_onnx(onnx, shape)
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
    size = SIZES[settings.ndim]
    x = Tensor(rng.standard_normal((2, 1, *size), dtype=np.float32))
    eaten = [length - 2 * settings.margin for length in size]
    labels = Tensor(rng.integers(0, 3, (2, *eaten)).astype(np.int32))
    weights = network.trainable_params()

    def loss_of(x):
        return loss(network(x), labels)

    gradients = mindspore.grad(loss_of, None, weights)(x)
    assert "encoder.0.conv1.weight" in {weight.name for weight in weights}
    dead = [w.name for w, g in zip(weights, gradients, strict=True) if not np.abs(g.asnumpy()).max() > 0]
    assert not dead


def test_the_3d_unet_has_the_19069955_parameters_of_its_paper():
    settings = ModelSettings(
        architecture="unet_cicek", ndim=3, in_channels=3, num_classes=3, base_channels=32, depth=4, norm="none"
    )
    assert parameters(settings) == 19_069_955
    # a batch normalisation's shift is the convolution's bias, and its scale comes on top of the paper's
    normalised = sum([32, 64, 64, 128, 128, 256, 256, 512, 256, 256, 128, 128, 64, 64])
    assert parameters(settings.model_copy(update={"norm": "batch"})) == 19_069_955 + normalised


@pytest.mark.parametrize(("depth", "levels"), [(2, 1), (3, 2), (4, 2), (5, 3)])
@pytest.mark.parametrize("ndim", [2, 3])
def test_deep_supervision_gives_logits_of_the_finer_levels_while_training(rng, ndim, depth, levels):
    settings = ModelSettings(
        ndim=ndim, in_channels=1, num_classes=3, base_channels=1, depth=depth, deep_supervision=True
    )
    network = build_model(settings, seed=1, target="cpu")
    x = Tensor(rng.standard_normal((2, 1, *[32] * ndim), dtype=np.float32))
    logits = network.set_train(True)(x)
    logits = logits if isinstance(logits, tuple) else (logits,)
    assert [scores.shape for scores in logits] == [(2, 3, *[32 >> level] * ndim) for level in range(levels)]
    assert network.set_train(False)(x).shape == (2, 3, *[32] * ndim)
    heads = {p.name.rpartition(".")[0] for p in network.get_parameters() if "head" in p.name}
    assert heads == {"head", *(f"coarse_heads.{level}" for level in range(levels - 1))}


def test_the_residual_network_of_images_has_the_parameters_of_its_recipe():
    # 64 to 1024 channels divided by 2; blocks of two 3x3 convolutions and a 1x1 beside them; a 1x1 in the way up
    levels = [32, 64, 128, 256, 512]
    down = sum(block(below, width) + below * width for below, width in zip([1, *levels], levels, strict=False))
    up = sum(2 * c * c + c + block(2 * c, c) + 2 * c * c for c in levels[:-1])
    settings = ModelSettings(in_channels=1, num_classes=2, feature_scale=2, residual=True, upsample="bilinear")
    assert parameters(settings) == down + up + 32 * 2 + 2


@pytest.mark.parametrize("upsample", ["transposed", "bilinear"])
def test_the_simple_network_has_a_norm_on_the_way_down_and_biases_on_the_way_up(upsample):
    # what the zoo's has: 32 to 512 channels; here a bias more for each convolution that no normalisation follows
    levels = [32, 64, 128, 256, 512]
    down = sum(block(below, width) for below, width in zip([1, *levels], levels, strict=False))
    kernel = {"transposed": 4, "bilinear": 1}[upsample]
    up = sum(kernel * 2 * c * c + c + 9 * 2 * c * c + c + 9 * c * c + c for c in levels[:-1])
    settings = ModelSettings(
        architecture="unet_simple", in_channels=1, num_classes=2, feature_scale=2, upsample=upsample
    )
    assert parameters(settings) == down + up + 32 * 2 + 2


def test_a_gate_has_two_convolutions_to_half_of_the_channels_and_one_to_a_number():
    settings = ModelSettings(in_channels=1, num_classes=2, base_channels=8, depth=4)
    gates = sum(c * c // 2 + 2 * c * c // 2 + c // 2 + c // 2 + 1 for c in (8, 16, 32))
    gated = settings.model_copy(update={"attention": True})
    assert parameters(gated) - parameters(settings) == gates


def test_an_open_gate_leaves_the_network_as_it_is_and_a_shut_one_cuts_its_skips(rng):
    plain = build_model(SMALL, seed=1).set_train(False)
    gated = build_model(SMALL.model_copy(update={"attention": True}), seed=1).set_train(False)
    x = Tensor(rng.standard_normal((1, 1, 16, 16), dtype=np.float32))
    for bias in (100.0, -100.0):
        for gate in gated.gate:
            gate.psi.bias.set_data(Tensor(np.array([bias], np.float32)))
        if bias < 0:
            for level, part in enumerate(plain.decoder):
                weight = part.conv1.weight.asnumpy().copy()
                weight[:, : 4 * 2**level] = 0
                part.conv1.weight.set_data(Tensor(weight))
        np.testing.assert_allclose(gated(x).asnumpy(), plain(x).asnumpy(), atol=1e-5)


def test_weights_before_a_relu_are_larger_by_the_root_of_two():
    plain = build_model(SMALL, seed=1)
    activated = build_model(SMALL.model_copy(update={"upsample_activation": True}), seed=1)
    for one, other in zip(plain.upsample, activated.upsample, strict=True):
        np.testing.assert_allclose(other.double.weight.asnumpy(), np.sqrt(2) * one.double.weight.asnumpy(), rtol=1e-6)


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
