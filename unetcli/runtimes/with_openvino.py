"""OpenVINO: the fastest on a CPU. It is kept from sending anything."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli.errors import RunError
from unetcli.framework import asked_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_OPTIONS: dict[str, Any] = {
    # on a CPU that has half precision OpenVINO takes it of itself, and the masks would no longer be MindSpore's
    "INFERENCE_PRECISION_HINT": "f32",
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    # or two predictions on one machine would share the first cores and leave the others idle
    "ENABLE_CPU_PINNING": False,
}


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry.

    `import openvino` alone (2026.4) imports its model converter, which writes an identity into the home folder and
    sends an event to Google Analytics, unless the user has opted out. So the telemetry package is taken for missing, by
    this process, for good; OpenVINO has a stub in its place. The converter is taken for missing while OpenVINO is
    imported: we do not use it, and it takes half of the time.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    converter = "openvino.tools.ovc"
    if converter in sys.modules:
        import openvino

        return openvino
    sys.modules[converter] = None  # pyright: ignore[reportArgumentType]
    try:
        import openvino
    finally:
        del sys.modules[converter]
    return openvino


openvino = import_openvino()
frontend = openvino.frontend
_ERRORS = (
    frontend.GeneralFailure,
    frontend.InitializationFailure,
    frontend.NotImplementedFailure,
    frontend.OpConversionFailure,
    frontend.OpValidationFailure,
    RuntimeError,
)


def open_onnx(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from tiles to scores.

    The file is compiled once for all sizes, in about 0.1 s: compiled for one size it is not faster (measured in 2D and
    3D), so that images of many sizes cost no more than those of one.

    Raises:
        RunError: If the file cannot be loaded.
    """
    onnx = frontend.FrontEndManager().load_by_framework(
        "onnx"
    )  # Core.read_model tries a damaged file as other formats too
    threads = asked_threads()
    options = _OPTIONS | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    try:
        model = onnx.convert(onnx.load(str(path)))
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    except _ERRORS as error:
        raise RunError(f"{path}: OpenVINO cannot load it: {_reason(error)}") from error
    if not model.inputs:
        raise RunError(f"{path}: OpenVINO cannot load it: there is no network in it")

    def run(tiles: NDArray[np.float32]) -> Any:
        return request.infer([np.ascontiguousarray(tiles, np.float32)], share_inputs=True)[0]

    return run


def _reason(error: Exception) -> str:
    """The last line of a message that begins with places in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
