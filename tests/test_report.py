"""What a person sees and what a program reads: talk on standard error, results on standard output."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from unetcli import report
from unetcli.core.metrics import count
from unetcli.evaluation import CaseResult, Evaluation


@pytest.fixture(autouse=True)
def off_a_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@dataclass(frozen=True)
class Case:
    id: str
    image: np.ndarray
    labels: np.ndarray


def make_result(name, labels, predicted):
    labels, predicted = np.array(labels, np.uint8), np.array(predicted, np.uint8)
    return CaseResult(name, count(labels, predicted, 2), 0.5)


@pytest.fixture
def result():
    return Evaluation(
        ("background", "cell"),
        (
            make_result("good", [[0, 1]], [[0, 1]]),
            make_result("empty", [[]], [[]]),
            make_result("bad", [[0, 1]], [[1, 0]]),
            make_result("fair", [[0, 1]], [[1, 1]]),
            make_result("without cells", [[0, 0]], [[0, 0]]),
        ),
        {"v_rand": None},
    )


def cells_of(line):
    return [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]


def rows_of(text):
    return [cells_of(line) for line in text.splitlines() if line.startswith(("│", "┃"))]


# talk, JSON and tables


def test_talk_goes_to_standard_error_as_it_is(capsys):
    text = "runs/[bold]a[/bold]/:heart: " + "x" * 200

    report.say(text)

    assert capsys.readouterr() == ("", text + "\n")


def test_json_goes_to_standard_output_alone_and_parses(capsys):
    value = {"run": "Zellkörper", "best": None, "score": 0.1}

    report.emit_json(value)

    out, err = capsys.readouterr()
    assert json.loads(out) == value
    assert "Zellkörper" in out
    assert err == ""


def test_json_refuses_what_is_not_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.emit_json({"score": float("nan")})


def test_a_table_shows_numbers_to_four_places_and_none_as_absent(capsys):
    report.table("classes", ["class", "dice", "pixels"], [["cell", 0.123456, 12], ["nucleus", None, 3]])

    out, err = capsys.readouterr()
    assert rows_of(out) == [["class", "dice", "pixels"], ["cell", "0.1235", "12"], ["nucleus", "absent", "3"]]
    assert out.startswith("classes")
    assert err == ""


def test_numbers_are_set_right_and_words_left(capsys):
    report.table("", ["name", "pixels"], [["a", 1], ["bbbbbb", 1000000]])

    assert "│ a      │       1 │" in capsys.readouterr().out


def test_names_are_shown_as_they_are(capsys):
    report.table("[b]:heart:", ["[b]class[/b]"], [["[red]cell[/red]"], [":smile:"]])

    out = capsys.readouterr().out
    assert out.startswith("[b]:heart:")
    assert rows_of(out) == [["[b]class[/b]"], ["[red]cell[/red]"], [":smile:"]]


def test_a_table_without_rows_is_its_head(capsys):
    report.table("none", ["class"], [])

    assert rows_of(capsys.readouterr().out) == [["class"]]


def test_counting_is_silent_off_a_terminal(capsys):
    with report.counting("measuring", 2) as count_one:
        count_one()
        count_one()

    assert capsys.readouterr() == ("", "")


# training


def step_event(step, epoch):
    return {"event": "step", "step": step, "epoch": epoch, "loss": 0.5, "learning_rate": 1e-3, "seconds": 0.25}


def epoch_event(epoch, **changes):
    return {
        "event": "epoch",
        "epoch": epoch,
        "step": 3 * epoch,
        "loss": 0.123456,
        "learning_rate": 1e-3,
        "images_per_second": 16.0,
        "wait_share": 0.012,
        "validation": {"mean_iou": 0.8765},
        "is_best": True,
    } | changes


def test_training_is_one_line_an_epoch_off_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    with report.TrainingDisplay(num_epochs=10, steps_per_epoch=3, batch_size=4) as display:
        for epoch in (1, 2):
            for step in range(3):
                display(step_event(3 * epoch - 2 + step, epoch))
            display(epoch_event(epoch, is_best=epoch == 1))

    out, err = capsys.readouterr()
    assert out == ""
    line = "loss 0.1235   lr 1.00e-03   16.0 img/s   waiting for data 1.2%   mean IoU 0.8765"
    assert err.splitlines() == [f"epoch  1/10   {line} (best)", f"epoch  2/10   {line}"]


def test_an_epoch_says_only_what_is_known(capsys):
    with report.TrainingDisplay(2, 3, 4) as display:
        display(epoch_event(1, loss=None, images_per_second=None, wait_share=None, validation=None, is_best=False))

    assert capsys.readouterr().err == "epoch 1/2   lr 1.00e-03\n"


def test_training_shows_steps_loss_and_last_score_on_a_terminal(capsys, monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    with report.TrainingDisplay(2, 3, 4) as display:
        display(epoch_event(1))
        display(step_event(4, 2))

    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "step 4/6  loss 0.5000  lr 1.00e-03  16.0 img/s  IoU 0.8765" in err


OUTCOME = {"run": "runs/a", "outcome": "finished", "steps": 6, "epochs": 2, "best_mean_iou": 0.87654}


def test_the_end_of_a_training_says_what_comes_next(capsys):
    report.show_training(OUTCOME, as_json=False)

    assert capsys.readouterr() == (
        "",
        "finished after 2 epochs (6 steps), best mean IoU 0.8765\nnext: unet eval --run runs/a\n",
    )


def test_an_interrupted_training_says_how_to_go_on(capsys):
    report.show_training(OUTCOME | {"outcome": "interrupted", "best_mean_iou": None}, as_json=False)

    err = capsys.readouterr().err
    assert "no validation yet" in err
    assert "go on with: unet train --resume runs/a" in err


def test_the_end_of_a_training_as_json(capsys):
    report.show_training(OUTCOME, as_json=True)

    out, err = capsys.readouterr()
    assert json.loads(out) == OUTCOME
    assert err == ""


# evaluation


def test_cases_are_written_with_the_worst_first_and_those_without_a_score_last(tmp_path, result):
    report.save_evaluation(result, tmp_path / "evaluation")

    with (tmp_path / "evaluation" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == ["bad", "fair", "good", "without cells", "empty"]
    assert [row["mean_iou"] for row in rows] == ["0.0", "0.25", "1.0", "1.0", ""]
    assert rows[3]["cell_dice"] == ""
    assert json.loads((tmp_path / "evaluation" / "summary.json").read_text()) == result.summary()
    assert sorted(path.name for path in (tmp_path / "evaluation").iterdir()) == ["cases.csv", "summary.json"]


def test_measures_are_shown_as_tables_on_standard_output(tmp_path, capsys):
    only = Evaluation(("background", "cell"), (make_result("empty", [[0, 0]], [[0, 0]]),), {"v_rand": None})

    report.show_evaluation(only, tmp_path, as_json=False)

    out, err = capsys.readouterr()
    rows = rows_of(out)
    assert ["class", "dice", "iou", "precision", "recall"] in rows
    assert ["background", *["1.0000"] * 4] in rows
    assert ["cell", *["absent"] * 4] in rows
    assert ["mean_iou", "1.0000"] in rows
    assert ["v_rand", "absent"] in rows
    assert str(tmp_path) in err


def test_measures_as_json_hold_the_summary_and_its_place(tmp_path, capsys, result):
    report.show_evaluation(result, tmp_path, as_json=True)

    out, err = capsys.readouterr()
    assert json.loads(out) == result.summary() | {"folder": str(tmp_path)}
    assert err == ""


def test_an_overlay_marks_what_was_invented_red_and_what_was_missed_blue(tmp_path):
    image = np.array([[[10, 10, 10], [90, 90, 90]]], np.uint16)
    labels = np.array([[0, 0, 1], [1, 1, 0]], np.uint8)
    predicted = np.array([[0, 1, 1], [1, 0, 0]])
    scores = np.stack([predicted == 0, predicted == 1]).astype(np.float32)

    report.write_overlay(Case("slice-000", image, labels), scores, tmp_path / "overlays")

    red, blue, black, white = [60, 60, 255], [255, 140, 40], [0] * 3, [255] * 3  # in OpenCV's order: blue, green, red
    picture = cv2.imread(str(tmp_path / "overlays" / "slice-000.png"))
    assert picture.tolist() == [
        [black, black, black, black, red, black],
        [white, white, white, white, blue, white],
    ]


def test_an_overlay_of_a_flat_image_of_several_channels_shows_the_first(tmp_path):
    image = np.stack([np.full((2, 2), 7.0), np.array([[0.0, 1.0], [2.0, 3.0]])]).astype(np.float32)

    report.write_overlay(Case("flat", image, np.zeros((2, 2), np.uint8)), np.zeros((2, 2, 2), np.float32), tmp_path)

    assert not cv2.imread(str(tmp_path / "flat.png")).any()


# export

FACTS = {
    "input": {"shape": [1, 1, 64, 64]},
    "agreement": {"num_pixels": 4096, "equal_labels": 0.99995, "largest_difference": 1.2e-6},
}


def test_an_exported_file_is_shown_with_its_agreement(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.mindir"
    path.write_bytes(bytes(1_234_567))

    report.show_export(path.relative_to(tmp_path), FACTS, as_json=False)

    assert rows_of(capsys.readouterr().out)[1:] == [
        ["file", "m.mindir"],
        ["description", "m.mindir.json"],
        ["size", "1.2 MB"],
        ["input", "[1, 1, 64, 64]"],
        ["pixels compared with the run", "4096"],
        ["equal labels", "99.9950%"],
        ["largest difference of a score", "1.2e-06"],
    ]


def test_an_exported_file_as_json(tmp_path, capsys):
    report.show_export(tmp_path / "m.mindir", FACTS, as_json=True)

    assert json.loads(capsys.readouterr().out) == {"model": str(tmp_path / "m.mindir"), **FACTS}


# prediction

DONE = {
    "image": "a.tif",
    "mask": "masks/a.tif",
    "pages": 3,
    "class_shares": {"cell": 0.25, "[x]": 0.75},
    "seconds": 1.26,
}


def test_masks_are_shown_with_the_share_of_each_class(capsys):
    report.show_predictions([DONE], {}, as_json=False)

    assert rows_of(capsys.readouterr().out)[1:] == [["a.tif", "masks/a.tif", "3", "cell 25.0%, [x] 75.0%", "1.3"]]


def test_masks_and_failures_as_json(capsys):
    report.show_predictions([DONE], {"b.tif": "not an image"}, as_json=True)

    assert json.loads(capsys.readouterr().out) == {"done": [DONE], "failed": {"b.tif": "not an image"}}
