"""Two evaluations beside each other, by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from unetcli.core.metrics import count
from unetcli.core.surface import SurfaceMeasures
from unetcli.evaluation import CaseResult, Evaluation
from unetcli.evaluation.comparison import pair_cases


def evaluation(**predicted):
    """Cases of four pixels, two of which are in a cell, and what was predicted."""
    labels = np.array([0, 0, 1, 1], np.uint8)
    results = (CaseResult(name, count(labels, np.array(each, np.uint8), 2)) for name, each in predicted.items())
    return Evaluation(("background", "cell"), tuple(results))


FIRST = evaluation(lost=[0, 0, 0, 1], kept=[0, 0, 1, 1], won=[0, 0, 1, 1], missed=[0, 0, 0, 0])
SECOND = evaluation(lost=[0, 0, 1, 1], kept=[0, 0, 1, 1], won=[0, 0, 0, 1], missed=[0, 0, 0, 1])


def test_cases_are_paired_by_name_and_the_worst_come_first():
    comparison = pair_cases(FIRST, SECOND)
    differences = {case.id: case.difference("cell_dice") for case in comparison.cases}
    assert differences == pytest.approx({"missed": -2 / 3, "lost": -1 / 3, "kept": 0, "won": 1 / 3})
    assert list(differences) == ["missed", "lost", "kept", "won"]
    assert [case.id for case in comparison.worse] == ["missed", "lost"]


def test_the_summary_counts_cases():
    summary = json.loads(json.dumps(pair_cases(FIRST, SECOND).summary()))
    assert summary["num_cases"] == 4
    of = summary["measures"]["cell_dice"]
    assert (of["num_better"], of["num_worse"], of["num_equal"], of["num_undefined"]) == (1, 2, 1, 0)
    assert of["mean"] == pytest.approx(-2 / 12)
    assert of["p_value"] is None
    assert summary["measures"]["cell_precision"]["num_undefined"] == 1  # of nothing found
    assert summary["worse"] == pytest.approx({"missed": -2 / 3, "lost": -1 / 3})


def test_a_row_has_both_and_the_difference():
    row = next(row for row in pair_cases(FIRST, SECOND).rows() if row["case"] == "won")
    assert (row["cell_recall"], row["cell_recall_other"], row["cell_recall_difference"]) == (1.0, 0.5, 0.5)


def test_volumes_are_no_better_for_being_more_and_distances_are_for_being_less():
    counts = FIRST.cases[1].counts
    near, far = (
        Evaluation(
            ("background", "cell"),
            (CaseResult("a", counts, voxel_volume=1.0, surfaces=(SurfaceMeasures(mm, mm, mm, mm, 0.5),)),),
        )
        for mm in (1.0, 3.0)
    )
    measures = pair_cases(near, far).summary()["measures"]
    assert {name for name in measures if name.endswith("mm")} == {"cell_hd95_mm", "cell_asd_mm", "cell_assd_mm"}
    assert not any("volume" in name for name in measures)
    assert (measures["cell_hd95_mm"]["num_better"], measures["cell_hd95_mm"]["mean"]) == (1, -2.0)


def test_a_measure_that_is_nowhere_defined_is_left_out():
    nothing = Evaluation(("a", "b"), (CaseResult("x", count(np.zeros(3, int), np.zeros(3, int), 2)),))
    measures = pair_cases(nothing, nothing).summary()["measures"]
    assert "b_dice" not in measures
    assert measures["a_dice"]["mean"] == 0
    assert not any(isinstance(v, float) and math.isnan(v) for of in measures.values() for v in of.values())


def test_other_cases_are_refused():
    with pytest.raises(ValueError, match=r"the cases differ: \['b'\]"):
        pair_cases(evaluation(a=[0, 0, 1, 1]), evaluation(a=[0, 0, 1, 1], b=[0, 0, 1, 1]))
