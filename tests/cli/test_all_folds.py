"""`unet train --fold all`: killed, interrupted and taken up, it comes to what the folds come to one by one."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics

import pytest
from processes import SAMPLE, Unet, contents, tensors

from unetcli.runs import locked, read_metrics

STEPS_PER_EPOCH, EPOCHS = 10, 2
SETTINGS = f"""
model: {{base_channels: 4, depth: 3, dropout: 0.3}}
data: {{patch_size: [64, 64]}}
inference: {{tile_size: [64, 64]}}
train: {{steps_per_epoch: {STEPS_PER_EPOCH}, epochs: 9, batch_size: 2, select_by: zoo_dice_388}}
optimizer: {{learning_rate: 0.02}}
"""


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Both folds, killed in the first and interrupted in the second; what the last call said, and the folder."""
    unet = Unet(tmp_path_factory.mktemp("folded"))
    unet("prepare", "isbi", SAMPLE, "--folds", 2, "--split", "block")
    (unet.folder / "small.yaml").write_text(SETTINGS)
    folds = unet.folder / "runs" / "isbi-custom-folds"
    new = ("train", "--fold", "all", "--config", "small.yaml", "--epochs", EPOCHS)
    first, second = (folds / name / "metrics.jsonl" for name in ("fold-0", "fold-1"))
    unet.signalled(*new, metrics=first, line=STEPS_PER_EPOCH + 3, number=signal.SIGKILL)
    with locked(folds / "fold-0"):  # its process has ended too
        assert first.read_bytes().count(b"\n") < EPOCHS * (STEPS_PER_EPOCH + 1)
    interrupted = unet.signalled("train", "--resume", folds, metrics=second, line=3, number=signal.SIGINT)
    assert f"go on with: unet train --resume {folds}\n" in interrupted.err
    kept = contents(folds / "fold-0")
    done = unet("train", "--resume", folds, "--json")
    assert contents(folds / "fold-0") == kept
    return unet, folds, done


def test_a_fold_that_was_stopped_has_the_weights_of_one_trained_alone(folded):
    unet, folds, _ = folded
    unet("train", "--config", folds / "config.yaml", "--fold", 1, "--output", "alone")
    assert tensors(folds / "fold-1" / "last.ckpt") == tensors(unet.folder / "alone" / "last.ckpt")
    assert tensors(folds / "fold-1" / "best.ckpt") == tensors(unet.folder / "alone" / "best.ckpt")


def test_every_fold_has_the_settings_and_is_selected_by_their_measure(folded):
    _, folds, _ = folded
    for name in ("fold-0", "fold-1"):
        epochs = [event for event in read_metrics(folds / name / "metrics.jsonl") if event["event"] == "epoch"]
        assert [event["select_by"] for event in epochs] == ["zoo_dice_388"] * EPOCHS
        assert [event["score"] for event in epochs] == [event["validation"]["zoo_dice_388"] for event in epochs]


def test_the_summary_is_of_what_eval_says_of_each_fold(folded):
    _, folds, done = folded
    summary = json.loads(done.out)
    assert summary.pop("path") == str(folds)
    assert summary == json.loads((folds / "summary.json").read_text())
    assert (summary["num_folds"], summary["num_measured"]) == (2, 2)
    values = [
        json.loads((folds / name / "evaluation" / "validation-best" / "summary.json").read_text())["zoo_dice_388"]
        for name in ("fold-0", "fold-1")
    ]
    of = summary["measures"]["zoo_dice_388"]
    assert of["folds"] == dict(zip(("fold-0", "fold-1"), values, strict=True))
    assert (of["mean"], of["sd"], of["num_folds"]) == (sum(values) / 2, statistics.stdev(values), 2)
    with (folds / "summary.csv").open() as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    assert rows.keys() == summary["measures"].keys()
    assert float(rows["zoo_dice_388"]["fold-1"]) == values[1]


def test_eval_shows_it_anew_and_measures_what_is_missing(folded):
    unet, folds, _ = folded
    before = (folds / "summary.json").read_bytes()
    shown = unet("eval", "--run", folds)
    assert "2 of 2 folds" in shown.out
    assert "fold-0: measuring" not in shown.err

    summary = json.loads(before)
    del summary["folds"]["fold-1"]["evaluation"]
    (folds / "summary.json").write_text(json.dumps(summary))
    try:
        again = unet("eval", "--run", folds, "--json")
        assert "fold-1: measuring" in again.err
        assert json.loads(again.out)["measures"] == json.loads(before)["measures"]
    finally:
        (folds / "summary.json").write_bytes(before)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("train --fold all --config small.yaml -o runs/isbi-custom-folds", 2, "already exists"),
        ("train --fold all --config small.yaml -o datasets/isbi --overwrite", 2, "does not hold the runs of all folds"),
        ("train --fold all --set train.select_by=x --config small.yaml", 2, "train.select_by: x: no such measure"),
        ("train --fold every --config small.yaml", 2, "'every' is no fold"),
        ("train --resume runs/isbi-custom-folds --fold all", 2, "--resume: --fold cannot change"),
        ("train --resume runs/isbi-custom-folds --dry-run", 2, "such as --resume runs/isbi-custom-folds/fold-0"),
        ("train --resume runs/isbi-custom-folds --epochs 1", 2, "--epochs 1: runs/isbi-custom-folds already has 2"),
        ("train nowhere --resume runs/isbi-custom-folds", 3, "nowhere: not a dataset folder"),
        ("eval --run runs/isbi-custom-folds --tta", 2, "which --tta cannot measure in another way"),
        ("train --fold all --config small.yaml --device Ascend", 5, "--device Ascend: not found"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_changes_nothing(folded, arguments, code, says):
    unet, folds, _ = folded
    before = contents(unet.folder / "runs")
    assert says in unet.refuses(*arguments.split(), code=code)
    assert contents(unet.folder / "runs") == before
    assert [path.name for path in folds.parent.iterdir()] == [folds.name]


def test_a_dataset_of_one_fold_has_none_to_go_through(folded, tmp_path):
    unet, _, _ = folded
    dataset = shutil.copytree(unet.folder / "datasets" / "isbi", tmp_path / "one")
    manifest = json.loads((dataset / "manifest.json").read_text())
    (dataset / "manifest.json").write_text(json.dumps(manifest | {"splits": manifest["splits"][:1]}))
    assert "--fold all: " in unet.refuses("train", dataset, "--fold", "all", "--config", "small.yaml", code=2)
