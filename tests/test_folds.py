"""The folder of all folds, and what measures are over them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unetcli.config import Config
from unetcli.errors import ConfigError, RunError
from unetcli.evaluation import over_folds
from unetcli.files import sha256
from unetcli.folds import FoldsFacts, create_folds, extend_folds, fold_names, is_folds, open_folds

FACTS = FoldsFacts(
    unet_version="0.5.0", dataset="cells", dataset_path=Path("datasets/cells"), fingerprint="f", runs=fold_names(2)
)


@pytest.fixture
def folds(tmp_path):
    return create_folds(tmp_path / "folds", Config(), FACTS)


def test_what_was_made_is_read_back(folds):
    assert is_folds(folds.path)
    assert open_folds(folds.path) == folds
    assert json.loads((folds.path / "folds.json").read_text())["runs"] == ["fold-0", "fold-1"]
    assert folds.results() == {}


def test_more_epochs_are_written_and_fewer_refused(folds):
    assert extend_folds(folds, 31).config.train.epochs == 31
    assert open_folds(folds.path).config.train.epochs == 31
    with pytest.raises(ConfigError, match="already has 31"):
        extend_folds(open_folds(folds.path), 30)


def test_a_fold_is_done_once_it_is_trained_to_the_end_and_its_weights_are_measured(folds):
    assert not folds.is_done("fold-0", None)
    (folds.path / "fold-0").mkdir()
    best = folds.path / "fold-0" / "best.ckpt"
    best.write_bytes(b"weights")
    result = {
        "training": {"outcome": "finished"},
        "asked_epochs": 30,
        "weights": sha256(best),
        "evaluation": {"mean_iou": 0.5},
    }
    assert folds.is_done("fold-0", result)
    assert folds.is_done("fold-0", result | {"training": {"outcome": "stopped early"}})
    for change in ({"training": {"outcome": "interrupted"}}, {"training": None}, {"asked_epochs": 29}):
        assert not folds.is_done("fold-0", result | change)
        assert folds.is_measured("fold-0", result | change)
    best.write_bytes(b"other weights")
    assert not folds.is_measured("fold-0", result)


def test_what_was_found_is_kept_in_the_order_of_the_folds(folds):
    results = {"fold-1": {"evaluation": {"dice": 0.5}}, "fold-0": {"evaluation": {"dice": None}}}
    measures = over_folds({name: result["evaluation"] for name, result in results.items()})
    summary = folds.keep(results, measures)
    assert list(summary["folds"]) == ["fold-0", "fold-1"]
    assert folds.results() == results
    assert (folds.path / "summary.csv").read_text() == "measure,mean,sd,num_folds,fold-0,fold-1\ndice,0.5,,1,,0.5\n"


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("folds.json", "{", "folds.json: Invalid JSON"),
        ("folds.json", "{}", "folds.json: unet_version: Field required"),
        ("config.yaml", "train: {epoch: 1}", "config.yaml: train.epoch: no such setting"),
    ],
)
def test_a_folder_that_was_changed_is_refused(folds, file, text, says):
    (folds.path / file).write_text(text)
    with pytest.raises(RunError) as caught:
        open_folds(folds.path)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '"folds"'])
def test_a_summary_that_was_changed_is_refused(folds, text):
    (folds.path / "summary.json").write_text(text)
    with pytest.raises(RunError, match=r"summary\.json: is not what unet has written"):
        folds.results()


def test_measures_over_folds_by_hand():
    found = over_folds(
        {
            "a": {"num_cases": 2, "dice": 0.5, "classes": {"in": {"iou": 0.25}}, "folder": "x", "none": None},
            "b": {
                "num_cases": 1,
                "dice": 1.0,
                "classes": {"in": {"iou": None}},
                "statistics": {"in": {"hd95_mm": {"mean": 2.0, "median": 1.0}}},
                "none": None,
            },
        }
    )
    assert found == {
        "dice": {"mean": 0.75, "sd": pytest.approx(0.125**0.5), "num_folds": 2, "folds": {"a": 0.5, "b": 1.0}},
        "classes.in.iou": {"mean": 0.25, "sd": None, "num_folds": 1, "folds": {"a": 0.25, "b": None}},
        "none": {"mean": None, "sd": None, "num_folds": 0, "folds": {"a": None, "b": None}},
        "statistics.in.hd95_mm.mean": {"mean": 2.0, "sd": None, "num_folds": 1, "folds": {"a": None, "b": 2.0}},
    }
