"""`--runtime`: the same masks whatever computes them, without MindSpore where another can, from a file in the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tifffile
from processes import ENVIRONMENT, contents

OTHERS = ("openvino", "onnxruntime")


@pytest.fixture
def run(workshop, tmp_path):
    """A run of one's own."""
    return shutil.copytree(
        workshop.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "export", "last.ckpt")
    )


@pytest.fixture(scope="module")
def by_mindspore(workshop, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mindspore")
    workshop.unet("predict", "validation.tif", "-r", workshop.run, "-o", folder, "--scores", "--runtime", "mindspore")
    return folder


@pytest.mark.parametrize("runtime", OTHERS)
def test_masks_and_scores_are_those_of_mindspore(workshop, by_mindspore, tmp_path, runtime):
    workshop.unet("predict", "validation.tif", "-r", workshop.run, "-o", tmp_path, "--scores", "--runtime", runtime)

    masks = [tifffile.imread(folder / "validation.tif") for folder in (by_mindspore, tmp_path)]
    scores = [tifffile.imread(folder / "validation_scores.tif") for folder in (by_mindspore, tmp_path)]
    assert np.mean(masks[0] == masks[1]) >= 0.99999
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4)


@pytest.mark.parametrize("runtime", OTHERS)
def test_mindspore_is_not_imported(workshop, tmp_path, runtime):
    arguments = ["predict", "validation.tif", "-r", str(workshop.run), "-o", str(tmp_path), "--runtime", runtime]
    code = (
        "import sys; from unetcli.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print(*[name for name in sys.modules if '.' not in name], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=workshop.folder,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    loaded = set(done.stderr.splitlines()[-1].split())
    assert runtime in loaded
    assert not {"mindspore", "onnx"} & loaded
    assert (set(OTHERS) & loaded) == {runtime}


def test_training_has_kept_the_network_and_predictions_leave_it_alone(workshop, tmp_path):
    before = contents(workshop.run / "onnx")
    assert len(before) == 1

    workshop.unet("predict", "validation.tif", "-r", workshop.run, "-o", tmp_path)

    assert contents(workshop.run / "onnx") == before


def test_another_checkpoint_makes_another_file_in_place_of_the_first(workshop, run, tmp_path):
    (old,) = (run / "onnx").iterdir()
    shutil.copy(workshop.run / "last.ckpt", run / "best.ckpt")

    talk = workshop.unet("predict", "validation.tif", "-r", run, "-o", tmp_path / "ours").err
    workshop.unet("predict", "validation.tif", "-r", run, "-o", tmp_path / "theirs", "--runtime", "mindspore")

    (new,) = (run / "onnx").iterdir()
    assert new != old
    assert str(new) in talk
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "ours" / "validation.tif"), tifffile.imread(tmp_path / "theirs" / "validation.tif")
    )


def test_a_damaged_file_is_made_anew(workshop, run, tmp_path):
    (kept,) = (run / "onnx").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1000])

    workshop.unet("predict", "validation.tif", "-r", run, "-o", tmp_path / "masks")

    onnx.checker.check_model(onnx.load(kept))


def test_where_the_run_cannot_be_written_to_mindspore_computes_and_says_why(workshop, run, tmp_path):
    shutil.rmtree(run / "onnx")
    (run / "onnx").write_text("no folder")

    done = workshop.unet("predict", "validation.tif", "-r", run, "-o", tmp_path / "masks")
    assert "note: MindSpore computes, since openvino cannot: " in done.err
    assert (tmp_path / "masks" / "validation.tif").is_file()


def test_eval_measures_the_same_with_every_runtime(workshop, run):
    found = [
        json.loads(workshop.unet("eval", "-r", run, "--runtime", runtime, "--json").out)
        for runtime in ("mindspore", *OTHERS)
    ]
    for name in ("pixel_accuracy", "mean_iou", "zoo_dice", "v_rand", "v_info"):
        assert found[1][name] == pytest.approx(found[0][name], abs=1e-4)
        assert found[2][name] == pytest.approx(found[0][name], abs=1e-4)


def test_a_runtime_that_cannot_use_the_device_is_refused(workshop, tmp_path):
    options = ("-o", tmp_path, "--runtime", "openvino", "--device", "Ascend")
    error = workshop.unet.refuses("predict", "validation.tif", *options, code=2)
    assert "--runtime openvino" in error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tile", "big"], "is no tile"),
        (["--tile", "50x64"], "--tile 50 does not fit"),
        (["--tile", "auto", "--overlap", "0.5"], "--overlap 0.5: with --tile auto"),
    ],
)
def test_tiles_that_cannot_be_are_refused(workshop, tmp_path, options, words):
    assert words in workshop.unet.refuses("predict", "validation.tif", "-o", tmp_path, *options, code=2)
