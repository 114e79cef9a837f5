"""Weights of MindSpore's model zoo (official/cv/Unet), under the names that they have here.

Its three networks are among ours, and differ in two things that can be mended in the weights: upsampled features come
before the skips, and most convolutions have no bias. One thing cannot: where they upsample by interpolation, corners
meet corners there, and pixels are areas here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


@dataclass(frozen=True, slots=True)
class ZooWeights:
    """The weights of a network of the zoo.

    Args:
        network: Its name there.
        settings: What `ModelSettings` must be for the same network.
        arrays: By our names.
        names: The zoo's name of each; that of the weight for a bias that it does not have.
    """

    network: str
    settings: dict[str, Any]
    arrays: dict[str, Array]
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of ours, and where the zoo has it.

    Args:
        name: Of ours.
        zoo_name: Of the zoo's.
        kind: 'normed' has no bias, 'plain' has one, 'transposed' has one for its second axis, 'meeting' is plain and
            the first after upsampled features and skips meet, and 'norm' is a batch normalisation.
    """

    name: str
    zoo_name: str
    kind: str


def read_zoo(tensors: Mapping[str, Array]) -> ZooWeights | None:
    """The weights among the tensors of a checkpoint; None if it is not of one of the three networks.

    Whatever else it has, such as the state of an optimiser, is left out.

    Args:
        tensors: By the zoo's names.
    """
    for network, mark, layers_of in (
        ("unet_medical", "inc.double_conv.0.weight", _medical),
        ("unet_nested", "conv00.convs.0.0.weight", _nested),
        ("unet_simple", "conv0.convs.0.0.weight", _simple),
    ):
        if mark in tensors:
            return _translated(network, tensors, layers_of)
    return None


def _translated(
    network: str, tensors: Mapping[str, Array], layers_of: Callable[[Mapping[str, Array]], Iterator[_Layer]]
) -> ZooWeights:
    arrays: dict[str, Array] = {}
    names: dict[str, str] = {}
    for layer in layers_of(tensors):
        for part in NORM if layer.kind == "norm" else ("weight", "bias"):
            zoo_name = f"{layer.zoo_name}.{part}"
            if zoo_name in tensors:
                names[f"{layer.name}.{part}"] = zoo_name
                arrays[f"{layer.name}.{part}"] = np.asarray(tensors[zoo_name], np.float32)
        weight = arrays.get(f"{layer.name}.weight")
        if weight is None:
            continue
        if layer.kind == "meeting":
            arrays[f"{layer.name}.weight"] = _skips_first(weight)
        if layer.kind != "normed" and f"{layer.name}.bias" not in arrays:
            size = weight.shape[1 if layer.kind == "transposed" else 0]
            arrays[f"{layer.name}.bias"] = np.zeros(size, np.float32)
            names[f"{layer.name}.bias"] = f"{layer.zoo_name}.weight"
    return ZooWeights(network, _settings(network, tensors), arrays, names)


def _settings(network: str, tensors: Mapping[str, Array]) -> dict[str, Any]:
    """What makes our network theirs, as far as the shapes of the weights do not tell."""
    if network == "unet_medical":
        return {
            "architecture": "unet_valid",
            "ndim": 2,
            "depth": _count(tensors, r"down(\d)\.") + 1,
            "norm": "none",
            "activation": "relu",
            "residual": False,
            "upsample": "transposed",
            "upsample_activation": True,
        }
    first_up = {"unet_nested": "up_concat01", "unet_simple": "up_concat1"}[network]
    up = tensors.get(f"{first_up}.up_conv.weight")
    is_transposed = up is None or up.shape[2:] == (2, 2)
    return {
        "architecture": network,
        "ndim": 2,
        "depth": _count(tensors, r"conv(\d)0?\.") + 1,
        "norm": "batch" if any(name.endswith(".moving_mean") for name in tensors) else "none",
        "activation": "relu",
        "upsample": "transposed" if is_transposed else "bilinear",
    }


