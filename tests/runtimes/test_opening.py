from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from unetcli.errors import ConfigError, RunError
from unetcli.runtimes import choosing, open_model

RUNTIMES = ("openvino", "onnxruntime")


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    if not choosing.is_installed(request.param):  # importing it here would let it send
        pytest.skip(f"{request.param} is not installed")
    return request.param


def test_one_function_takes_tiles_of_any_number_and_size(tiny, rng, runtime):
    path, expected = tiny
    model = open_model(path, runtime)
    for shape in ((1, 1, 5, 7), (3, 1, 5, 7), (2, 1, 31, 2), (1, 1, 5, 7)):
        tiles = rng.normal(size=shape).astype(np.float32)
        scores = model(tiles)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, expected(tiles), atol=1e-6)


def test_scores_stay_what_they_are_when_the_function_is_called_again(tiny, rng, runtime):
    path, expected = tiny
    model = open_model(path, runtime)
    tiles = rng.normal(size=(2, 2, 1, 9, 9)).astype(np.float32)
    first = model(tiles[0])
    model(tiles[1])
    np.testing.assert_allclose(first, expected(tiles[0]), atol=1e-6)


def test_tiles_may_be_views(tiny, rng, runtime):
    path, expected = tiny
    tiles = rng.normal(size=(2, 1, 8, 12))[:, :, ::-1, ::2]
    np.testing.assert_allclose(open_model(path, runtime)(tiles), expected(tiles.astype(np.float32)), atol=1e-6)


@pytest.mark.parametrize("fault", ["empty", "garbage", "text", "truncated"])
def test_a_damaged_file_is_refused(tiny, tmp_path, runtime, fault):
    whole = tiny[0].read_bytes()
    broken = {"empty": b"", "garbage": b"\x07garbage" * 40, "text": b"hello", "truncated": whole[: len(whole) // 2]}
    path = tmp_path / "model.onnx"
    path.write_bytes(broken[fault])
    with pytest.raises(RunError, match=r"model.onnx: .* cannot load it: [^\n]+$"):
        open_model(path, runtime)


def test_a_missing_file_says_how_to_make_it(tmp_path, runtime):
    with pytest.raises(RunError, match=r"model.onnx: no such model file") as caught:
        open_model(tmp_path / "model.onnx", runtime)
    assert "unet export --format ONNX" in caught.value.hint


def test_a_runtime_that_cannot_be_imported_is_not_a_fault_of_the_file(tiny, runtime):
    code = (
        "import sys; from pathlib import Path; from unetcli.runtimes import open_model\n"
        f"sys.modules['{runtime}'] = None\n"
        f"open_model(Path({str(tiny[0])!r}), '{runtime}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert f"{ConfigError.__name__}: --runtime {runtime}: cannot be loaded" in done.stderr


def test_a_runtime_of_another_name_is_a_callers_mistake(tiny):
    with pytest.raises(ValueError, match="runs in openvino or onnxruntime, got mindspore"):
        open_model(tiny[0], "mindspore")


ALONE = """
import os, socket, sys
from pathlib import Path

home, seen = Path(os.environ["HOME"]), []
def refuse(*arguments, **_):
    seen.append(arguments)
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse

from unetcli.runtimes import choose_runtime, open_model
runtime = sys.argv[2]
assert choose_runtime(runtime, "CPU") == runtime
assert runtime not in sys.modules, "choosing imported it"
import numpy
scores = open_model(Path(sys.argv[1]), runtime)(numpy.zeros((1, 1, 4, 4), numpy.float32))
assert scores.shape == (1, 3, 3, 3)
import threading
print(sorted(name for name, module in sys.modules.items() if "telemetry" in name and module is not None))
print([thread.name for thread in threading.enumerate()], seen, sorted(str(path) for path in home.rglob("*")))
print([name for name in ("mindspore", "onnx") if name in sys.modules])
"""


def test_a_prediction_sends_nothing_writes_nothing_at_home_and_loads_no_mindspore(tiny, tmp_path, runtime):
    outside = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(tiny[0]), runtime],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=outside | {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)},
    )
    assert done.stdout.splitlines() == ["[]", "['MainThread'] [] []", "[]"]
    assert done.stderr == ""
