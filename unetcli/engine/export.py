"""Model files: written by MindSpore, mended where its exporter falls short, and opened again to be checked."""

# pyright: standard, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# MindSpore 2.10 says that a cell returns nearly anything or None

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import mindspore
import numpy as np
import onnx
from mindspore import Tensor, nn

from unetcli.errors import ConfigError, DeviceError, RunError
from unetcli.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SUFFIXES = {"MINDIR": ".mindir", "ONNX": ".onnx", "AIR": ".air"}


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
    """Make an exported ONNX file run in every runtime, fast, and at any size of the axes that are None in `shape`.

    MindSpore 2.10 writes the output's size into every transposed convolution, in a form that
    ONNX Runtime refuses, and knows no open axes. The padding of convolutions it writes axis
    by axis, where ONNX wants what comes before every axis first. What it writes in several operations
    where ONNX has one is made one, which saves OpenVINO 4 % of a U-Net's time and a third of `unet_residual`'s.
    """
    model = onnx.load(path)
    _mend_convolutions(model.graph)
    _join_prelu(model.graph)
    _join_softmax(model)
    if None in shape:
        names = ["batch", "channels", *(f"size{axis}" for axis in range(len(shape) - 2))]
        for value, prefix in ((model.graph.input[0], ""), (model.graph.output[0], "out_")):
            for axis, length in enumerate(shape):
                if length is None:
                    value.type.tensor_type.shape.dim[axis].dim_param = (prefix if axis else "") + names[axis]
        del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _mend_convolutions(graph: onnx.GraphProto) -> None:
    """Their padding, the size of the output of transposed ones, and the groups of those that mix no channels.

    MindSpore has no transposed convolution of volumes with groups on CPU, so that upsampling has weights of 0
    between channels; ONNX Runtime takes twice the memory for them.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        if "pads" in attributes:
            ends = attributes["pads"].ints
            ends[:] = [*ends[0::2], *ends[1::2]]
        if node.op_type == "Conv":
            continue
        kept = [attribute for name, attribute in attributes.items() if name not in ("output_shape", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend(kept)
        tensor = weights[node.input[1]]
        weight = onnx.numpy_helper.to_array(tensor)
        same = np.arange(len(weight))
        if len(weight) == weight.shape[1] and np.count_nonzero(weight) == np.count_nonzero(weight[same, same]):
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight[same, same][:, None], tensor.name))
            next(attribute for attribute in node.attribute if attribute.name == "group").i = len(weight)


def _join_prelu(graph: onnx.GraphProto) -> None:
    """Put one operation in place of `positive + slope * (x - positive)`.

    With one slope for all channels PReLU is LeakyReLU, which both runtimes make a part of the convolution before it.
    """
    readers = _readers(graph)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for relu in [node for node in graph.node if node.op_type == "Relu"]:
        x, positive = relu.input[0], relu.output[0]
        for sub in [node for node in readers[positive] if node.op_type == "Sub" and list(node.input) == [x, positive]]:
            (scale,) = readers[sub.output[0]]
            (total,) = readers[scale.output[0]]
            slope = weights[next(name for name in scale.input if name != sub.output[0])]
            alpha = onnx.numpy_helper.to_array(slope).item()
            total.CopyFrom(onnx.helper.make_node("LeakyRelu", [x], list(total.output), alpha=alpha))
            graph.initializer.remove(slope)
            for node in (relu, sub, scale):
                graph.node.remove(node)


def _join_softmax(model: onnx.ModelProto) -> None:
    """Leave out the transpositions around the softmax, which ONNX can take along any axis since its version 13."""
    graph = model.graph
    readers, writers = _readers(graph), {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "Softmax"]:
        before, (after,) = writers[node.input[0]], readers[node.output[0]]
        if before.op_type != "Transpose" or after.op_type != "Transpose":
            continue
        joined = onnx.helper.make_node("Softmax", list(before.input), list(after.output), axis=1)
        graph.node.remove(before)
        graph.node.remove(after)
        node.CopyFrom(joined)
    model.opset_import[0].version = 13
    model.ir_version = 7


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Who takes each value."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def open_mindir(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function from tiles to scores out of a MINDIR file; ONNX files are opened in `unetcli.runtimes`.

    Raises:
        RunError: If the file cannot be loaded.
    """
    try:
        graph = nn.GraphCell(mindspore.load(str(path)))
    except (RuntimeError, ValueError) as error:
        raise RunError(f"{path}: MindSpore cannot load it: {error}") from error
    return lambda tiles: graph(Tensor(np.ascontiguousarray(tiles))).asnumpy()


def input_name(path: Path) -> str | None:
    """What a model file calls its input, as converters want to be told; None of an AIR file, which only they read."""
    if path.suffix == SUFFIXES["ONNX"]:
        return onnx.load(path).graph.input[0].name
    if path.suffix == SUFFIXES["AIR"]:
        return None
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = ModelProto()
    model.ParseFromString(path.read_bytes())
    # behind the name of its graph, which MindSpore drops when it reads a file (ParseParameterName in load_mindir)
    return model.graph.input[0].name.partition(":")[2] or model.graph.input[0].name
