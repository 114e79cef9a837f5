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
    "volume": VOLUME,
    "thick slices": VOLUME.model_copy(update=THICK),
    "thick slices, bilinear": VOLUME.model_copy(update={**THICK, "upsample": "bilinear"}),
    "cicek": VOLUME.model_copy(update={"architecture": "unet_cicek"}),
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

    distances = []
    for axis in range(settings.ndim):
        others = tuple(other for other in range(1, settings.ndim + 1) if other != axis + 1)
        image, place = np.nonzero(changed.any(axis=others))
        distances.append(np.abs(place + settings.margin - places[image]).max())
    assert settings.reach == tuple(distances)


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
    assert ModelSettings(ndim=3, depth=4).reach == (51, 51, 51)
    assert ModelSettings(ndim=3, architecture="unet_cicek", depth=4).reach == (51, 51, 51)
