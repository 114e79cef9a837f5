"""What a person sees and what a program reads: talk on standard error, results on standard output."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from unetcli import report
from unetcli.core.geometry import Geometry
from unetcli.core.matching import ObjectCounts
from unetcli.core.metrics import count
from unetcli.core.surface import SurfaceMeasures
from unetcli.evaluation import CaseResult, Evaluation, Prediction
from unetcli.inference import Instances
from unetcli.report import overlays


@pytest.fixture(autouse=True)
def off_a_terminal(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


RED, BLUE = [60, 60, 255], [255, 140, 40]  # in OpenCV's order: blue, green, red


@dataclass(frozen=True)
class Case:
    id: str
    image: np.ndarray
    labels: np.ndarray
    geometry: Geometry | None = None
    instances: np.ndarray | None = None


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
        "select_by": "mean_iou",
        "score": 0.8765,
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


def test_another_measure_that_selects_is_named_and_may_be_undefined(capsys):
    with report.TrainingDisplay(2, 3, 4) as display:
        display(epoch_event(1, select_by="classes.cell.dice", score=0.5))
        display(epoch_event(2, select_by="classes.cell.dice", score=None, is_best=False))

    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("   classes.cell.dice 0.5000 (best)")
    assert second.endswith("   classes.cell.dice absent")


def test_training_shows_steps_loss_and_last_score_on_a_terminal(capsys, monkeypatch):
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "200")):
        monkeypatch.setenv(name, value)
    with report.TrainingDisplay(2, 3, 4) as display:
        display(epoch_event(1))
        display(step_event(4, 2))

    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2" in err
    assert "step 4/6  loss 0.5000  lr 1.00e-03  16.0 img/s  mean IoU 0.8765" in err


def test_a_file_of_the_zoo_is_told_of_key_by_key(capsys):
    facts = {
        "preset": "luna16",
        "translated": [{"key": "lr", "setting": "optimizer.learning_rate", "value": 0.0005}],
        "without_counterpart": {"device_target": "an option: --device"},
    }

    report.say_translation(facts, Path("a.yaml"))

    assert capsys.readouterr() == (
        "",
        "a.yaml: a file of the MindSpore model zoo, laid over the preset luna16\n"
        "  lr -> optimizer.learning_rate: 0.0005\n"
        "  without a counterpart:\n"
        "  device_target: an option: --device\n",
    )


def test_weights_that_a_file_of_the_zoo_asks_for_are_warned_of_last(capsys):
    facts = {"preset": "luna16", "translated": [], "without_counterpart": {"resume": "an option"}}

    report.say_translation(facts, Path("a.yaml"), weights="--init-from a.ckpt")

    assert capsys.readouterr().err.splitlines()[-1] == (
        "warning: a.yaml asks for the weights of another training, which are not loaded; add --init-from a.ckpt, or go "
        "on with a whole run by --resume RUN"
    )


OUTCOME = {
    "run": "runs/a",
    "outcome": "finished",
    "steps": 6,
    "epochs": 2,
    "select_by": "mean_iou",
    "best_score": 0.87654,
}


def test_the_end_of_a_training_says_what_comes_next(capsys):
    report.show_training(OUTCOME, as_json=False)

    assert capsys.readouterr() == (
        "",
        "finished after 2 epochs (6 steps), best mean IoU 0.8765\nnext: unet eval --run runs/a\n",
    )


def test_one_epoch_is_not_said_to_be_several(capsys):
    report.show_training(OUTCOME | {"epochs": 1, "steps": 1}, as_json=False)

    assert "finished after 1 epoch (1 step), best" in capsys.readouterr().err


def test_an_interrupted_training_says_how_to_go_on(capsys):
    report.show_training(OUTCOME | {"outcome": "interrupted", "best_score": None}, as_json=False)

    err = capsys.readouterr().err
    assert "no best weights yet" in err
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
    assert [row["case"] for row in rows] == ["bad", "fair", "good", "empty", "without cells"]
    assert [row["foreground_dice"] for row in rows] == ["0.0", "0.6666666666666666", "1.0", "", ""]
    assert [row["mean_iou"] for row in rows] == ["0.0", "0.25", "1.0", "", "1.0"]
    assert rows[4]["cell_dice"] == ""
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert summary == result.summary() | {"statistics": result.statistics()}
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
    assert json.loads(out) == result.summary() | {"statistics": result.statistics(), "folder": str(tmp_path)}
    assert err == ""


def test_each_class_is_shown_over_cases_with_how_many_it_was_in(tmp_path, capsys, result):
    report.show_evaluation(result, tmp_path, as_json=False)

    out, worst = capsys.readouterr().out.split("worst cases")
    _, cell = out.split("over cases")  # and not the background
    assert rows_of(cell)[0] == ["measure", "mean", "median", "95 % interval of the mean", "n"]
    assert [row[0] for row in rows_of(cell)][1:] == list(report.OVER_CASES[:6])
    assert rows_of(cell)[1] == ["dice", "0.5556", "0.6667", "0.0000 to 1.0000", "3"]
    assert rows_of(worst)[:3] == [["case", "cell_dice"], ["bad", "0.0000"], ["fair", "0.6667"]]
    assert len(rows_of(worst)) == 1 + 5


def test_the_five_worst_cases_are_shown(tmp_path, capsys):
    cases = tuple(make_result(f"case {n}", [[0, 0, 1]], [[0, 0, n % 2]]) for n in range(8))

    report.show_evaluation(Evaluation(("background", "cell"), cases), tmp_path, as_json=False)

    rows = rows_of(capsys.readouterr().out.split("worst cases")[1])
    assert [row[0] for row in rows] == ["case", "case 0", "case 2", "case 4", "case 6", "case 1"]


def test_distances_are_shown_and_written_where_there_are_some(tmp_path, capsys):
    counts = count(np.array([0, 1]), np.array([0, 1]), 2)
    far = CaseResult("far", counts, voxel_volume=1000.0, surfaces=(SurfaceMeasures(9.0, 5.0, 2.0, 3.0, 0.25),))
    in_pixels = CaseResult("in pixels", counts)
    both = Evaluation(("background", "lung"), (in_pixels, far))

    report.show_evaluation(both, tmp_path, as_json=False)
    report.save_evaluation(both, tmp_path)

    out = capsys.readouterr().out
    over = rows_of(out.split("lung, over cases")[1].split("worst cases")[0])
    assert ["hd95_mm", "5.0000", "5.0000", "absent", "1"] in over
    assert [row[0] for row in over][-4:] == ["hd95_mm", "asd_mm", "assd_mm", "surface_dice"]
    assert rows_of(out.split("worst cases")[1]) == [
        ["case", "lung_dice", "lung_hd95_mm"],
        ["in pixels", "1.0000", "absent"],
        ["far", "1.0000", "5.0000"],
    ]
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert (rows["far"]["lung_hd95_mm"], rows["far"]["lung_volume_mm3"]) == ("5.0", "1000.0")
    assert (rows["in pixels"]["lung_hd95_mm"], rows["in pixels"]["lung_volume_mm3"]) == ("", "")


def test_an_overlay_marks_what_was_invented_red_and_what_was_missed_blue(tmp_path):
    image = np.array([[[10, 10, 10], [90, 90, 90]]], np.uint16)
    labels = np.array([[0, 0, 1], [1, 1, 0]], np.uint8)
    prediction = Prediction(np.array([[0, 1, 1], [1, 0, 0]], np.uint8))

    report.write_overlay(Case("slice-000", image, labels), prediction, tmp_path / "overlays")

    black, white = [0] * 3, [255] * 3
    picture = cv2.imread(str(tmp_path / "overlays" / "slice-000.png"))
    assert picture.tolist() == [
        [black, black, black, black, RED, black],
        [white, white, white, white, BLUE, white],
    ]


def test_an_overlay_of_a_flat_image_of_several_channels_shows_the_first(tmp_path):
    image = np.stack([np.full((2, 2), 7.0), np.array([[0.0, 1.0], [2.0, 3.0]])]).astype(np.float32)

    labels = np.zeros((2, 2), np.uint8)

    report.write_overlay(Case("flat", image, labels), Prediction(labels), tmp_path)

    assert not cv2.imread(str(tmp_path / "flat.png")).any()


@pytest.fixture
def volume():
    """3 x 4 x 5 voxels of 2 x 1 x 1 mm. Truth is the first row; slice 1 has two missed voxels and an invented one."""
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[:, 0] = 1
    predicted = labels.copy()
    predicted[1, 0, 2:4], predicted[1, 3, 2] = 0, 1
    predicted[2, 2, 1] = 1
    image = np.broadcast_to(np.arange(3)[:, None, None], labels.shape)[np.newaxis].astype(np.float32)
    return Case("volume", image, labels, Geometry((3, 4, 5), (2.0, 1.0, 1.0))), predicted


def test_an_overlay_of_a_volume_shows_its_worst_slice_and_two_planes_through_it(tmp_path, volume):
    case, predicted = volume

    report.write_overlay(case, Prediction(predicted), tmp_path)

    picture = cv2.imread(str(tmp_path / "volume.png"))
    slice_1, row_0, column_2 = picture[:4, 5:], picture[4:10, 5:], picture[10:, 4:]
    assert picture.shape == (4 + 6 + 6, 5 + 5, 3)  # slices of 2 mm are two pixels high
    assert not picture[:4, :5].any()
    assert slice_1[0].tolist() == [[0] * 3, [0] * 3, BLUE, BLUE, [0] * 3]
    assert slice_1[3].tolist() == [[0] * 3, [0] * 3, RED, [0] * 3, [0] * 3]
    for line in (0, 1):  # the last slice is on top
        assert (row_0[line] == 255).all()
        assert row_0[2 + line].tolist() == [[127] * 3, [127] * 3, BLUE, BLUE, [127] * 3]
        assert not row_0[4 + line].any()
        assert column_2[2 + line, :4].tolist() == [BLUE, [127] * 3, [127] * 3, RED]
    assert not column_2[:, 4:].any()


def test_ignored_voxels_are_not_marked(tmp_path, volume):
    case, predicted = volume
    labels = np.where(case.labels == predicted, case.labels, 255).astype(np.uint8)

    report.write_overlay(Case("volume", case.image, labels), Prediction(predicted), tmp_path, ignored=255)

    grey = cv2.imread(str(tmp_path / "volume.png"))
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey.shape == (4 + 3 + 3, 10, 3)


def test_the_overlay_of_a_volume_without_faults_shows_where_most_is(tmp_path, volume):
    case, _ = volume
    labels = np.zeros_like(case.labels)
    labels[2, 1, 3] = 1

    report.write_overlay(Case("right", case.image, labels), Prediction(labels), tmp_path)

    assert overlays._most(labels) == (2, 1, 3)
    assert cv2.imread(str(tmp_path / "right.png")).shape == (4 + 3 + 3, 10, 3)


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

    assert rows_of(capsys.readouterr().out)[1:] == [["a.tif", "masks/a.tif", "3 pages", "cell 25.0%, [x] 75.0%", "1.3"]]


def test_volumes_are_told_in_millilitres(capsys):
    entry = {
        "image": "a.nii.gz",
        "mask": "masks/a.nii.gz",
        "size": [4, 5, 6],
        "volumes_ml": {"liver": 1234.5, "cyst": 0.01},
    }

    report.show_predictions([entry | {"seconds": 2.0}], {}, as_json=False)

    row = rows_of(capsys.readouterr().out)[1]
    assert row == ["a.nii.gz", "masks/a.nii.gz", "4 x 5 x 6", "liver 1234 ml, cyst 0.01 ml", "2.0"]


def test_masks_and_failures_as_json(capsys):
    report.show_predictions([DONE], {"b.tif": "not an image"}, as_json=True)

    assert json.loads(capsys.readouterr().out) == {"done": [DONE], "failed": {"b.tif": "not an image"}}


# objects


def object_counts(**values):
    return ObjectCounts(num_found=(values.pop("found"),) * 9, **values)


@pytest.fixture
def with_objects():
    """Two cases of one class of objects, of which the second has a merged pair."""
    of_cases = (
        object_counts(found=2, num_true=2, num_predicted=2, num_matched=2, iou_sum=1.8),
        object_counts(found=0, num_true=2, num_predicted=1, num_merged=2),
    )
    cases = (
        replace(make_result(name, [[0, 1]], [[0, 1]]), objects=(counts,))
        for name, counts in zip("ab", of_cases, strict=True)
    )
    return Evaluation(("background", "nucleus"), tuple(cases), object_classes=("nucleus",))


def test_objects_are_shown_of_all_cases_and_over_them(with_objects, tmp_path, capsys):
    report.show_evaluation(with_objects, tmp_path, as_json=False)
    rows = [cells_of(line) for line in capsys.readouterr().out.splitlines()]
    for row in (
        ["num_true_objects", "4"],
        ["num_merged_objects", "2"],
        ["average_precision_50", "0.4000"],
        ["panoptic_quality", "0.5143"],
        ["average_precision_50", "0.5000", "0.5000", "0.0000 to 1.0000", "2"],
        ["segmentation_quality", "0.9000", "0.9000", "absent", "1"],
    ):
        assert row in rows
    assert ["instances"] not in [row[:1] for row in rows]


def test_objects_of_several_classes_are_shown_class_by_class(with_objects, tmp_path, capsys):
    cases = (replace(case, objects=(*case.objects, ObjectCounts())) for case in with_objects.cases)
    both = replace(with_objects, cases=tuple(cases), object_classes=("nucleus", "cell"))
    report.show_evaluation(both, tmp_path, as_json=False)
    rows = [cells_of(line) for line in capsys.readouterr().out.splitlines()]
    assert ["num_true_objects", "4"] in rows
    assert ["nucleus", "4", "3", "0.4000", "0.4000", "0.4000", "0.5143"] in rows
    assert ["cell", "0", "0", *["absent"] * 4] in rows


def test_objects_are_in_the_files(with_objects, tmp_path, capsys):
    report.show_evaluation(with_objects, tmp_path, as_json=True)
    report.save_evaluation(with_objects, tmp_path)
    saved = json.loads((tmp_path / "summary.json").read_text())
    assert saved["instances"]["mean_average_precision"] == 0.4
    assert saved["object_statistics"]["recognition_quality"]["num_cases"] == 2
    assert json.loads(capsys.readouterr().out) == saved | {"folder": str(tmp_path)}
    with (tmp_path / "cases.csv").open() as file:
        assert [row["num_merged_objects"] for row in csv.DictReader(file)] == ["0", "2"]


def test_without_objects_nothing_is_said_of_them(result, tmp_path, capsys):
    report.show_evaluation(result, tmp_path, as_json=False)
    report.save_evaluation(result, tmp_path)
    assert "objects" not in capsys.readouterr().out
    assert "object" not in (tmp_path / "summary.json").read_text()


def test_an_overlay_outlines_true_objects_green_and_found_ones_magenta(tmp_path):
    true = np.array([[0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 1, 0]], np.int32)
    found = np.array([[0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], np.int32)
    case = Case("cells", np.zeros((1, 3, 4), np.uint8), (true > 0).astype(np.uint8), instances=true)
    prediction = Prediction((found > 0).astype(np.uint8), instances=Instances(found, np.array([0, 1], np.uint8)))

    report.write_overlay(case, prediction, tmp_path)

    picture = cv2.imread(str(tmp_path / "cells.png"))
    assert picture.shape == (3, 12, 3)
    green, magenta, white, black = [80, 255, 80], [255, 80, 255], [255] * 3, [0] * 3
    assert picture[:, 8:].tolist() == [
        [black, white, green, green],
        [black, white, white, green],
        [black, green, green, magenta],
    ]
