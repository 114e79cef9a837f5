"""ONNX Runtime: for machines that OpenVINO is not made for."""

# ONNX Runtime's errors are not typed
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from unetcli.errors import RunError
from unetcli.framework import asked_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ERRORS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)


def open_onnx(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from tiles to scores.

    Raises:
        RunError: If the file cannot be loaded.
    """
    onnxruntime.disable_telemetry_events()  # it has them on Windows only
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = asked_threads() or 0  # 0 is for all cores
    options.enable_mem_pattern = False  # a plan of memory for every size, which takes more of it and no less time
    # threads that wait do not keep the cores from reading and writing
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except _ERRORS as error:
        raise RunError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    name = session.get_inputs()[0].name

    def run(tiles: NDArray[np.float32]) -> Any:
        return session.run(None, {name: np.ascontiguousarray(tiles, np.float32)})[0]

    return run