def _medical(tensors: Mapping[str, Array]) -> Iterator[_Layer]:
    levels = _count(tensors, r"down(\d)\.")
    blocks = ["inc", *(f"down{level}.maxpool_conv.1" for level in range(1, levels + 1))]
    for level, block in enumerate(blocks):
        yield from _pair(f"encoder.{level}", f"{block}.double_conv", (0, 2), "plain", "plain")
    for number in range(1, levels + 1):  # the first is the coarsest
        level = levels - number
        yield _Layer(f"upsample.{level}.double", f"up{number}.up", "transposed")
        yield from _pair(f"decoder.{level}", f"up{number}.conv.double_conv", (0, 2), "meeting", "plain")
    yield _Layer("head", "outc.conv", "plain")


def _simple(tensors: Mapping[str, Array]) -> Iterator[_Layer]:
    levels = _count(tensors, r"conv(\d)\.")
    for level in range(levels + 1):
        yield from _normed_block(tensors, f"encoder.{level}", f"conv{level}")
    for level in range(levels):
        yield from _up(tensors, level, f"up_concat{level + 1}")
    yield _Layer("head", "final", "plain")


def _nested(tensors: Mapping[str, Array]) -> Iterator[_Layer]:
    levels = _count(tensors, r"conv(\d)0\.")
    for level in range(levels + 1):
        yield from _normed_block(tensors, f"encoder.{level}", f"conv{level}0")
    places = [(level, column) for column in range(1, levels + 1) for level in range(levels + 1 - column)]
    for number, (level, column) in enumerate(places):
        yield from _up(tensors, number, f"up_concat{level}{column}")
    for column in range(1, levels):
        yield _Layer(f"early_heads.{column - 1}", f"final{column}", "plain")
    yield _Layer("head", f"final{levels}", "plain")


def _normed_block(tensors: Mapping[str, Array], name: str, zoo_name: str) -> Iterator[_Layer]:
    """Two convolutions with a batch normalisation each, or without."""
    has_norm = f"{zoo_name}.convs.0.1.gamma" in tensors
    kind = "normed" if has_norm else "plain"
    yield from _pair(name, f"{zoo_name}.convs", ("0.0", "1.0"), kind, kind)
    if has_norm:
        yield _Layer(f"{name}.norm1", f"{zoo_name}.convs.0.1", "norm")
        yield _Layer(f"{name}.norm2", f"{zoo_name}.convs.1.1", "norm")


def _up(tensors: Mapping[str, Array], number: int, zoo_name: str) -> Iterator[_Layer]:
    """An upsampling and the two convolutions after it."""
    up = tensors.get(f"{zoo_name}.up_conv.weight")
    if up is not None and up.shape[2:] == (1, 1):
        yield _Layer(f"upsample.{number}.mix", f"{zoo_name}.up_conv", "plain")
    else:
        yield _Layer(f"upsample.{number}.double", f"{zoo_name}.up_conv", "transposed")
    yield from _pair(f"decoder.{number}", f"{zoo_name}.conv.convs", ("0.0", "1.0"), "meeting", "plain")


def _pair(name: str, zoo_name: str, places: tuple[object, object], first: str, second: str) -> Iterator[_Layer]:
    yield _Layer(f"{name}.conv1", f"{zoo_name}.{places[0]}", first)
    yield _Layer(f"{name}.conv2", f"{zoo_name}.{places[1]}", second)


def _skips_first(weight: Array) -> Array:
    """The weights of a convolution whose first inputs, as many as its outputs, become the last."""
    return np.concatenate([weight[:, len(weight) :], weight[:, : len(weight)]], axis=1)


def _count(tensors: Mapping[str, Array], pattern: str) -> int:
    """The largest number that a name begins with in this way."""
    return max(int(match[1]) for name in tensors if (match := re.match(pattern, name)))
