"""Compiled graphs that are kept: they must change nothing, and none may be taken for another."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from watching import WATCHING

import unetcli
from unetcli.engine import compiling
from unetcli.engine.compiling import GraphCache, graph_key
from unetcli.engine.device import set_up

# Two networks of other seeds; the second is trained, with constants in its graph: class weights, an ignored label, the
# key of dropout. It scores before the first step, in validation, tiles of another number, and after a load.
WORKER = (
    WATCHING
    + """
    import hashlib, json, sys, tempfile
    class Batches:
        steps_per_epoch = 2
        patches_per_step = 2

        def __getitem__(self, step):
            rng = np.random.default_rng(step)
            labels = rng.integers(0, 2, (2, 16, 16)).astype(np.int32)
            labels[0, 0] = 255
            return rng.normal(size=(2, 1, 16, 16)).astype(np.float32), labels

    options = {"model.in_channels": 1, "model.num_classes": 2, "model.base_channels": 2, "model.depth": 2,
               "data.patch_size": (16, 16), "train.batch_size": 2, "train.epochs": 2}
    further = {"model.dropout": 0.3, "loss.class_weights": (1.0, 3.0), "loss.dice": 1.0, "train.seed": 2}
    graphs = Path(sys.argv[1]) if sys.argv[1:] else None
    config = load_config(options=options)
    tiles = Batches()[9][0]
    scores = [Engine.start(config, Runtime("CPU", graphs)).predict(tiles)]
    losses = []
    config = load_config(options=options | further)
    engine = Engine.start(config, Runtime("CPU", graphs), ignored=255)

    def validate():
        scores.append(engine.predict(tiles))
        return {"mean_iou": 0.5}

    with tempfile.TemporaryDirectory() as folder:
        scores.append(engine.predict(tiles))
        engine.fit(Batches(), validate, lambda event: losses.append(event["loss"]), Path(folder))
        tensors, _ = read_checkpoint(Path(folder) / "last.ckpt")
        scores.append(engine.predict(tiles[:1]))
        engine = Engine.start(config, Runtime("CPU", graphs))
        scores.append(engine.predict(tiles))
        engine.load(Path(folder) / "best.ckpt")
        scores.append(engine.predict(tiles))
    values = {name: tensor.asnumpy() for name, tensor in tensors.items()}
    values |= {f"scores {number}": value for number, value in enumerate(scores)}
    left = losses, {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in values.items()}
    print(json.dumps({"left": left, "taken": taken, "package": compiling.__file__, "modules": [*sys.modules]}))
"""
)
NUM_GRAPHS = 5
"""That the worker wants: a scorer of each of its three engines, another for other tiles, a training step."""


is_edited = compiling._is_edited


class Worker:
    """A process that trains and scores, in an empty folder."""

    def __init__(self, package, folder, graphs):
        self.package, self.folder = package, folder
        for name in ("work", "temporary"):
            (folder / name).mkdir(parents=True)
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), *([str(graphs)] if graphs else [])],
            cwd=folder / "work",
            env=os.environ | {"TMPDIR": str(folder / "temporary"), "PYTHONPATH": str(package)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def done(self):
        """What it says; it must have left nothing elsewhere."""
        out, err = self._process.communicate(timeout=300)
        assert (self._process.returncode, err) == (0, "")
        assert [*(self.folder / "work").iterdir(), *(self.folder / "temporary").glob("unet*")] == []
        said = json.loads(out)
        assert Path(said["package"]).is_relative_to(self.package)
        return said


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of ours, so that nobody edits it meanwhile."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(Path(unetcli.__file__).parent, folder / "unetcli", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    return tmp_path_factory.mktemp("cache") / "unet" / "graphs"


@pytest.fixture(scope="module")
def plain_and_cold(tmp_path_factory, package, graphs):
    """Without a place for graphs; then two processes at the same time that have the same empty one."""
    workers = [
        Worker(package, tmp_path_factory.mktemp(str(number)), place)
        for number, place in enumerate((None, graphs, graphs))
    ]
    return [worker.done() for worker in workers]


@pytest.fixture(scope="module")
def warm(tmp_path_factory, plain_and_cold, package, graphs):
    del plain_and_cold  # it has filled the folder
    return Worker(package, tmp_path_factory.mktemp("warm"), graphs).done()


def test_keeping_graphs_changes_no_loss_no_weight_and_no_score(plain_and_cold, warm):
    plain, *cold = plain_and_cold
    assert plain["taken"] == []
    assert [worker["left"] for worker in (*cold, warm)] == 3 * [plain["left"]]


def test_a_second_process_compiles_nothing(plain_and_cold, warm):
    assert [worker["taken"] for worker in plain_and_cold[1:]] == 2 * [NUM_GRAPHS * [False]]
    assert warm["taken"] == NUM_GRAPHS * [True]


def test_the_first_step_does_not_wait_for_what_only_exports(warm):
    assert not {"onnx", "onnxruntime"} & set(warm["modules"])


def test_damaged_graphs_are_compiled_again_and_replaced(plain_and_cold, warm, package, graphs, tmp_path):
    whole = {path: path.read_bytes() for path in graphs.iterdir()}
    for number, (path, content) in enumerate(whole.items()):
        flipped = bytes([*content[:99], content[99] ^ 1, *content[100:]])
        path.write_bytes([content[: len(content) // 2], flipped, b"", b"no graph"][number % 4])
    again = Worker(package, tmp_path, graphs).done()
    assert again["left"] == plain_and_cold[0]["left"]
    assert not any(again["taken"])
    assert whole.keys() == set(graphs.iterdir())
    assert all(compiling._read(path) is not None for path in whole)
    assert warm["taken"] == NUM_GRAPHS * [True]


@pytest.fixture(autouse=True)
def unedited(monkeypatch):
    """Somebody may be at work on the source while the tests run."""
    monkeypatch.setattr(compiling, "_is_edited", lambda: False)


def small_cell(value):
    return Scaled(Tensor(np.full(3, value, np.float32)))


class Scaled(nn.Cell):
    """A cell with a constant."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def construct(self, x):
        return ops.relu(x * self.factor)


