from __future__ import annotations

import mindspore
import numpy as np
import pytest
from mindspore import Tensor

from unetcli.config import ModelSettings
from unetcli.models import build_model

SMALL = ModelSettings(in_channels=1, num_classes=2, base_channels=1, depth=3, norm="none")
VOLUME = SMALL.model_copy(update={"ndim": 3, "depth": 2})
THICK = {"strides": ((1, 2, 2),), "kernels": ((1, 3, 3), (3, 3, 3))}
WIDE = {"strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (1, 3), (3, 3))}
RESIDUAL = {"architecture": "unet_residual"}
NESTED = {"architecture": "unet_nested"}
VARIANTS = {
    "two levels": SMALL.model_copy(update={"depth": 2}),
    "three levels": SMALL,
    "four levels": SMALL.model_copy(update={"depth": 4}),
    "bilinear": SMALL.model_copy(update={"upsample": "bilinear"}),
    "nearest, residual": SMALL.model_copy(update={"upsample": "nearest", "residual": True}),
    "valid": SMALL.model_copy(update={"architecture": "unet_valid"}),
    "valid, bilinear": SMALL.model_copy(update={"architecture": "unet_valid", "upsample": "bilinear"}),
    "wide pixels": SMALL.model_copy(update=WIDE),
    "wide pixels, bilinear": SMALL.model_copy(update={**WIDE, "upsample": "bilinear"}),
    "strided": SMALL.model_copy(update=RESIDUAL),
    "strided, wide pixels": SMALL.model_copy(update={**RESIDUAL, **WIDE}),
    "simple": SMALL.model_copy(update={"architecture": "unet_simple"}),
    "nested": SMALL.model_copy(update=NESTED),
    "nested, two levels": SMALL.model_copy(update={**NESTED, "depth": 2}),
    "nested, four levels, bilinear": SMALL.model_copy(update={**NESTED, "depth": 4, "upsample": "bilinear"}),
    "nested, wide pixels": SMALL.model_copy(update={**NESTED, **WIDE}),
    "nested, fine kernels": SMALL.model_copy(update={**NESTED, "kernels": ((3, 3), (1, 1), (1, 3))}),
    "volume": VOLUME,
    "thick slices": VOLUME.model_copy(update=THICK),
    "thick slices, bilinear": VOLUME.model_copy(update={**THICK, "upsample": "bilinear"}),
    "cicek": VOLUME.model_copy(update={"architecture": "unet_cicek"}),
    "nested volume, thick slices": VOLUME.model_copy(update={**NESTED, **THICK}),
    "strided volume, thick slices": VOLUME.model_copy(update={**RESIDUAL, **THICK}),
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_pixel_changes_the_output_as_far_as_the_reach_and_no_farther(settings):
    """Weights are positive and the image is 0, so that nothing cancels and the pixel wins wherever it is pooled."""
    network = build_model(settings, seed=1).set_train(False)
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if len(parameter.shape) > 1:  # no bias, nor slope
            parameter.set_data(Tensor(rng.uniform(0.5, 1, parameter.shape).astype(np.float32)))
    side = _side(settings)
    places = side // 2 + np.arange(max(settings.stride))
    images = np.zeros((len(places), 1, *[side] * settings.ndim), np.float32)
    for image, place in zip(images, places, strict=True):
        image[(0, *[place] * settings.ndim)] = 1

    changed = network(Tensor(images, mindspore.float32)).asnumpy()[:, 0] > 0

    assert settings.reach == _distances(changed, places, settings)


@pytest.mark.parametrize("update", [{}, {"upsample": "bilinear"}, {"depth": 2}, WIDE, {"ndim": 3, "depth": 2}], ids=str)
def test_with_gates_a_pixel_changes_the_output_as_far_as_the_reach_and_no_farther(update):
    """A gate acts only where its skip is not 0: the image is 1, weights keep its size, and the pixel is far larger."""
    settings = SMALL.model_copy(update={"attention": True, **update})
    network = build_model(settings, seed=1).set_train(False)
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        if parameter.requires_grad and len(parameter.shape) > 1:
            weight = rng.uniform(0.5, 1, parameter.shape)
            parameter.set_data(Tensor((weight / np.prod(parameter.shape[1:])).astype(np.float32)))
    side = _side(settings)
    places = side // 2 + np.arange(max(settings.stride))
    images = np.ones((len(places) + 1, 1, *[side] * settings.ndim), np.float32)
    for image, place in zip(images, places, strict=False):
        image[(0, *[place] * settings.ndim)] = 1e20

    scores = network(Tensor(images)).asnumpy()[:, 0]

    assert settings.reach == _distances(scores[:-1] != scores[-1], places, settings)


def _distances(changed, places, settings):
    """The farthest changed pixel from its place along each axis, over all images."""
    distances = []
    for axis in range(settings.ndim):
        others = tuple(other for other in range(1, settings.ndim + 1) if other != axis + 1)
        image, place = np.nonzero(changed.any(axis=others))
        distances.append(np.abs(place + settings.margin - places[image]).max())
    return tuple(distances)


def _side(settings):
    """The least size that the network takes in whose middle a pixel changes nothing at the border."""
    side = 2 * (max(settings.reach) + max(settings.stride) + settings.margin)
    while True:
        try:
            settings.check_size("side", [side] * settings.ndim)
        except ValueError:
            side += 1
        else:
            return side


def test_the_reach_of_the_published_networks():
    assert ModelSettings(depth=5).reach == (107, 107)
    assert ModelSettings(architecture="unet_valid", depth=5).reach == (107, 107)
    assert ModelSettings(architecture="unet_simple", depth=5).reach == (107, 107)
    assert ModelSettings(architecture="unet_nested", depth=5).reach == (107, 107)
    assert ModelSettings(ndim=3, depth=4).reach == (51, 51, 51)
    assert ModelSettings(ndim=3, architecture="unet_cicek", depth=4).reach == (51, 51, 51)
