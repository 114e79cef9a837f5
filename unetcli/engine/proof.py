"""A training of two seconds, which shows that all that a training needs works: `unet doctor` runs it by itself."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli.config import load_config
from unetcli.engine import Engine, Runtime
from unetcli.engine.device import available_devices, plugin_error
from unetcli.errors import UnetError
from unetcli.framework import cache_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NUM_STEPS = 40
BATCH_SIZE = 4
PATCH = 96
_CELLS = 6
"""Along each side of a patch, each bright or dark."""


class Squares:
    """Bright squares on noise; a batch follows from its step alone."""

    steps_per_epoch = NUM_STEPS
    patches_per_step = BATCH_SIZE

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Images `(N, 1, S, S)` and labels `(N, S, S)`."""
        rng = np.random.default_rng(step)
        side = PATCH // _CELLS
        cells = rng.integers(0, 2, (BATCH_SIZE, _CELLS, _CELLS), dtype=np.int32)
        labels = cells.repeat(side, axis=1).repeat(side, axis=2)
        image = 2 * labels - 1 + rng.normal(0, 1, labels.shape)
        return image[:, np.newaxis].astype(np.float32), labels


def prove(device: str, *, trains: bool) -> None:
    """Say in lines of JSON which devices there are, and how a small training went.

    Args:
        device: "auto" or the device to train on.
        trains: Whether to train.
    """
    _tell("devices", available=available_devices(), reason=plugin_error(), fitting_cann=_fitting_cann())
    if not trains:
        return
    try:
        _tell("trained", **train(device))
    except UnetError as error:
        _tell("refused", error=str(error), hint=error.hint)


def train(device: str) -> dict[str, Any]:
    """Train a small U-Net as `unet train` does.

    Args:
        device: "auto" or a device.

    Returns:
        The device, the losses step by step, and seconds: until the engine stood, of the first step, which compiles, and
        of another, as the median.

    Raises:
        DeviceError: If the device is not there.
    """
    began = time.perf_counter()
    config = load_config(
        options={
            "model.in_channels": 1,
            "model.num_classes": 2,
            "model.base_channels": 8,
            "model.depth": 3,
            "data.patch_size": (PATCH, PATCH),
            "train.batch_size": BATCH_SIZE,
            "train.epochs": 1,
            "train.steps_per_epoch": NUM_STEPS,
            "optimizer.learning_rate": 0.01,
        }
    )
    engine = Engine.start(config, Runtime(device, graphs=cache_folder("graphs")))
    started = time.perf_counter() - began
    steps: list[Mapping[str, Any]] = []

    def record(event: Mapping[str, Any]) -> None:
        if event["event"] == "step":
            steps.append(event)

    with tempfile.TemporaryDirectory(prefix="unet-doctor-") as folder:
        engine.fit(Squares(), lambda: {"mean_iou": 0.0}, record, Path(folder))
    return {
        "device": engine.device,
        "losses": [step["loss"] for step in steps],
        "batch_size": BATCH_SIZE,
        "patch": PATCH,
        "start_seconds": started,
        "compile_seconds": steps[0]["seconds"],
        "step_seconds": float(np.median([step["seconds"] for step in steps[1:]])),
    }


def _fitting_cann() -> list[str]:
    """The versions of CANN that this MindSpore names as fitting; none where it does not say."""
    try:
        from mindspore.run_check._check_version import AscendEnvChecker

        return [str(version) for version in AscendEnvChecker(None).version]
    except (ImportError, AttributeError, TypeError):
        return []


def _tell(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()
