"""Settings that only the dataset can fill in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli.config import with_values
from unetcli.core.anisotropy import plan_levels
from unetcli.core.normalization import dtype_range
from unetcli.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from unetcli.config import Config, LossSettings
    from unetcli.data.manifest import IntensityStats, Manifest

VOLUME_PRESETS = "hippocampus, luna16 or volume"


def resolve(config: Config, folder: Path, manifest: Manifest) -> Config:
    """Fill in what was left to the dataset: its place, channels, classes, the range of intensities, and the levels.

    Raises:
        ConfigError: If a setting contradicts the dataset.
    """
    _check_axes(config, folder, manifest)
    if config.loss.weight_map and manifest.weight_map is None:
        raise ConfigError(
            f"loss.weight_map: is set, but {folder} has no weight map",
            hint="prepare it again with --weight-map, or leave the setting out"
            if manifest.num_axes == 2
            else "leave the setting out; there are weight maps of images only",
        )
    facts = {"model.in_channels": len(manifest.channels), "model.num_classes": manifest.num_classes}
    for name, found in facts.items():
        given = getattr(config.model, name.removeprefix("model."))
        if given not in (None, found):
            raise ConfigError(f"{name}: {given}, but {folder} has {found}", hint="leave the setting out")
    values: dict[str, Any] = {**facts, "data.dataset": str(folder.resolve()), **_levels(config, manifest)}
    is_undone = config.loss.logit_adjustment == "weights"
    values["loss.log_weights"] = _log_weights(config.loss, manifest) if is_undone else None
    if config.data.normalization == "range":
        lower, upper = intensity_range(manifest.intensity)
        values["data.lower"] = lower if config.data.lower is None else config.data.lower
        values["data.upper"] = upper if config.data.upper is None else config.data.upper
    return with_values(config, values)


def intensity_range(stats: IntensityStats) -> tuple[float, float]:
    """The intensities that the range begins and ends with: those of an 8-bit type, else the dataset's own extent.

    16-bit files seldom use all their values (12-bit cameras are common), so there the middle 99 % of the
    dataset's pixels count.
    """
    if np.dtype(stats.dtype).itemsize == 1:
        return dtype_range(stats.dtype)
    lower, upper = stats.percentiles[0.5], stats.percentiles[99.5]
    return (lower, upper) if lower < upper else (stats.minimum, max(stats.maximum, stats.minimum + 1.0))


def _check_axes(config: Config, folder: Path, manifest: Manifest) -> None:
    if config.model.ndim != manifest.num_axes:
        what = {2: "images", 3: "volumes"}
        raise ConfigError(
            f"model.ndim: {config.model.ndim}, but {folder} holds {what[manifest.num_axes]}",
            hint=f"choose a preset for {what[manifest.num_axes]}"
            + (f", such as {VOLUME_PRESETS}" if manifest.num_axes == 3 else ""),
        )


def _log_weights(loss: LossSettings, manifest: Manifest) -> list[float]:
    """The logarithm of what a pixel of each class weighs in the mean, by class weights and weight map together."""
    by_map = manifest.mean_weights if loss.weight_map else (1.0,) * manifest.num_classes
    if by_map is None:
        raise ConfigError(
            f"loss.logit_adjustment: weights, but {manifest.name} does not say what its weights are in the mean",
            hint="prepare it again with --weight-map",
        )
    by_class = loss.class_weights or (1.0,) * manifest.num_classes
    if len(by_class) != manifest.num_classes:
        raise ConfigError(f"loss.class_weights are {len(by_class)}, but there are {manifest.num_classes} classes")
    weights = [m * w for m, w in zip(by_map, by_class, strict=True)]
    if min(weights) <= 0:
        name = manifest.class_names[weights.index(min(weights))]
        raise ConfigError(
            f"loss.logit_adjustment: weights, but those of {name} are {min(weights):g} in the mean",
            hint="give it some weight, or leave the setting out",
        )
    return [round(math.log(weight), 6) for weight in weights]


def _levels(config: Config, manifest: Manifest) -> dict[str, Any]:
    """Strides and kernels by the spacing of the dataset, where none are set and the network may choose."""
    model = config.model
    if manifest.spacing is None or model.ndim == 2 or model.architecture == "unet_valid":
        return {}
    strides, kernels = plan_levels(manifest.spacing, model.depth)
    return {
        "model.strides": model.strides or strides,
        "model.kernels": model.kernels or kernels,
    }
