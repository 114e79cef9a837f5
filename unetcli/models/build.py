"""From settings to a network."""

from __future__ import annotations

from typing import Literal

from mindspore import nn

from unetcli.config import ModelSettings
from unetcli.models.layers import ImageLayers, Layers, VolumeLayers
from unetcli.models.residual import ResidualUNet
from unetcli.models.slices import SliceLayers
from unetcli.models.unet import UNet


def build_model(
    settings: ModelSettings, *, seed: int, layout: Literal["standard", "slices"] = "standard", frozen: bool = False
) -> nn.Cell:
    """The network that `settings` describe, with its first weights; the same for the same seed, whatever ran before.

    It takes and gives `(N, C, *S)`, has the same parameters and computes the same, whatever the layout; only
    dropout falls on other values.

    Args:
        settings: With `in_channels` and `num_classes` set.
        seed: Of weights and dropout.
        layout: How a network on volumes computes: 'standard' by 3D convolutions, 'slices' by 2D ones, which is
            faster on CPU. Without a meaning on images.
        frozen: Whether a network on volumes is for export: its batch normalisation has no training, and no shape
            that an ONNX file would keep. It needs the layout 'standard'.

    Raises:
        ValueError: If `in_channels` or `num_classes` is not set, or a frozen network is to have slices.
    """
    if settings.in_channels is None or settings.num_classes is None:
        raise ValueError("in_channels and num_classes must be set before a network is built")
    if frozen and settings.ndim == 3 and layout == "slices":
        raise ValueError("a frozen network must have the layout 'standard', got 'slices'")
    layers = _layers(settings, layout, frozen=frozen)
    network = ResidualUNet if settings.architecture == "unet_residual" else UNet
    return network(settings, layers, seed=seed)


def _layers(settings: ModelSettings, layout: Literal["standard", "slices"], *, frozen: bool) -> Layers:
    padded = settings.architecture != "unet_valid"
    activation = "prelu" if settings.architecture == "unet_residual" else settings.activation
    if settings.ndim == 2:
        return ImageLayers(padded, settings.norm, activation)
    if layout == "slices":
        return SliceLayers(padded, settings.norm, activation)
    return VolumeLayers(padded, settings.norm, activation, frozen=frozen)
