"""From a model file to a function."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from unetcli.errors import ConfigError, RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Predictor = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def open_model(path: Path, runtime: str) -> Predictor:
    """A function from tiles `(N, C, *S)` float32 to scores `(N, K, *S')` float32, out of an ONNX file.

    One function serves one thread. It takes any number of tiles of any size that the file takes, and what it
    returns is the caller's own.

    Args:
        path: Of the file.
        runtime: "openvino" or "onnxruntime".

    Raises:
        RunError: If the file cannot be loaded.
        ConfigError: If the runtime itself cannot.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such model file", hint="make it with 'unet export --format ONNX --dynamic'")
    if runtime not in ("openvino", "onnxruntime"):
        raise ValueError(f"an ONNX file runs in openvino or onnxruntime, got {runtime}")
    try:
        room = import_module(f"unetcli.runtimes.with_{runtime}")
    except ImportError as error:
        raise ConfigError(
            f"--runtime {runtime}: cannot be loaded: {error}",
            hint="install it again with pip install 'unetcli[cpu]', or use --runtime mindspore",
        ) from error
    return room.open_onnx(path)
