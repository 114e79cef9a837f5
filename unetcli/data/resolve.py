"""Settings that only the dataset can fill in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli.config import with_values
from unetcli.core.normalization import dtype_range
from unetcli.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from unetcli.config import Config
    from unetcli.data.manifest import IntensityStats, Manifest


def resolve(config: Config, folder: Path, manifest: Manifest) -> Config:
    """Fill in what was left to the dataset: its place, channels, classes and the range of intensities.

    Raises:
        ConfigError: If a setting contradicts the dataset.
    """
    facts = {"model.in_channels": len(manifest.channels), "model.num_classes": manifest.num_classes}
    for name, found in facts.items():
        given = getattr(config.model, name.removeprefix("model."))
        if given not in (None, found):
            raise ConfigError(f"{name}: {given}, but {folder} has {found}", hint="leave the setting out")
    values: dict[str, Any] = {**facts, "data.dataset": str(folder.resolve())}
    if config.data.normalization == "range":
        lower, upper = intensity_range(manifest.intensity)
        values["data.lower"] = lower if config.data.lower is None else config.data.lower
        values["data.upper"] = upper if config.data.upper is None else config.data.upper
    return with_values(config, values)


def intensity_range(stats: IntensityStats) -> tuple[float, float]:
    """The intensities that become -1 and 1: those of an 8-bit type, else the dataset's own extent.

    16-bit files seldom use all their values (12-bit cameras are common), so there the middle 99 % of the
    dataset's pixels count.
    """
    if np.dtype(stats.dtype).itemsize == 1:
        return dtype_range(stats.dtype)
    lower, upper = stats.percentiles[0.5], stats.percentiles[99.5]
    return (lower, upper) if lower < upper else (stats.minimum, max(stats.maximum, stats.minimum + 1.0))
