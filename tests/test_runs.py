"""The run folder: made, found, read back, extended; and its journal, cut back to a checkpoint."""

from __future__ import annotations

import json
import os
import re

import pytest

from unetcli.config import Config, with_values
from unetcli.errors import ConfigError, RunError
from unetcli.runs import (
    ClassFacts,
    Journal,
    RunFacts,
    create_run,
    extend_run,
    new_run_path,
    newest_run,
    open_run,
    read_metrics,
    sweep,
)

FACTS = RunFacts(
    unet_version="0.1.0",
    dataset="isbi",
    kind="isbi",
    dataset_path="/data/isbi",
    fingerprint="ab" * 32,
    classes=(ClassFacts(index=0, name="membrane", value=0), ClassFacts(index=1, name="cell", value=255)),
    channels=("grey",),
    train=("slice-000", "slice-001"),
    validation=("slice-002",),
)
CONFIG = with_values(Config(), {"train.epochs": 4, "model.in_channels": 1, "model.num_classes": 2})


@pytest.fixture(autouse=True)
def in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path / "run", CONFIG, FACTS)


def error_of(path):
    with pytest.raises(RunError) as caught:
        open_run(path)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return caught.value


def set_time(path, seconds):
    for each in (path, *path.rglob("*")):
        os.utime(each, (seconds, seconds))


# made and read back


def test_a_run_comes_back_equal(run):
    assert open_run(run.path) == run
    assert (run.config, run.facts) == (CONFIG, FACTS)
    assert sorted(path.name for path in run.path.iterdir()) == ["config.yaml", "run.json"]


def test_a_new_run_replaces_an_old_one_whole(run):
    (run.path / "last.ckpt").touch()

    create_run(run.path, with_values(CONFIG, {"train.epochs": 9}), FACTS)

    assert open_run(run.path).config.train.epochs == 9
    assert not run.last_checkpoint.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    error = error_of(tmp_path)

    assert str(error) == f"{tmp_path}: not a run folder (no run.json in it)"
    assert "unet train" in error.hint


def test_a_missing_folder_is_refused(tmp_path):
    assert str(error_of(tmp_path / "no")) == f"{tmp_path / 'no'}: not a run folder (no run.json in it)"


@pytest.mark.parametrize("content", [b"", b'{"schema_version": 1', b"\xff\xfe", b"[]", b"{}"])
def test_a_broken_run_json_is_refused_and_named(run, content):
    (run.path / "run.json").write_bytes(content)

    error = error_of(run.path)

    assert re.match(rf"{re.escape(str(run.path))}/run\.json: \w", str(error))
    assert "changed" in error.hint


def test_a_run_of_another_schema_is_refused_with_both_versions(run):
    value = json.loads((run.path / "run.json").read_text()) | {"schema_version": 2}
    (run.path / "run.json").write_text(json.dumps(value))

    assert str(error_of(run.path)).endswith("run.json: schema_version: must be 1, found 2")


def test_facts_that_are_not_known_are_refused_and_named(run):
    value = json.loads((run.path / "run.json").read_text()) | {"weights": "best"}
    (run.path / "run.json").write_text(json.dumps(value))

    assert "run.json: weights: " in str(error_of(run.path))


def test_a_run_without_its_settings_is_a_broken_run_and_no_mistake_in_the_options(run):
    (run.path / "config.yaml").unlink()

    assert str(error_of(run.path)) == f"{run.path}/config.yaml: cannot be read (No such file or directory)"


def test_a_run_with_a_setting_that_is_wrong_is_a_broken_run(run):
    (run.path / "config.yaml").write_text("train: {epochs: 0}")

    error = error_of(run.path)

    assert str(error) == f"{run.path}/config.yaml: train.epochs: must be at least 1, found 0"
    assert isinstance(error.__cause__, ConfigError)


def test_what_a_killed_save_left_is_swept_and_nothing_else(run):
    for name in (".last-x1.ckpt", ".best-x2.ckpt", "last.ckpt", "best.ckpt", ".notes"):
        (run.path / name).write_text("x")
    (run.path / ".last-x3").mkdir()
    (run.path / ".last-x3" / "last.ckpt").write_text("x")

    sweep(run)

    left = {path.name for path in run.path.iterdir()} - {"config.yaml", "run.json"}
    assert left == {"last.ckpt", "best.ckpt", ".notes"}


# found


def test_the_run_that_was_trained_last_is_the_newest(tmp_path):
    old, new = (create_run(tmp_path / "runs" / name, CONFIG, FACTS) for name in ("a", "b"))
    set_time(old.path, 1000)
    set_time(new.path, 2000)
    assert open_run(None).path.resolve() == new.path

    (old.path / "evaluation").touch()
    assert open_run(None).path.resolve() == new.path
    (old.path / "metrics.jsonl").touch()
    assert open_run(None).path.resolve() == old.path


def test_what_a_killed_process_left_is_not_the_newest_run(tmp_path):
    whole = create_run(tmp_path / "runs" / "whole", CONFIG, FACTS)
    set_time(whole.path, 1000)
    create_run(tmp_path / "runs" / ".whole-x1y2", CONFIG, FACTS)
    (tmp_path / "runs" / "notes").mkdir()

    assert newest_run().resolve() == whole.path


