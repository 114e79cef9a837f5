"""Objects through the evaluation, by hand on a few pixels, with a function in place of the network."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from unetcli.core.matching import ObjectCounts
from unetcli.engine.company import decode, encode
from unetcli.evaluation import (
    CaseResult,
    Measures,
    Prediction,
    evaluate,
    over_folds,
    selectable,
)
from unetcli.evaluation.comparison import pair_cases
from unetcli.inference import Separation

PIECES = Measures(separation=Separation((1,), method="components"))
CLASSES = ["background", "nucleus", "blob"]


@dataclass(frozen=True)
class Case:
    id: str
    labels: np.ndarray
    instances: np.ndarray | None
    predicted: np.ndarray
    geometry: None = None

    @property
    def image(self):
        return self.labels[np.newaxis]


def line(text):
    return np.array([[0 if sign == "." else int(sign) for sign in text]], np.uint8)


def make_case(name, labels, instances, predicted):
    """A line of pixels: their true classes and objects, and the classes that are found."""
    return Case(name, line(labels), None if instances is None else line(instances).astype(np.int32), line(predicted))


def segment(case):
    scores = np.stack([case.predicted == index for index in range(3)]).astype(np.float32)
    return Prediction(case.predicted, scores)


def measure(cases, measures=PIECES):
    return evaluate(cases, segment, CLASSES, measures)


MERGED = make_case("merged", "11111.11", "11222.33", "11111.11")
FOUND = make_case("found", "11.1....", "11.2....", "11....11")


def test_objects_of_one_case_by_hand():
    objects = measure([MERGED]).summary()["instances"]

    # the piece of five covers objects of two and of three, of which it is 3/5 the second
    precision = {f"average_precision_{at}": 2 / 3 if at <= 60 else 1 / 4 for at in range(50, 95, 5)}
    assert objects == {
        "num_true_objects": 3,
        "num_predicted_objects": 2,
        "num_merged_objects": 2,
        "num_split_objects": 0,
        **precision,
        "mean_average_precision": pytest.approx((3 * 2 / 3 + 6 / 4) / 9),
        "panoptic_quality": pytest.approx(1.6 / 2.5),
        "segmentation_quality": pytest.approx(0.8),
        "recognition_quality": pytest.approx(2 / 2.5),
    }


def test_objects_are_summed_over_cases_and_averaged_beside():
    result = measure([MERGED, FOUND])

    objects = result.summary()["instances"]
    assert objects["num_true_objects"] == 5
    assert objects["average_precision_50"] == 3 / 6  # 2 of 3 objects, and 1 of 3
    over_cases = result.object_statistics()["average_precision_50"]
    assert over_cases["mean"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert over_cases["num_cases"] == 2
    assert "num_true_objects" not in result.object_statistics()


def test_a_row_has_the_objects_of_its_case():
    rows = {row["case"]: row for row in measure([MERGED, FOUND]).rows()}
    assert rows["merged"]["num_merged_objects"] == 2
    assert rows["merged"]["average_precision_90"] == 1 / 4
    assert rows["found"]["num_merged_objects"] == 0
    assert rows["found"]["average_precision_90"] == 1 / 3


def test_the_same_is_given_to_another_process_and_back():
    result = measure([MERGED, FOUND])
    facts = [decode(encode(case.facts())) for case in result.cases]
    back = [CaseResult.from_facts(each) for each in facts]
    assert [case.objects for case in back] == [case.objects for case in result.cases]
    assert isinstance(back[0].objects[0], ObjectCounts)


def test_without_true_objects_or_without_being_asked_there_are_no_measures_of_objects():
    unknown = make_case("unknown", "11.1....", None, "11....11")
    for result in (measure([unknown]), measure([FOUND], Measures())):
        assert "instances" not in result.summary()
        assert result.object_statistics() == {}
        assert not [name for row in result.rows() for name in row if "objects" in name]
    assert measure([unknown, FOUND]).summary()["instances"]["num_true_objects"] == 2


def test_a_case_without_any_object_is_undefined_and_left_out():
    empty = make_case("empty", "........", "........", "........")
    result = measure([empty, FOUND])
    assert result.cases[0].of_objects()["mean_average_precision"] is None
    assert result.object_statistics()["mean_average_precision"]["num_undefined"] == 1
    json.dumps(result.summary() | result.object_statistics(), allow_nan=False)


def test_an_object_of_another_class_is_not_found():
    both = Measures(separation=Separation((1, 2), method="components"))
    objects = measure([make_case("two", "11.22.11", "11.22.33", "11.11.22")], both).summary()["instances"]

    assert objects["average_precision_50"] == 1 / 5
    assert objects["classes"]["nucleus"]["average_precision_50"] == 1 / 3
    assert objects["classes"]["blob"]["average_precision_50"] == 0
    assert objects["num_true_objects"] == 3


def test_ignored_pixels_belong_to_no_object():
    case = make_case("ignored", "11..9911", "11..3344", "11.11111")
    labels = np.where(case.labels == 9, 255, case.labels).astype(np.uint8)
    case = replace(case, labels=labels)

    measured = measure([case], replace(PIECES, ignored=255)).summary()["instances"]

    # of the second piece, five pixels long, two are ignored: three are left, of which two are the object
    assert measured["num_true_objects"] == measured["num_predicted_objects"] == 2
    assert measured["segmentation_quality"] == pytest.approx((1 + 2 / 3) / 2)


def test_what_lies_in_ignored_pixels_with_more_than_half_is_not_invented():
    case = make_case("ignored", "11..999.", "11......", "11.1111.")
    labels = np.where(case.labels == 9, 255, case.labels).astype(np.uint8)
    measured = measure([replace(case, labels=labels)], replace(PIECES, ignored=255)).summary()["instances"]
    assert (measured["num_predicted_objects"], measured["average_precision_90"]) == (1, 1)


def test_whoever_is_shown_a_case_sees_its_objects():
    shown = []
    evaluate([FOUND], segment, CLASSES, PIECES, on_case=lambda _, prediction: shown.append(prediction.instances))
    assert shown[0].numbers.tolist() == line("11....22").tolist()


def test_runs_are_compared_by_objects_and_fewer_merged_ones_are_better():
    parted = replace(MERGED, predicted=line("11.11.11"))
    measures = pair_cases(measure([parted]), measure([MERGED])).summary()["measures"]
    assert (measures["num_merged_objects"]["mean"], measures["num_merged_objects"]["num_better"]) == (-2, 1)
    assert measures["average_precision_50"]["mean"] == pytest.approx(1 / 3)
    assert not {"num_true_objects", "num_predicted_objects"} & set(measures)


def test_weights_can_be_selected_by_the_quality_of_objects_but_not_by_their_number():
    names = [name for name in selectable(CLASSES, PIECES, has_scores=True) if name.startswith("instances.")]
    assert [name.removeprefix("instances.") for name in names] == [
        *(f"average_precision_{at}" for at in range(50, 95, 5)),
        *("mean_average_precision", "panoptic_quality", "segmentation_quality", "recognition_quality"),
    ]


def test_over_folds_objects_are_summarised_of_all_and_as_the_mean_over_cases():
    result = measure([MERGED, FOUND])
    said = result.summary() | {"object_statistics": result.object_statistics()}
    over = over_folds({"fold-0": said})
    assert over["instances.average_precision_50"]["mean"] == 3 / 6
    of_cases = [name for name in over if name.startswith("object_statistics.average_precision_50.")]
    assert of_cases == ["object_statistics.average_precision_50.mean"]


def test_objects_cannot_be_told_apart_by_labels():
    with pytest.raises(ValueError, match="objects are measured by scores"):
        evaluate([FOUND], lambda case: Prediction(case.predicted), CLASSES, PIECES)
