"""Prediction without MindSpore: functions from tiles to scores that run an exported ONNX file on the CPU."""

from unetcli.runtimes.choosing import RUNTIMES, choose_runtime
from unetcli.runtimes.memory import tile_bytes_per_pixel
from unetcli.runtimes.opening import open_model

__all__ = ["RUNTIMES", "choose_runtime", "open_model", "tile_bytes_per_pixel"]
