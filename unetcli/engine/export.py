"""Model files: written by MindSpore, mended where its exporter falls short, and opened again to be checked."""

# pyright: standard, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# MindSpore 2.10 says that a cell returns nearly anything or None, and ONNX Runtime's errors are not typed

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore
import numpy as np
import onnx
import onnxruntime
from mindspore import Tensor, nn
from onnxruntime.capi import onnxruntime_pybind11_state as state

from unetcli.errors import ConfigError, DeviceError, RunError
from unetcli.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SUFFIXES = {"MINDIR": ".mindir", "ONNX": ".onnx", "AIR": ".air"}
_ONNX_ERRORS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
)


def export_model(
    cell: nn.Cell, path: Path, file_format: str, shape: Sequence[int | None], example: Sequence[int]
) -> None:
    """Write `cell` as a model file, whole or not at all.

    Args:
        cell: From images `(N, C, *S)` to scores; must not have been exported before.
        path: Where to; ends in the format's suffix.
        file_format: One of `SUFFIXES`.
        shape: Of the input, None for an axis of any size.
        example: The same with a number for every axis, such as the network can take.

    Raises:
        ConfigError: If the path does not end in the format's suffix.
        RunError: If MindSpore cannot export the network, or not in one file.
    """
    if path.suffix != SUFFIXES[file_format]:
        raise ConfigError(f"{path.name}: the name of a {file_format} file must end in {SUFFIXES[file_format]}")
    cell.set_train(False)
    if None in shape and file_format == "MINDIR":
        sample = Tensor(shape=list(shape), dtype=mindspore.float32)
    else:
        sample = Tensor(np.zeros(example, np.float32))
    # in a folder of its own, since MindSpore writes more than one file where a network is large
    with replacing(path) as temporary, tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        try:
            mindspore.export(cell, sample, file_name=str(written), file_format=file_format)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise RunError(
                f"{path}: MindSpore cannot export this network as {file_format}: {reason}", hint="try another --format"
            ) from error
        if [*Path(folder).iterdir()] != [written]:
            raise RunError(
                f"{path}: the network is too large for one {file_format} file; MindSpore splits it from 1 GB on",
                hint="use --format ONNX, which holds 2 GB, or train with fewer model.base_channels",
            )
        written.chmod(0o600)  # MindSpore leaves it read-only
        if file_format == "ONNX":
            mend_onnx(written, shape)
        written.replace(temporary)


def check_format(file_format: str, device: str) -> None:
    """Raise `DeviceError` where a format cannot be written on a device."""
    if file_format == "AIR" and device != "Ascend":
        raise DeviceError(
            f"--format AIR: MindSpore writes AIR files on Ascend only, and this runs on {device}",
            hint="use --format MINDIR, which MindSpore Lite's converter takes for Ascend 310; AIR is deprecated",
        )


def mend_onnx(path: Path, shape: Sequence[int | None]) -> None:
    """Make an exported ONNX file run in ONNX Runtime, and at any size of the axes that are None in `shape`.

    MindSpore 2.10 writes the output's size into every transposed convolution, in a form that
    ONNX Runtime refuses, and knows no open axes. The padding of convolutions it writes axis
    by axis, where ONNX wants what comes before every axis first.
    """
    model = onnx.load(path)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and node.op_type in ("Conv", "ConvTranspose"):
                attribute.ints[:] = [*attribute.ints[0::2], *attribute.ints[1::2]]
        if node.op_type == "ConvTranspose":
            kept = [a for a in node.attribute if a.name not in ("output_shape", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend(kept)
    if None in shape:
        names = ["batch", "channels", *(f"size{axis}" for axis in range(len(shape) - 2))]
        for value, prefix in ((model.graph.input[0], ""), (model.graph.output[0], "out_")):
            for axis, length in enumerate(shape):
                if length is None:
                    value.type.tensor_type.shape.dim[axis].dim_param = (prefix if axis else "") + names[axis]
        del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def open_model(path: Path, file_format: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from tiles to scores out of an exported file: MindSpore for MINDIR, ONNX Runtime for ONNX.

    Raises:
        RunError: If the file cannot be loaded.
    """
    if file_format == "ONNX":
        return _open_onnx(path)
    try:
        graph = nn.GraphCell(mindspore.load(str(path)))
    except (RuntimeError, ValueError) as error:
        raise RunError(f"{path}: MindSpore cannot load it: {error}") from error
    return lambda tiles: graph(Tensor(np.ascontiguousarray(tiles))).asnumpy()


def _open_onnx(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except _ONNX_ERRORS as error:
        raise RunError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    name = session.get_inputs()[0].name

    def run(tiles: NDArray[np.float32]) -> Any:
        return session.run(None, {name: np.ascontiguousarray(tiles)})[0]

    return run
