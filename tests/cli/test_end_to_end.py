"""The main job with no more words than needed: prepare, train, eval, predict, export, in one folder."""

from __future__ import annotations

import json

import onnxruntime
import pytest
from processes import EPOCHS, STEPS_PER_EPOCH

NEWEST_RUN = "run: runs/isbi-custom-fold0 (the newest in runs/)\n"


def test_prepare_makes_a_dataset_and_reports_it_as_json(workshop):
    summary = json.loads(workshop.prepared.out)
    assert (summary["dataset"], summary["slices"], summary["folds"]) == ("datasets/isbi", 12, 5)
    assert {path.name for path in workshop.dataset.iterdir()} >= {"manifest.json", "cases.mindrecord", "preview.png"}


def test_train_takes_the_newest_dataset_and_says_so(workshop):
    assert workshop.trained.err.startswith("dataset: datasets/isbi (the newest in datasets/)\n")
    assert workshop.trained.out == ""
    assert f"finished after {EPOCHS} epochs ({EPOCHS * STEPS_PER_EPOCH} steps)" in workshop.trained.err
    assert workshop.trained.err.endswith("next: unet eval --run runs/isbi-custom-fold0\n")


def test_train_shows_a_line_an_epoch_off_a_terminal(workshop):
    lines = [line for line in workshop.trained.err.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [f"{epoch}/{EPOCHS}" for epoch in range(1, EPOCHS + 1)]
    assert all("img/s" in line and "mean IoU" in line for line in lines)


def test_eval_takes_the_newest_run_and_says_so(workshop, evaluated):
    folder = "runs/isbi-custom-fold0/evaluation/validation-best"
    assert evaluated.err == f"{NEWEST_RUN}tables, JSON and overlays: {folder}\n"
    assert {"membrane", "cell", "zoo_dice_388", "v_rand", "v_info"} <= set(evaluated.out.split())
    made = {path.name for path in (workshop.folder / folder).iterdir()}
    assert made == {"summary.json", "cases.csv", "slice-000.png", "slice-001.png"}


def test_predict_takes_the_newest_run_and_says_so(predicted):
    assert predicted.err == NEWEST_RUN
    assert {"validation.tif", "masks/validation.tif"} <= set(predicted.out.split())


def test_export_takes_the_newest_run_and_proves_the_file(workshop, exported):
    assert exported.err == NEWEST_RUN
    folder = workshop.run / "export"
    assert {path.name for path in folder.iterdir()} == {"model.mindir", "model.mindir.json"}
    facts = json.loads((folder / "model.mindir.json").read_text())
    assert facts["agreement"]["equal_labels"] >= 0.9999
    assert facts["input"]["shape"] == [1, 1, 64, 64]
    assert "runs/isbi-custom-fold0/export/model.mindir.json" in exported.out


def test_the_same_as_onnx_of_any_size_is_reported_as_json(workshop, tmp_path):
    path = tmp_path / "m.onnx"
    done = workshop.unet("export", "--format", "onnx", "--dynamic", "-o", path, "--json")
    facts = json.loads(done.out)
    assert facts == {"model": str(path), **json.loads((tmp_path / "m.onnx.json").read_text())}
    assert [info["value"] for info in facts["classes"]] == [0, 255]
    assert facts["agreement"]["equal_labels"] >= 0.9999
    assert onnxruntime.InferenceSession(path).get_inputs()[0].shape[1] == 1
    assert {file.name for file in tmp_path.iterdir()} == {"m.onnx", "m.onnx.json"}


@pytest.mark.usefixtures("evaluated", "predicted", "exported")
def test_nothing_is_left_in_the_working_folder_but_what_was_asked_for(workshop):
    assert {path.name for path in workshop.folder.iterdir()} == {
        "datasets",
        "runs",
        "masks",
        "small.yaml",
        "validation.tif",
    }
    assert {path.name for path in workshop.dataset.iterdir()} == {
        "cases.mindrecord",
        "cases.mindrecord.db",
        "manifest.json",
        "preview.png",
    }
    assert {path.name for path in workshop.run.iterdir()} == {
        "best.ckpt",
        "config.yaml",
        "evaluation",
        "export",
        "last.ckpt",
        "metrics.jsonl",
        "onnx",
        "run.json",
    }
    assert [path.name for path in (workshop.folder / "masks").iterdir()] == ["validation.tif"]
