"""A network so small that it is written by hand, in the form that MindSpore's exporter gives files."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def write_onnx(path, weight):
    """A convolution without padding of images `(N, 1, H, W)` and a softmax over its channels."""
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["logits"], kernel_shape=weight.shape[2:]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, "size0", "size1"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(weight), "out_size0", "out_size1"])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The file, and a function that computes the same in float64."""
    weight = np.random.default_rng(3).normal(size=(3, 1, 2, 2)).astype(np.float32)
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_onnx(path, weight)

    def scores(tiles):
        windows = np.lib.stride_tricks.sliding_window_view(tiles[:, 0].astype(float), (2, 2), axis=(1, 2))
        logits = np.einsum("nyxij,kij->nkyx", windows, weight[:, 0])
        exponentials = np.exp(logits - logits.max(1, keepdims=True))
        return exponentials / exponentials.sum(1, keepdims=True)

    return path, scores
