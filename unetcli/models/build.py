"""From settings to a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mindspore import nn

from unetcli.config import ModelSettings
from unetcli.models.layers import ImageLayers, Layers, VolumeLayers
from unetcli.models.nested import NestedUNet
from unetcli.models.planes import PlaneLayers
from unetcli.models.residual import ResidualUNet
from unetcli.models.slices import SliceLayers
from unetcli.models.unet import UNet


def build_model(
    settings: ModelSettings,
    *,
    seed: int,
    target: Literal["any", "cpu"] = "any",
    frozen: bool = False,
    rank: int = 0,
    num_ranks: int = 1,
) -> nn.Cell:
    """The network that `settings` describe, with its first weights; the same for the same seed, whatever ran before.

    It takes and gives `(N, C, *S)`, has the same parameters and computes the same, whatever the target; only
    dropout falls on other values.

    Args:
        settings: With `in_channels` and `num_classes` set.
        seed: Of weights and dropout.
        target: What it computes on: 'any' takes MindSpore's own layers, for every device and for export, 'cpu'
            takes layers that are faster on CPU.
        frozen: Whether the network is for export: on volumes its batch normalisation then has no training, and no
            shape that an ONNX file would keep. It needs the target 'any'.
        rank: Number of this process among those that train together.
        num_ranks: How many there are. They compute what one does whose batch is theirs, one after the other.

    Raises:
        ValueError: If `in_channels` or `num_classes` is not set, or a frozen network has the target 'cpu'.
    """
    if settings.in_channels is None or settings.num_classes is None:
        raise ValueError("in_channels and num_classes must be set before a network is built")
    if frozen and target == "cpu":
        raise ValueError("a frozen network must have the target 'any', got 'cpu'")
    layers = replace(_layers(settings, target, frozen=frozen), rank=rank, num_ranks=num_ranks)
    network = {"unet_residual": ResidualUNet, "unet_nested": NestedUNet}.get(settings.architecture, UNet)
    return network(settings, layers, seed=seed)


def _layers(settings: ModelSettings, target: Literal["any", "cpu"], *, frozen: bool) -> Layers:
    padded = settings.architecture != "unet_valid"
    activation = "prelu" if settings.architecture == "unet_residual" else settings.activation
    if settings.ndim == 2:
        layers = PlaneLayers if target == "cpu" else ImageLayers
        return layers(padded, settings.norm, activation)
    if target == "cpu":
        return SliceLayers(padded, settings.norm, activation)
    return VolumeLayers(padded, settings.norm, activation, frozen=frozen)
