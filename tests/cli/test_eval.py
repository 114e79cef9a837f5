"""`unet eval`: the numbers of a run, and the runs and datasets it cannot measure."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from processes import SAMPLE, contents, page_values

from unetcli.runs import read_metrics


@pytest.fixture
def summary(workshop, evaluated) -> dict:
    assert "classes" in evaluated.out
    return json.loads((workshop.run / "evaluation" / "validation-best" / "summary.json").read_text())


def test_it_measures_what_training_selected_the_weights_by(workshop, summary):
    events = [event for event in read_metrics(workshop.run / "metrics.jsonl") if event["event"] == "epoch"]
    best = max(events, key=lambda event: event["validation"]["mean_iou"])["validation"]
    assert {name: summary[name] for name in best if name != "zoo_dice"} == {
        name: best[name] for name in best if name != "zoo_dice"
    }
    assert summary["zoo_dice"] == pytest.approx(best["zoo_dice"])


@pytest.mark.usefixtures("predicted")
def test_the_masks_of_predict_have_the_measures_of_eval(workshop, summary):
    masks = np.stack(page_values(workshop.folder / "masks" / "validation.tif"))
    truth = tifffile.imread(SAMPLE / "train-labels.tif")[:2]
    assert set(np.unique(masks)) == {0, 255}
    assert summary["pixel_accuracy"] == np.mean(masks == truth)
    for name, value in (("membrane", 0), ("cell", 255)):
        both = np.count_nonzero((masks == value) & (truth == value))
        either = np.count_nonzero((masks == value) | (truth == value))
        assert summary["classes"][name]["iou"] == both / either
        assert summary["classes"][name]["recall"] == both / np.count_nonzero(truth == value)
        assert summary["classes"][name]["precision"] == both / np.count_nonzero(masks == value)


def test_the_table_of_cases_adds_up_to_the_whole(workshop, summary):
    with (workshop.run / "evaluation" / "validation-best" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"slice-000", "slice-001"}
    assert np.mean([float(row["pixel_accuracy"]) for row in rows]) == pytest.approx(summary["pixel_accuracy"])
    assert float(rows[0]["mean_iou"]) <= float(rows[1]["mean_iou"])


def test_other_weights_on_other_cases_of_a_dataset_that_has_moved_as_json(workshop, tmp_path):
    run, dataset = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(workshop.run, run, ignore=shutil.ignore_patterns("evaluation", "export"))
    shutil.copytree(workshop.dataset, dataset)

    done = workshop.unet(
        "eval", "-r", run, "--dataset", dataset, "--split", "train", "--checkpoint", "last", "--tta", "--json"
    )

    report = json.loads(done.out)
    assert report["num_cases"] == 10
    assert report["folder"] == str(run / "evaluation" / "train-last-tta")
    assert done.err.splitlines()[0] == f"run: {run}"


@pytest.fixture
def moved(workshop, tmp_path):
    """A copy of the dataset, and a copy of the run that looks for it where it is not."""
    run = shutil.copytree(workshop.run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation", "export"))
    facts = json.loads((run / "run.json").read_text()) | {"dataset_path": str(tmp_path / "gone")}
    (run / "run.json").write_text(json.dumps(facts))
    shutil.copytree(workshop.dataset, tmp_path / "dataset")


@pytest.mark.usefixtures("moved")
def test_a_dataset_that_has_gone_is_named_with_the_way_to_name_another(unet):
    err = unet.refuses("eval", "--run", "run", code=3)
    assert f"{unet.folder}/gone: the dataset that run was trained on is no longer there" in err
    assert "--dataset" in err
    assert "unet train DATASET --resume run" in unet.refuses("train", "--resume", "run", code=3)
    assert "--check" in unet.refuses("export", "--run", "run", code=3)


@pytest.mark.usefixtures("moved")
def test_another_dataset_is_not_measured(unet):
    manifest = json.loads((unet.folder / "dataset" / "manifest.json").read_text())
    manifest["cases"][5]["labels_sha256"] = "0" * 64
    (unet.folder / "dataset" / "manifest.json").write_text(json.dumps(manifest))
    err = unet.refuses("eval", "--run", "run", "--dataset", "dataset", code=4)
    assert "dataset: is not the dataset that run was trained on" in err


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize(
    ("lost", "says"),
    [
        ("run.json", "run: not a run folder (no run.json in it)"),
        ("config.yaml", "run/config.yaml: cannot be read"),
        ("best.ckpt", "run/best.ckpt: no such checkpoint\nhint:  train on with: unet train --resume run"),
    ],
)
def test_a_run_that_has_lost_a_file_is_refused_and_stays_as_it_is(unet, lost, says):
    (unet.folder / "run" / lost).unlink()
    before = contents(unet.folder)
    assert says in unet.refuses("eval", "--run", "run", code=4)
    assert contents(unet.folder) == before
