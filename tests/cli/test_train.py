"""`unet train`: stopped in every way and taken up, equal to a run that was never stopped; and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import time

import numpy as np
import pytest
from processes import EPOCHS, SAMPLE, STEPS_PER_EPOCH, Unet, age, contents, tensors

from unetcli.framework import cache_folder
from unetcli.runs import read_metrics

STEPS = EPOCHS * STEPS_PER_EPOCH
TIMES = {"seconds", "images_per_second", "wait_share"}


def lines_of(run) -> int:
    """Lines of a run's metrics that are whole."""
    return (run / "metrics.jsonl").read_bytes().count(b"\n")


def events_of(run) -> list[dict]:
    """What the journal says, without what a clock measured."""
    return [{k: v for k, v in event.items() if k not in TIMES} for event in read_metrics(run / "metrics.jsonl")]


@pytest.fixture(scope="module")
def stopped(workshop, tmp_path_factory):
    """A run that was trained from another's settings, killed twice, interrupted, and taken up each time."""
    unet, run = workshop.unet, tmp_path_factory.mktemp("stopped") / "run"
    rng = np.random.default_rng()  # another moment in every run of the tests
    metrics = run / "metrics.jsonl"

    new = ("train", "--config", workshop.run / "config.yaml", "--output", run)
    unet.signalled(*new, metrics=metrics, line=rng.integers(1, STEPS_PER_EPOCH - 1), number=signal.SIGKILL)
    assert not (run / "last.ckpt").exists()

    resume = ("train", "--resume", run)
    line = rng.integers(STEPS_PER_EPOCH + 1, 4 * STEPS_PER_EPOCH)
    unet.signalled(*resume, metrics=metrics, line=line, number=signal.SIGKILL)
    assert line <= lines_of(run) < STEPS + EPOCHS, "the training was over before it was killed"

    line = lines_of(run) + rng.integers(1, STEPS_PER_EPOCH)
    interrupted = unet.signalled(*resume, metrics=metrics, line=line, number=signal.SIGINT)
    journal = events_of(run)
    resumed = unet(*resume)
    return run, interrupted, journal, resumed


def test_a_run_that_was_stopped_in_every_way_has_the_weights_of_one_that_never_was(workshop, stopped):
    run = stopped[0]
    for name in ("last.ckpt", "best.ckpt"):
        straight, taken_up = tensors(workshop.run / name), tensors(run / name)
        assert straight.keys() == taken_up.keys()
        assert [key for key in straight if straight[key] != taken_up[key]] == []


def test_its_journal_has_every_step_and_epoch_once_and_alike(workshop, stopped):
    events = events_of(stopped[0])
    assert [event["step"] for event in events if event["event"] == "step"] == list(range(1, STEPS + 1))
    assert events == events_of(workshop.run)


def test_its_settings_are_those_it_was_trained_from(workshop, stopped):
    assert (stopped[0] / "config.yaml").read_text() == (workshop.run / "config.yaml").read_text()


def test_ctrl_c_leaves_after_a_step_and_says_how_to_go_on(stopped):
    run, interrupted, journal, resumed = stopped
    assert interrupted.out == ""
    assert f"go on with: unet train --resume {run}\n" in interrupted.err
    assert journal[-1]["step"] < STEPS
    assert journal == events_of(run)[: len(journal)]
    num_closed = sum(event["event"] == "epoch" for event in journal)
    epochs = [line.split()[1] for line in resumed.err.splitlines() if line.startswith("epoch ")]
    assert epochs == [f"{epoch}/{EPOCHS}" for epoch in range(num_closed + 1, EPOCHS + 1)]


def test_ctrl_c_while_mindspore_is_loaded_leaves_at_once_and_makes_no_run(workshop, tmp_path):
    process = workshop.unet.start("train", "--config", "small.yaml", "-o", tmp_path / "run")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("dataset:")
    time.sleep(0.4)  # loading takes more than a second
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "interrupted\n")
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_goes_on_for_more_epochs_where_its_dataset_has_moved_to(workshop, tmp_path):
    run, dataset = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(workshop.run, run, ignore=shutil.ignore_patterns("evaluation", "export"))
    shutil.copytree(workshop.dataset, dataset)

    done = workshop.unet("train", dataset, "--resume", run, "--epochs", EPOCHS + 1, "--json")

    outcome = json.loads(done.out)
    assert (outcome["outcome"], outcome["epochs"], outcome["steps"]) == ("finished", EPOCHS + 1, STEPS + 5)
    events = events_of(run)
    assert events[: STEPS + EPOCHS] == events_of(workshop.run)
    assert [event["step"] for event in events[STEPS + EPOCHS :]] == [*range(STEPS + 1, STEPS + 6), STEPS + 5]
    assert tensors(run / "last.ckpt") != tensors(workshop.run / "last.ckpt")


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(workshop):
    before = contents(workshop.folder / "runs")
    facts = json.loads(workshop.unet("train", "--config", "small.yaml", "--dry-run", "-o", "runs/dry", "--json").out)
    expected = {
        "run": "runs/dry",
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "patches_per_step": 2,
        "first_weights": None,
        "next_epoch": 1,
        "ended": None,
        "processes": 1,
    }
    assert {name: facts[name] for name in expected} == expected
    assert facts["memory_bytes"] > 0
    resume = ("train", "--resume", workshop.run, "--dry-run")
    facts = json.loads(workshop.unet(*resume, "--epochs", EPOCHS + 1, "--json").out)
    assert (facts["epochs"], facts["first_weights"]) == (EPOCHS + 1, str(workshop.run / "last.ckpt"))
    assert (facts["next_epoch"], facts["ended"]) == (EPOCHS + 1, None)
    done = workshop.unet(*resume, "--distribute", 2).out
    assert "none, the run has finished; more need --epochs N" in done
    assert "for each of 2 processes" in done
    assert contents(workshop.folder / "runs") == before


