"""Every network that can be trained gives the same scores without MindSpore, whatever the size and number of tiles."""

from __future__ import annotations

import mindspore
import numpy as np
import pytest

from unetcli.config import load_config
from unetcli.engine import Engine, Runtime
from unetcli.runtimes import choosing, open_model

DEEP = {"depth": 3, "deep_supervision": True, "dropout": 0.2}
VALID = {"architecture": "unet_valid"}
STRIDED = {"architecture": "unet_residual"}
NESTED = {"architecture": "unet_nested", "depth": 3, "deep_supervision": True}
MIXED = {"depth": 3, "strides": ((1, 2), (2, 2)), "kernels": ((1, 3), (3, 3), (3, 1))}
THICK = {"depth": 3, "strides": ((1, 2, 2), (2, 2, 2)), "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 1))}
VOLUME = {"ndim": 3}
NETWORKS = {
    "unet": DEEP,
    "unet, 3 channels, bilinear": {"in_channels": 3, "upsample": "bilinear", "residual": True, "activation": "prelu"},
    "unet, uneven, nearest": MIXED | {"upsample": "nearest", "norm": "none"},
    "unet_valid": VALID | {"residual": True},
    "unet_residual": STRIDED | {"depth": 3},
    "unet with gates": {"depth": 3, "attention": True},
    "unet_simple, bilinear": {"architecture": "unet_simple", "upsample": "bilinear"},
    "unet_nested": NESTED,
    "unet_nested, bilinear": NESTED | {"upsample": "bilinear", "norm": "none"},
    "unet of volumes": VOLUME | DEEP | {"activation": "prelu"},
    "unet of thick slices, bilinear": VOLUME | THICK | {"upsample": "bilinear", "residual": True},
    "unet of volumes, nearest": VOLUME | {"upsample": "nearest", "norm": "none"},
    "unet_valid of volumes, bilinear": VOLUME | VALID | {"upsample": "bilinear"},
    "unet_cicek": VOLUME | {"architecture": "unet_cicek"},
    "unet of thick slices with gates": VOLUME | THICK | {"attention": True},
    "unet_nested of thick slices": VOLUME | NESTED | THICK,
    "unet_residual of thick slices": VOLUME | STRIDED | THICK,
    "unet_residual of volumes": VOLUME | STRIDED | {"norm": "none"},
}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS.keys())
def engine(request, rng):
    """With biases, normalisations and running statistics that are not those it began with."""
    model = {"in_channels": 1, "num_classes": 3, "base_channels": 2, "depth": 2} | request.param
    least = 20 if model.get("architecture") == "unet_valid" else 8
    size = (least,) * model.get("ndim", 2)
    config = load_config(options={f"model.{name}": value for name, value in model.items()} | {"data.patch_size": size})
    engine = Engine.start(config, Runtime("CPU"))
    for parameter in engine._network.get_parameters():
        if parameter.ndim == 1 and parameter.dtype == mindspore.float32:
            parameter.set_data(mindspore.Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    mindspore.set_context(mode=mindspore.PYNATIVE_MODE)  # or every size would be compiled
    yield engine
    mindspore.set_context(mode=mindspore.GRAPH_MODE)


def test_a_network_computes_the_same_in_every_runtime(engine, rng, tmp_path):
    config, path = engine.config, tmp_path / "network.onnx"
    channels, ndim = config.model.in_channels, config.model.ndim
    engine.export(path, "ONNX", (None, channels, *[None] * ndim))
    models = [open_model(path, name) for name in ("openvino", "onnxruntime") if choosing.is_installed(name)]
    for number, more in ((1, (0, 0, 0)), (2, (1, 0, 2))):
        size = [
            length + extra * stride
            for length, extra, stride in zip(config.tile_size, more, config.model.stride, strict=False)
        ]
        tiles = rng.normal(size=(number, channels, *size)).astype(np.float32)
        scores = engine.predict(tiles)
        assert scores.std() > 0.02  # or anything would agree
        for model in models:
            np.testing.assert_allclose(model(tiles), scores, atol=5e-5)
