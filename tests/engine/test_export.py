from __future__ import annotations

import mindspore
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from unetcli.engine.export import SUFFIXES, check_format, input_name, mend_onnx, open_mindir
from unetcli.errors import ConfigError, DeviceError, RunError
from unetcli.runtimes import open_model

STATIC, DYNAMIC = (1, 1, 16, 16), (None, 1, None, None)


@pytest.fixture(scope="module")
def engine(start, rng_module):
    """A network whose biases, normalisations and running statistics are not those it began with."""
    engine = start(model__dropout=0.2, model__num_classes=3)
    for parameter in engine._network.get_parameters():
        if parameter.ndim == 1:
            parameter.set_data(mindspore.Tensor(rng_module.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return engine


@pytest.fixture(scope="module")
def rng_module():
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def exported(engine, tmp_path_factory):
    """Every format, fixed and open, from one engine in one process."""
    folder = tmp_path_factory.mktemp("export")
    for file_format in ("MINDIR", "ONNX"):
        for name, shape in (("static", STATIC), ("dynamic", DYNAMIC)):
            engine.export(folder / f"{name}{SUFFIXES[file_format]}", file_format, shape)
    return folder


def tiles_of(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def open_file(path):
    return open_mindir(path) if path.suffix == ".mindir" else open_model(path, "onnxruntime")


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_a_static_file_agrees_with_the_engine(engine, exported, rng, file_format):
    model = open_file(exported / f"static{SUFFIXES[file_format]}")
    for _ in range(2):
        tiles = tiles_of(rng, *STATIC)
        scores = engine.predict(tiles)
        assert scores.std() > 0.05  # or anything would agree
        np.testing.assert_allclose(model(tiles), scores, atol=1e-5)


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_a_dynamic_file_agrees_at_any_batch_and_size(engine, exported, rng, file_format):
    model = open_file(exported / f"dynamic{SUFFIXES[file_format]}")
    for shape in ((3, 1, 16, 16), (1, 1, 22, 30)):
        tiles = tiles_of(rng, *shape)
        np.testing.assert_allclose(model(tiles), engine.predict(tiles), atol=1e-5)


@pytest.mark.parametrize("suffix", [".mindir", ".onnx"])
def test_a_file_tells_what_its_input_is_called(exported, suffix):
    assert input_name(exported / f"static{suffix}") == "x"


def test_an_air_file_is_not_read_for_the_name_of_its_input(tmp_path):
    assert input_name(tmp_path / "model.air") is None


def test_the_engine_predicts_as_before_it_exported(engine, rng, tmp_path):
    tiles = tiles_of(rng, *STATIC)
    before = engine.predict(tiles)
    engine.export(tmp_path / "model.mindir", "MINDIR", STATIC)
    np.testing.assert_array_equal(engine.predict(tiles), before)


def test_exports_are_all_that_is_left_and_can_be_written_to(exported):
    (exported / "any").touch()
    mode = (exported / "any").stat().st_mode
    (exported / "any").unlink()
    names = {f"{name}{suffix}" for name in ("static", "dynamic") for suffix in (".mindir", ".onnx")}
    assert {path.name for path in exported.iterdir()} == names
    assert {path.stat().st_mode for path in exported.iterdir()} == {mode}


def test_an_onnx_file_names_its_open_axes(exported):
    session = onnxruntime.InferenceSession(exported / "dynamic.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, "size0", "size1"]
    assert session.get_outputs()[0].shape == ["batch", 3, "out_size0", "out_size1"]
    static = onnx.load(exported / "static.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in static] == list(STATIC)


@pytest.mark.parametrize("file_format", ["MINDIR", "ONNX"])
def test_the_sizes_that_the_original_network_takes_are_exported(start, rng, tmp_path, file_format):
    engine = start(model__architecture="unet_valid", data__patch_size=(20, 20))
    path = tmp_path / f"valid{SUFFIXES[file_format]}"
    engine.export(path, file_format, DYNAMIC)
    tiles = tiles_of(rng, 2, 1, 22, 20)
    scores = engine.predict(tiles)
    assert scores.shape == (2, 2, 6, 4)
    np.testing.assert_allclose(open_file(path)(tiles), scores, atol=1e-5)


def test_open_axes_are_exported_at_a_size_that_the_network_takes(engine, start, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("unetcli.engine.export.export_model", lambda *arguments: seen.append(arguments[3:]))
    # 64 px, for one, would not fit
    deep = start(model__architecture="unet_valid", model__depth=5, data__patch_size=(188, 204))
    deep.export(tmp_path / "model.onnx", "ONNX", DYNAMIC)
    engine.export(tmp_path / "model.onnx", "ONNX", (2, 1, None, 32))
    assert seen == [(DYNAMIC, [1, 1, 188, 204]), ((2, 1, None, 32), [2, 1, 16, 32])]


def test_air_is_refused_before_any_work(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("unetcli.engine.build_model", None)
    with pytest.raises(DeviceError, match=r"--format AIR: .* this runs on CPU") as caught:
        engine.export(tmp_path / "model.air", "AIR", STATIC)
    assert "--format MINDIR" in caught.value.hint
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_for_ascend():
    for file_format in SUFFIXES:
        check_format(file_format, "Ascend")


def test_a_name_that_does_not_end_like_its_format_is_refused(engine, tmp_path):
    with pytest.raises(ConfigError, match=r"model.bin: the name of a MINDIR file must end in .mindir"):
        engine.export(tmp_path / "model.bin", "MINDIR", STATIC)
    assert list(tmp_path.iterdir()) == []


def test_a_network_too_large_for_one_file_is_refused_whole(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("mindspore.train.serialization.TOTAL_SAVE", 0.1)  # kB instead of 1 GB
    (tmp_path / "model.mindir").write_text("old")
    with pytest.raises(RunError, match=r"model.mindir: the network is too large for one MINDIR file") as caught:
        engine.export(tmp_path / "model.mindir", "MINDIR", STATIC)
    assert "ONNX" in caught.value.hint
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_mindspore_cannot_export_is_told_in_a_line_and_leaves_the_old_file(engine, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no kernel\n- C++ Call Stack\n...")

    monkeypatch.setattr(mindspore, "export", fail)
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(RunError, match=r"model.onnx: MindSpore cannot export this network as ONNX: no kernel$"):
        engine.export(tmp_path / "model.onnx", "ONNX", STATIC)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("fault", ["missing", "empty", "garbage", "truncated"])
def test_a_broken_mindir_file_is_refused(exported, tmp_path, fault):
    path = tmp_path / "model.mindir"
    whole = (exported / "static.mindir").read_bytes()
    if fault != "missing":
        path.write_bytes({"empty": b"", "garbage": b"\x07garbage" * 40, "truncated": whole[: len(whole) // 2]}[fault])
    with pytest.raises(RunError, match=r"model.mindir: .* cannot load it"):
        open_mindir(path)


def mended(path, nodes, weights, shape):
    """What `mend_onnx` makes of a file, written as MindSpore 2.10 would: the file and the kinds of its operations."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=4), path)
    mend_onnx(path, [None, shape[1], *[None] * (len(shape) - 2)])
    return path, [node.op_type for node in onnx.load(path).graph.node]


def test_a_prelu_in_four_operations_becomes_one(tmp_path, rng):
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Sub", ["x", "positive"], ["negative"]),
        helper.make_node("Mul", ["slope", "negative"], ["scaled"]),
        helper.make_node("Add", ["positive", "scaled"], ["y"]),
    ]
    path, operations = mended(tmp_path / "prelu.onnx", nodes, {"slope": np.array([0.25])}, (1, 2, 4, 4))
    x = tiles_of(rng, 3, 2, 5, 6)
    assert operations == ["LeakyRelu"]
    np.testing.assert_allclose(open_file(path)(x), np.where(x > 0, x, 0.25 * x), rtol=1e-6)


def test_a_relu_stays_one(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("Mul", ["z", "z"], ["y"])]
    assert mended(tmp_path / "relu.onnx", nodes, {}, (1, 2, 4, 4))[1] == ["Relu", "Mul"]


def test_a_softmax_over_the_channels_needs_no_transposition(tmp_path, rng):
    nodes = [
        helper.make_node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Softmax", ["last"], ["scores"], axis=3),
        helper.make_node("Transpose", ["scores"], ["y"], perm=[0, 3, 1, 2]),
    ]
    path, operations = mended(tmp_path / "softmax.onnx", nodes, {}, (1, 3, 4, 4))
    x = tiles_of(rng, 2, 3, 5, 6)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    assert operations == ["Softmax"]
    np.testing.assert_allclose(open_file(path)(x), expected, rtol=1e-5)


@pytest.mark.parametrize(("mixes", "groups"), [(False, 3), (True, 1)])
def test_an_upsampling_that_mixes_no_channels_gets_groups(tmp_path, rng, mixes, groups):
    weight = np.eye(3)[:, :, None, None] * rng.uniform(1, 2, (2, 2))
    weight[0, 1, 0, 0] = mixes
    attributes = {"kernel_shape": [2, 2], "strides": [2, 2], "group": 1, "pads": [0, 0, 0, 0], "output_padding": [0, 0]}
    nodes = [helper.make_node("ConvTranspose", ["x", "weight"], ["y"], **attributes, output_shape=[1, 3, 8, 8])]
    path, _ = mended(tmp_path / "upsampling.onnx", nodes, {"weight": weight}, (1, 3, 4, 4))
    x = tiles_of(rng, 1, 3, 4, 4)
    expected = np.einsum("nihw,iokl->nohkwl", x, weight).reshape(1, 3, 8, 8)
    (node,) = onnx.load(path).graph.node
    assert next(attribute.i for attribute in node.attribute if attribute.name == "group") == groups
    np.testing.assert_allclose(open_file(path)(x), expected, rtol=1e-5)