def scaled(cache, value):
    """Two positive numbers times `value`, through a cell that is compiled by way of `cache`."""
    set_up("CPU", seed=1)
    cell, x = small_cell(value), Tensor(np.array([1, 2, 4], np.float32))
    cache.compile(cell, x)
    return cell(x).asnumpy().tolist()


@pytest.mark.parametrize("where", ["a file", "a file/below", "nowhere"])
def test_a_place_that_cannot_be_written_is_silently_done_without(tmp_path, capfd, where):
    (tmp_path / "a file").touch()
    folder = None if where == "nowhere" else tmp_path / where
    assert scaled(GraphCache(folder, {}), 3) == [3, 6, 12]
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
    assert capfd.readouterr() == ("", "")


def test_no_room_for_temporary_files_is_silently_done_without(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(compiling, "_exchange", compiling._exchange.__wrapped__)
    monkeypatch.setattr("tempfile.TemporaryDirectory", fail)
    assert scaled(GraphCache(tmp_path / "graphs", {}), 3) == [3, 6, 12]
    assert not (tmp_path / "graphs").exists()


def test_a_disk_that_is_full_by_then_is_silently_done_without(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert scaled(GraphCache(tmp_path / "graphs", {}), 9) == [9, 18, 36]
    assert not (tmp_path / "graphs").exists()


@pytest.mark.parametrize("name", ["MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"])
def test_a_cache_that_the_user_has_on_is_left_alone(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    cache = GraphCache(tmp_path / "graphs", {})
    cache.compile(small_cell(2), Tensor(np.ones(3, np.float32)))
    assert not (tmp_path / "graphs").exists()


def test_cells_that_differ_in_a_constant_keep_a_graph_each(tmp_path):
    cache = GraphCache(tmp_path, {})
    assert [scaled(cache, value) for value in (3, 5, 3)] == [[3, 6, 12], [5, 10, 20], [3, 6, 12]]
    assert len(list(tmp_path.iterdir())) == 2


def test_only_the_newest_graphs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "MOST_GRAPHS", 4)
    for number in range(6):
        compiling._write(tmp_path / f"{number}.graph", bytes(1000))
        os.utime(tmp_path / f"{number}.graph", ns=(number, number))
    assert compiling._read(tmp_path / "2.graph") == bytes(1000)  # and is the newest now
    compiling._write(tmp_path / "6.graph", bytes(1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.graph", "4.graph", "5.graph", "6.graph"]
    monkeypatch.setattr(compiling, "MOST_BYTES", 2500)
    compiling._write(tmp_path / "7.graph", bytes(1000))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6.graph", "7.graph"]


@pytest.fixture
def key_of(start):
    """The key of a training step, by its cells alone or with the settings."""

    def make(*, ignored=None, num_steps=8, shape=(2, 1, 16, 16), is_training=True, facts=None, **settings):
        engine = start(**settings)
        engine.ignored = ignored
        step = engine._build_training(np.full(num_steps, 0.01, np.float32)).train_network
        step.set_train(is_training)
        labels = Tensor(np.zeros((shape[0], *shape[2:]), np.int32))
        return graph_key(step, (Tensor(np.zeros(shape, np.float32)), labels), facts or {})

    return make


def test_whatever_changes_a_graph_changes_its_key_and_only_that(key_of):
    changes = [
        {"ignored": 255},
        {"num_steps": 9},  # the table of learning rates is a parameter, but of another shape
        {"shape": (1, 1, 16, 16)},
        {"shape": (2, 1, 32, 16)},
        {"is_training": False},
        {"facts": {"device": "another"}},
        {"model__base_channels": 3},
        {"model__norm": "none"},
        {"model__upsample": "bilinear"},
        {"model__upsample": "nearest"},
        {"model__dropout": 0.3},
        {"model__dropout": 0.3, "train__seed": 2},
        {"model__dropout": 0.2},
        {"loss__dice": 1.0},
        {"loss__dice": 0.5},
        {"loss__dice": 0.5, "loss__dice_smooth": 2.0},
        {"loss__class_weights": (1.0, 2.0)},
        {"loss__class_weights": (1.0, 3.0)},
        {"optimizer__weight_decay": 0.01},
        {"optimizer__clip_norm": 1.0},
        {"optimizer__clip_norm": 2.0},
        {"optimizer__name": "adam", "optimizer__weight_decay": 0.01},
        {"optimizer__name": "sgd"},
        {"optimizer__name": "sgd", "optimizer__momentum": 0.8},
        {"optimizer__name": "sgd", "optimizer__nesterov": True},
        {"optimizer__loss_scale": 1024.0},
    ]
    plain = key_of()
    keys = [key_of(**change) for change in changes]
    assert len({plain, *keys}) == 1 + len(changes)
    # weights, and the rates that the table holds, are handed to a graph; without decay the two Adams are one
    assert plain == key_of(optimizer__name="adam")
    assert plain == key_of() == key_of(train__seed=2) == key_of(optimizer__learning_rate=0.5)


def test_a_source_that_is_edited_meanwhile_keeps_and_takes_nothing(tmp_path, monkeypatch):
    assert scaled(GraphCache(tmp_path / "graphs", {}), 7) == [7, 14, 28]
    source = tmp_path / "package" / "models" / "part.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1")  # newer than this process
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "package" / "engine" / "compiling.py"))
    monkeypatch.setattr(compiling, "_is_edited", is_edited)
    monkeypatch.setattr(compiling, "_read", pytest.fail)
    assert [scaled(GraphCache(tmp_path / "graphs", {}), value) for value in (7, 8)] == [[7, 14, 28], [8, 16, 32]]
    assert len(list((tmp_path / "graphs").iterdir())) == 1


def test_another_source_or_environment_is_another_key(tmp_path, monkeypatch):
    for room in ("config", "engine", "models"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "part.py").write_text("x = 1")
    monkeypatch.setattr(compiling, "__file__", str(tmp_path / "engine" / "compiling.py"))
    surroundings = compiling._surroundings.__wrapped__
    plain = surroundings()
    (tmp_path / "config" / "part.py").write_text("x = 2")  # what it decides is in the cells
    monkeypatch.setenv("MS_OM_PATH", str(tmp_path))
    assert surroundings() == plain
    (tmp_path / "models" / "part.py").write_text("x = 2")
    edited = surroundings()
    (tmp_path / "models" / "part.py").rename(tmp_path / "models" / "other.py")
    renamed = surroundings()
    monkeypatch.setenv("MS_DEV_SIDE_EFFECT_LOAD_ELIM", "3")
    assert len({plain, edited, renamed, surroundings()}) == 4


def test_a_training_step_and_a_scorer_are_compiled_once_for_each_size(start, toy_batches, tmp_path):
    engine = start()
    tiles = toy_batches()[0][0]

    def validate():
        for size in (16, 24, 16):
            engine.predict(np.resize(tiles, (2, 1, size, size)))
        return {"mean_iou": 0.5}

    engine.fit(toy_batches(), validate, lambda _: None, tmp_path)
    assert (len(engine._train_step.compile_cache), len(engine._scorer.compile_cache)) == (1, 2)
