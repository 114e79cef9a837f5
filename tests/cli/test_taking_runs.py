"""Which runs `unet predict` takes: those that are named, the newest, or all folds of a folder."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest
from processes import page_values

from unetcli.cli.wiring import take_runs
from unetcli.config import Config, load_saved_config, save_config, with_values
from unetcli.errors import RunError
from unetcli.folds import FoldsFacts, create_folds
from unetcli.runs import ClassFacts, RunFacts, create_run

FACTS = RunFacts(
    unet_version="0.1.0",
    dataset="isbi",
    kind="isbi",
    dataset_path="/data/isbi",
    fingerprint="ab" * 32,
    classes=(ClassFacts(index=0, name="membrane", value=0), ClassFacts(index=1, name="cell", value=255)),
    channels=("grey",),
    train=("slice-000",),
    validation=("slice-001",),
)
CONFIG = with_values(Config(), {"model.in_channels": 1, "model.num_classes": 2})


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """A run, and a folder of three folds and a run of another name."""
    monkeypatch.chdir(tmp_path)
    create_run(tmp_path / "runs" / "one", CONFIG, FACTS)
    for name in ("fold-2", "fold-10", "fold-1", "fold-x"):
        create_run(tmp_path / "runs" / "folds" / name, CONFIG, FACTS)
    return tmp_path / "runs"


def taken(*paths):
    return [run.path.name for run in take_runs(paths)]


def test_the_newest_or_the_named_run_is_taken_alone(runs, capsys):
    touched = (runs / "folds" / "fold-1" / "run.json").stat().st_mtime + 1
    os.utime(runs / "one" / "run.json", (touched, touched))
    assert taken() == ["one"]
    assert capsys.readouterr().err == "run: runs/one (the newest in runs/)\n"
    assert taken(runs / "one") == ["one"]
    assert capsys.readouterr().err == f"run: {runs}/one\n"


def test_a_folder_stands_for_its_folds_by_their_number(runs, capsys):
    assert taken(runs / "folds") == ["fold-1", "fold-2", "fold-10"]
    said = capsys.readouterr().err
    assert said == f"run: {runs}/folds (its folds fold-1, fold-2, fold-10)\naveraging 3 runs\n"
    assert taken() == ["fold-1", "fold-2", "fold-10"]
    said = capsys.readouterr().err
    assert said == "run: runs/folds (its folds fold-1, fold-2, fold-10, the newest in runs/)\naveraging 3 runs\n"


def test_a_run_that_is_named_twice_counts_once(runs, capsys):
    assert taken(runs / "folds" / "fold-2", runs / "folds") == ["fold-2", "fold-1", "fold-10"]
    assert "note: a run that is named twice counts once\naveraging 3 runs\n" in capsys.readouterr().err


def test_folds_and_runs_are_averaged_together(runs, capsys):
    assert taken(runs / "one", runs / "folds") == ["one", "fold-1", "fold-2", "fold-10"]
    assert capsys.readouterr().err.endswith("averaging 4 runs\n")


def write_folds(runs, *names):
    facts = FoldsFacts(
        unet_version="0.1.0", dataset="isbi", dataset_path="/data/isbi", fingerprint="ab" * 32, runs=names
    )
    create_folds(runs / "all", CONFIG, facts)
    for name in names:
        create_run(runs / "all" / name, CONFIG, FACTS)


def test_a_folder_that_all_folds_were_trained_into_has_those_that_it_names(runs):
    write_folds(runs, "fold-0", "fold-1")
    create_run(runs / "all" / "fold-2", CONFIG, FACTS)
    assert taken(runs / "all") == ["fold-0", "fold-1"]


def test_folds_that_have_not_begun_are_named(runs):
    write_folds(runs, "fold-0", "fold-1", "fold-2")
    for name in ("fold-1", "fold-2"):
        shutil.rmtree(runs / "all" / name)
    with pytest.raises(RunError, match="not all of its folds have begun; there is no fold-1, fold-2") as caught:
        take_runs([runs / "all"])
    assert f"unet train --resume {runs}/all" in caught.value.hint


@pytest.mark.parametrize("name", ["nowhere", "one/run.json", ""])
def test_what_is_neither_a_run_nor_folds_is_refused(runs, name):
    with pytest.raises(RunError, match="not a run folder"):
        take_runs([runs / name])


# the command


@pytest.fixture
def folds(workshop, tmp_path):
    """Two folds, of which one sees its images in another way."""
    for name in ("fold-0", "fold-1"):
        shutil.copytree(workshop.run, tmp_path / "two" / name, ignore=shutil.ignore_patterns("evaluation", "export"))
    settings = tmp_path / "two" / "fold-1" / "config.yaml"
    save_config(with_values(load_saved_config(settings), {"data.normalization": "percentile"}), settings)
    return tmp_path / "two"


def test_predict_averages_the_scores_of_all_folds(workshop, folds, tmp_path):
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.random.default_rng(5).integers(0, 256, (70, 80), dtype=np.uint8))
    calls = {"both": folds, "first": folds / "fold-0", "second": folds / "fold-1"}
    for name, run in calls.items():
        workshop.unet("predict", image, "--run", run, "--scores", "-o", tmp_path / name)
    both, first, second = (page_values(tmp_path / name / "image_scores.tif")[0] for name in calls)
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_allclose(both, (first + second) / 2, atol=1e-5)


@pytest.mark.parametrize("command", ["export --format ONNX", "eval"])
def test_what_takes_one_run_names_the_folds(workshop, folds, command):
    err = workshop.unet.refuses(*command.split(), "--run", folds, code=4)
    assert f"{folds}: holds the runs of several folds (fold-0, fold-1), and one is needed" in err
    assert f"hint:  name one of them, such as {folds}/fold-0" in err
