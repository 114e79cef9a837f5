"""Values of masks to class indices: exact for every type, and refused where nobody can say what was meant."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetcli.data.preparing.volume_labels import LabelRule, counted_values, map_labels
from unetcli.data.sources.class_names import (
    numbered_classes,
    parse_labels,
    rule_of,
    sides_of,
    with_mirrors,
)
from unetcli.data.sources.mask_values import classes_of
from unetcli.errors import ConfigError, DataError

TYPES = ["bool", "uint8", "int8", "uint16", "int16", ">i2", "int32", "uint64", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
def test_values_become_indices_by_the_table_whatever_their_type(dtype):
    mask = np.array([[[0, 1, 1], [1, 0, 0]]]).astype(dtype)
    mapped = map_labels(mask, LabelRule(((0, 2), (1, 255))))
    np.testing.assert_array_equal(mapped.labels, [[[2, 255, 255], [255, 2, 2]]])
    assert mapped.labels.dtype == np.uint8
    assert mapped.counts == {0: 3, 1: 3}


@given(
    mask=hnp.arrays(
        st.sampled_from([np.dtype(name) for name in ("uint8", "int16", "int32", "float32")]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.sampled_from([0, 3, 4, 5, 100]),
    ),
    indices=st.tuples(*[st.integers(0, 5)] * 3),
)
def test_no_value_is_shifted_merged_or_clipped(mask, indices):
    rule = LabelRule(tuple(zip((3, 4, 5), indices, strict=True)), others=0)
    published = mask.copy()
    expected = np.zeros(mask.shape, np.uint8)
    for value, index in zip((3, 4, 5), indices, strict=True):
        expected[mask == value] = index

    mapped = map_labels(mask, rule)

    np.testing.assert_array_equal(mapped.labels, expected)
    assert mapped.counts == Counter(published.astype(int).ravel().tolist())


def test_unknown_values_are_told_with_their_counts():
    mask = np.array([[[0, 7, 7, -3, 300, 1]]], np.int16)
    with pytest.raises(
        DataError, match=r"labels hold -3 \(1 voxel\), 7 \(2 voxels\), 300 \(1 voxel\), but must be of 0, 1"
    ):
        map_labels(mask, LabelRule(((0, 0), (1, 1))))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0, 0.5, 0.5, 1], r"hold 0\.5 \(2 pixels\)"),
        ([0, np.nan, 1, 1], r"hold nan \(1 pixel\)"),
        ([0, 1e12, 1, 1], r"hold 0 to 1e\+12"),
    ],
)
def test_what_is_no_whole_number_is_refused(values, told):
    with pytest.raises(DataError, match=told):
        map_labels(np.array([values], np.float32), LabelRule(((0, 0), (1, 1))))


def test_many_values_are_counted_but_not_all_shown():
    assert counted_values(dict.fromkeys(range(9), 1)) == (
        "0 (1 voxel), 1 (1 voxel), 2 (1 voxel), 3 (1 voxel), 4 (1 voxel), 5 (1 voxel) and 3 more values"
    )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({0: 5, 255: 5}, {0: "background", 255: "foreground"}),
        ({0: 5, 1: 5}, {0: "background", 1: "foreground"}),
        ({255: 5}, {0: "background", 255: "foreground"}),
        ({0: 5, 1: 5, 2: 5}, {0: "background", 1: "class_1", 2: "class_2"}),
    ],
)
def test_classes_from_values(values, names):
    classes = classes_of(Counter(values))
    assert {info.source_values[0]: info.name for info in classes} == names
    assert [info.index for info in classes] == list(range(len(classes)))


@pytest.mark.parametrize("values", [{0: 9}, {0: 1, 1: 1, 3: 1}, {0: 1, -1: 1, 1: 1}, dict.fromkeys(range(65), 1)])
def test_values_that_tell_no_classes_are_refused(values):
    with pytest.raises(DataError, match="the masks hold"):
        classes_of(Counter(values))


@pytest.mark.parametrize(
    ("first", "second"),
    [("left_lung", "right_lung"), ("Kidney-Left", "Kidney-Right"), ("eye left", "eye right"), ("LEFT", "RIGHT")],
)
def test_left_and_right_are_pairs_by_their_names(first, second):
    classes = with_mirrors(numbered_classes({0: "background", 1: second, 2: first, 3: "leftover", 4: "right_ear"}))
    assert [info.mirror_of for info in classes] == [None, first, second, None, None]
    assert sides_of(classes) == (((2, first), (1, second)),)


def test_declared_pairs_are_checked():
    classes = numbered_classes({0: "background", 1: "a", 2: "b", 3: "c"})
    assert [info.mirror_of for info in with_mirrors(classes, ["a=c"])] == [None, "c", None, "a"]
    assert sides_of(with_mirrors(classes, ["a=c"])) == ()
    for declared, told in ((["a=x"], "there is no class 'x'"), (["a=a"], "one other"), (["a=b", "b=c"], "one other")):
        with pytest.raises(ConfigError, match=told):
            with_mirrors(classes, declared)


def test_labels_of_the_command_line():
    assert parse_labels(["3=left lung", " 4 = b "]) == {0: "background", 3: "left lung", 4: "b"}
    assert parse_labels(["0=other", "1=x"]) == {0: "other", 1: "x"}


def test_the_rule_ignores_what_is_to_be_ignored():
    classes = numbered_classes({0: "background", 5: "ignore", 9: "organ"})
    assert [info.name for info in classes] == ["background", "organ"]
    assert rule_of(classes, [5]) == LabelRule(((0, 0), (9, 1), (5, 255)))