# what it refuses; the run that is there stays as it is


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--set train.epoch=3", 2, "train.epoch: no such setting\nhint:  did you mean 'epochs'?"),
        ("--set train.epochs=abc", 2, "--set train.epochs: must be a whole number, found 'abc'"),
        ("--preset ibsi", 2, "--preset ibsi: no such preset\nhint:  did you mean 'isbi'?"),
        (
            "--set train.select_by=mean_io",
            2,
            "train.select_by: mean_io: no such measure of isbi\n"
            "hint:  did you mean 'mean_iou'? known are: pixel_accuracy, mean_iou, ",
        ),
        ("--dry-run --set train.select_by=mean_io", 2, "train.select_by: mean_io: no such measure of isbi"),
        (
            "--dry-run --fold all",
            2,
            "--dry-run: is of one run, not of all folds\nhint:  name one fold, such as --fold 0",
        ),
        ("--dry-run -o small.yaml/run", 3, "small.yaml/run: cannot be written (Not a directory)"),
        ("--dry-run --resume runs/isbi-custom-fold0 --epochs 1", 2, "--epochs 1: runs/isbi-custom-fold0 already has 8"),
        ("--fold 7", 2, "data.fold: 7, but isbi has 5 folds\nhint:  choose 0 to 4"),
        ("--config nowhere.yaml", 2, "nowhere.yaml: cannot be read"),
        ("-o runs/isbi-custom-fold0", 2, "runs/isbi-custom-fold0: already exists"),
        ("-o datasets/isbi --overwrite", 2, "datasets/isbi: is not a run folder, so it is not replaced"),
        ("-o small.yaml --overwrite", 2, "small.yaml: is not a run folder, so it is not replaced"),
        ("nowhere", 3, "nowhere: not a dataset folder"),
        ("--resume nowhere", 4, "nowhere: not a run folder"),
        ("--resume runs/isbi-custom-fold0 --seed 3", 2, "--resume: --seed cannot change"),
        ("--resume runs/isbi-custom-fold0 --epochs 1", 2, "--epochs 1: runs/isbi-custom-fold0 already has 8"),
        ("--config small.yaml --device Ascend", 5, "--device Ascend: not found"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_changes_nothing(workshop, arguments, code, says):
    before = contents(workshop.run)
    assert says in workshop.unet.refuses("train", *arguments.split(), code=code)
    assert contents(workshop.run) == before
    assert {path.name for path in (workshop.folder / "runs").iterdir()} == {"isbi-custom-fold0", "older"}
    assert (workshop.dataset / "manifest.json").is_file()


def test_a_run_that_has_lost_its_last_checkpoint_is_not_trained_over(workshop, tmp_path):
    run = shutil.copytree(workshop.run, tmp_path / "run")
    (run / "last.ckpt").unlink()
    before = contents(run)
    err = workshop.unet.refuses("train", "--resume", run, code=4)
    assert f"{run}/last.ckpt: is missing, though training had come to epoch {EPOCHS}" in err
    assert contents(run) == before


# the dataset


def test_prepare_replaces_a_dataset_only_when_told_to_and_nothing_else_ever(workshop, unet):
    (unet.folder / "notes").mkdir()
    (unet.folder / "notes" / "text").touch()
    shutil.copytree(workshop.dataset, unet.folder / "dataset")
    age(unet.folder / "dataset")
    before = contents(unet.folder)

    prepare = ("prepare", "isbi", SAMPLE, "-o")
    assert "dataset: already exists" in unet.refuses(*prepare, "dataset", code=2)
    assert "notes: is not a dataset folder" in unet.refuses(*prepare, "notes", "--overwrite", code=2)
    assert contents(unet.folder) == before
    unet(*prepare, "dataset", "--overwrite")
    after = contents(unet.folder)
    assert after.keys() == before.keys()
    assert after["dataset/manifest.json"][0] > before["dataset/manifest.json"][0]


def test_a_source_that_is_cut_off_is_refused_and_named(unet):
    (unet.folder / "source").mkdir()
    shutil.copy(SAMPLE / "train-labels.tif", unet.folder / "source")
    volume = (SAMPLE / "train-volume.tif").read_bytes()
    (unet.folder / "source" / "train-volume.tif").write_bytes(volume[: len(volume) // 2])

    assert "source/train-volume.tif" in unet.refuses("prepare", "isbi", "source", code=3)
    assert [path.name for path in unet.folder.iterdir()] == ["source"]


def test_a_case_that_has_changed_is_noticed_before_a_run_is_made(workshop, tmp_path):
    dataset = shutil.copytree(workshop.dataset, tmp_path / "dataset")
    records = bytearray((dataset / "cases.mindrecord").read_bytes())
    records[len(records) // 2] ^= 1
    (dataset / "cases.mindrecord").write_bytes(records)

    err = Unet(tmp_path).refuses("train", "dataset", "--config", workshop.folder / "small.yaml", code=3)

    assert "dataset/cases.mindrecord: case slice-" in err
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.usefixtures("workshop")
def test_graphs_are_kept_for_the_next_run_with_the_same_settings():
    graphs = cache_folder("graphs")
    assert len(list(graphs.glob("*.graph"))) >= 2  # a training step and a scorer
    assert list(graphs.iterdir()) == list(graphs.glob("*.graph"))