def test_all_folds_together_are_the_newest_run_where_one_of_them_was_trained_last(tmp_path):
    alone = create_run(tmp_path / "runs" / "alone", CONFIG, FACTS)
    folds = [create_run(tmp_path / "runs" / "folds" / f"fold-{number}", CONFIG, FACTS) for number in range(2)]
    for run, seconds in ((folds[0], 1000), (alone, 2000), (folds[1], 3000)):
        set_time(run.path, seconds)

    assert newest_run().resolve() == folds[1].path.parent
    with pytest.raises(RunError, match="holds the runs of several folds"):
        open_run(None)
    set_time(alone.path, 4000)
    assert newest_run().resolve() == alone.path


def test_without_a_run_it_is_said_how_to_get_one():
    error = error_of(None)

    assert str(error) == "runs/: no runs here"
    assert "unet train" in error.hint
    assert "--run" in error.hint


def test_a_new_run_has_a_name_of_its_own(tmp_path):
    assert str(new_run_path("isbi", None, 2)) == "runs/isbi-custom-fold2"
    assert str(new_run_path("isbi", "isbi-quick", 1)) == "runs/isbi-quick-fold1"
    for _ in range(2):
        create_run(new_run_path("isbi", "quick", 0), CONFIG, FACTS)

    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["isbi-quick-fold0", "isbi-quick-fold0-2"]
    assert str(new_run_path("isbi", "quick", 0)) == "runs/isbi-quick-fold0-3"


def test_a_checkpoint_is_found_by_name_or_by_path(run):
    for name in ("best", "last", "epoch-7"):
        (run.path / f"{name}.ckpt").touch()

    assert run.checkpoint("best") == run.path / "best.ckpt"
    assert run.checkpoint("last") == run.last_checkpoint == run.path / "last.ckpt"
    assert run.checkpoint(str(run.path / "epoch-7.ckpt")) == run.path / "epoch-7.ckpt"


def test_a_checkpoint_that_is_not_there_is_refused_with_the_way_to_get_it(run):
    with pytest.raises(RunError, match=r"best\.ckpt: no such checkpoint") as caught:
        run.checkpoint("best")
    assert caught.value.hint == f"train on with: unet train --resume {run.path}"

    with pytest.raises(RunError, match=r"^other\.ckpt: no such checkpoint$"):
        run.checkpoint("other.ckpt")


# extended


def test_a_run_is_given_more_epochs_and_keeps_the_rest(run):
    extended = extend_run(run, 6)

    assert extended == open_run(run.path)
    assert extended.config == with_values(CONFIG, {"train.epochs": 6})
    assert extended.facts == FACTS
    assert extend_run(extended, 6) == extended


def test_a_run_is_not_given_fewer_epochs(run):
    with pytest.raises(ConfigError, match=r"^--epochs 3: .* already has 4$"):
        extend_run(run, 3)
    assert open_run(run.path).config.train.epochs == 4


# journal

EVENTS = [
    {"event": "step", "step": 1, "loss": 0.5},
    {"event": "step", "step": 2, "loss": 0.25},
    {"event": "epoch", "step": 2, "validation": {"mean_iou": 0.75}, "name": "Zellkörper\u2028"},
    {"event": "step", "step": 3, "loss": 0.125},
]


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, step=0)
    for event in EVENTS:
        journal(event)
    return path


def test_each_event_is_in_the_file_when_the_call_returns(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, step=0)
    for number, event in enumerate(EVENTS, start=1):
        journal(event)
        assert read_metrics(path) == EVENTS[:number]


@pytest.mark.parametrize(("step", "kept"), [(0, 0), (1, 1), (2, 3), (3, 4), (9, 4)])
def test_a_journal_taken_up_at_a_step_drops_the_later_ones(metrics, step, kept):
    journal = Journal(metrics, step=step)
    assert read_metrics(metrics) == EVENTS[:kept]

    journal({"event": "step", "step": step + 1})
    assert read_metrics(metrics) == [*EVENTS[:kept], {"event": "step", "step": step + 1}]


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_last_line_that_is_cut_off_is_passed_over_and_then_gone(metrics, cut):
    metrics.write_bytes(metrics.read_bytes()[: -1 - cut])

    assert read_metrics(metrics) == EVENTS[:3]
    Journal(metrics, step=3)({"event": "step", "step": 3})
    assert read_metrics(metrics) == [*EVENTS[:3], {"event": "step", "step": 3}]


def test_a_last_line_that_only_lacks_its_end_is_whole(metrics):
    metrics.write_bytes(metrics.read_bytes()[:-1])

    Journal(metrics, step=3)({"event": "step", "step": 4})

    assert read_metrics(metrics) == [*EVENTS, {"event": "step", "step": 4}]


def test_a_broken_line_in_the_middle_is_refused_with_its_number(metrics):
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join([lines[0], lines[1][:5], *lines[2:]]))

    with pytest.raises(RunError, match=r"metrics\.jsonl: line 2 is not JSON$"):
        read_metrics(metrics)


def test_a_number_that_is_not_json_never_reaches_the_journal(metrics):
    with pytest.raises(ValueError, match="not JSON compliant"):
        Journal(metrics, step=3)({"event": "step", "step": 4, "loss": float("nan")})
    assert read_metrics(metrics) == EVENTS
