"""Objects from labels: exact on a few pixels, and properties of all."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from unetcli.core.matching import ObjectCounts, average_precision, count_objects
from unetcli.inference import Separation, separate

PIECES = Separation((1,), method="components")
FLOODS = Separation((1,), method="watershed", distance=5)
BORDERED = Separation((1,), border=2)


def rows(*texts):
    """Labels of a few rows; a point is background."""
    return np.array([[0 if sign == "." else int(sign) for sign in text] for text in texts], np.uint8)


def one_hot(labels, num_classes=3):
    return np.stack([labels == index for index in range(num_classes)]).astype(np.float32)


def separated(labels, how):
    return separate(labels, one_hot(labels), how)


def discs(*middles, radius=8, size=(40, 60)):
    """Labels in which discs are 1, and their own instances; a pixel of two belongs to the nearer middle."""
    places = np.indices(size)
    distances = np.stack([np.hypot(places[0] - y, places[1] - x) for y, x in middles])
    return (distances.min(axis=0) <= radius).astype(np.uint8), distances.argmin(axis=0) + 1


def test_connected_pieces_are_numbered_by_their_first_pixel():
    found = separated(rows("..1.1", "11..1", "....1", "1...."), PIECES)
    # the first two hang together by a corner
    assert found.numbers.tolist() == rows("..1.2", "11..2", "....2", "3....").tolist()
    assert found.numbers.dtype == np.int32
    assert found.classes.tolist() == [0, 1, 1, 1]
    assert found.num_objects == 3


def test_objects_of_several_classes_touch_and_are_numbered_class_by_class():
    found = separated(rows("2211", "2211", "....", "1.2."), Separation((1, 2), method="components"))
    assert found.numbers.tolist() == rows("3311", "3311", "....", "2.4.").tolist()
    assert found.classes.tolist() == [0, 1, 1, 2, 2]


def test_small_objects_are_left_out_and_numbers_have_no_gap():
    labels = rows("1..11", ".....", "1.111")
    found = separated(labels, Separation((1,), method="components", min_size=2))
    assert found.numbers.tolist() == rows("...11", ".....", "..222").tolist()


@pytest.mark.parametrize("middles", [[(15, 15), (15, 29)], [(12, 20), (23, 29)], [(12, 12), (12, 27), (26, 19)]])
def test_discs_that_touch_are_parted_in_the_middle(middles):
    labels, nearer = discs(*middles)
    assert separated(labels, PIECES).num_objects == 1
    numbers = separated(labels, FLOODS).numbers
    counts = count_objects(np.where(labels > 0, nearer, 0), numbers)
    assert counts.num_found == (len(middles),) * 9
    assert counts.num_predicted == len(middles)


def test_middles_nearer_than_the_distance_are_one():
    labels, _ = discs((15, 15), (15, 29))
    assert separated(labels, Separation((1,), distance=20)).num_objects == 1


@pytest.mark.parametrize("angle", np.linspace(0, np.pi / 2, 13))
@pytest.mark.parametrize("width", [1, 3, 5, 6, 9])
def test_a_long_object_of_one_width_is_one(angle, width):
    y, x = np.indices((90, 90)) - 45
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    rod = ((np.abs(along) < 35) & (np.abs(across) <= width)).astype(np.uint8)
    assert separated(rod, Separation((1,), distance=1)).num_objects == 1


@pytest.mark.parametrize("labels", [np.ones((9, 9), np.uint8), rows("11", "11", ".."), rows("1"), rows("1.", "..")])
def test_a_piece_without_a_middle_is_one_object(labels):
    assert separated(labels, FLOODS).numbers.tolist() == labels.tolist()


def test_the_border_goes_to_the_piece_that_it_hangs_together_with():
    labels = rows("1122.", "..22.", ".....", "2.12.")
    scores = one_hot(labels)
    expected = rows("1111.", "..11.", ".....", "..22.")
    for method in ("components", "watershed"):
        found = separate(labels, scores, Separation((1,), border=2, method=method))
        assert found.numbers.tolist() == expected.tolist()


def test_objects_meet_where_the_score_of_the_border_is_highest():
    labels = rows("1222221")
    scores = one_hot(labels)
    scores[2, 0, 1:6] = [0.9, 0.5, 0.5, 0.5, 0.5]
    by_score = separate(labels, scores, BORDERED)
    evenly = separate(labels, scores, Separation((1,), border=2, method="components"))
    assert by_score.numbers.tolist() == [[1, 1, 2, 2, 2, 2, 2]]
    assert evenly.numbers.tolist() == [[1, 1, 1, 1, 2, 2, 2]]


def test_without_objects_all_is_background():
    for how in (PIECES, FLOODS, BORDERED):
        found = separated(np.zeros((3, 4), np.uint8), how)
        assert not found.numbers.any()
        assert found.classes.tolist() == [0]


images = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))
separations = st.builds(
    Separation,
    st.sampled_from([(1,), (1, 2), (2,)]),
    method=st.sampled_from(["watershed", "components"]),
    min_size=st.integers(0, 3),
    distance=st.integers(1, 4),
)


@given(images, separations)
def test_objects_are_of_one_class_in_one_piece_and_numbered_in_order(labels, how):
    found = separated(labels, how)

    for number in range(1, found.num_objects + 1):
        mask = found.numbers == number
        assert mask.sum() >= max(how.min_size, 1)
        assert set(labels[mask]) == {found.classes[number]}
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    order = [(found.classes[n], np.flatnonzero(found.numbers == n)[0]) for n in range(1, found.num_objects + 1)]
    assert order == sorted(order)
    assert found.numbers.max(initial=0) == found.num_objects


@given(images, st.sampled_from(["watershed", "components"]))
def test_nothing_but_small_objects_and_loose_borders_is_lost(labels, method):
    covered = separated(labels, Separation((1, 2), method=method)).numbers > 0
    assert (covered == (labels > 0)).all()
    bordered = separated(labels, Separation((1,), border=2, method=method)).numbers > 0
    assert not (bordered & (labels == 0)).any()
    assert bordered[labels == 1].all()


def test_nuclei_told_apart_from_their_own_masks(real_data):
    """The most that any network with these classes could reach, on 80 published images of 2331 nuclei."""
    true = tifffile.imread(real_data / "dsb2018" / "fluo256" / "labels-instances.tif").astype(np.int32)
    reached = {}
    for method in ("components", "watershed"):
        how = Separation((1,), method=method, min_size=15, distance=5)
        masks = (true > 0).astype(np.uint8)
        counts = [count_objects(page, separated(mask, how).numbers) for page, mask in zip(true, masks, strict=True)]
        reached[method] = average_precision(sum(counts, ObjectCounts()))[0]
    assert reached["components"] == pytest.approx(0.8302, abs=1e-3)
    assert reached["watershed"] == pytest.approx(0.9298, abs=2e-3)


def test_what_cannot_be_told_apart_is_refused():
    labels = rows("11")
    with pytest.raises(ValueError, match=r"labels must be \(H, W\) and scores \(K, H, W\)"):
        separate(labels[None], one_hot(labels[None]), PIECES)
    with pytest.raises(ValueError, match="there are 3 classes, and no 3"):
        separated(labels, Separation((1, 3)))
    for wrong in ({"objects": ()}, {"objects": (0, 1)}, {"objects": (2, 1)}):
        with pytest.raises(ValueError, match="objects must be ascending classes"):
            Separation(**wrong)
    with pytest.raises(ValueError, match="border must be a class"):
        Separation((1, 2), border=2)
    with pytest.raises(ValueError, match="min_size must be at least 0 and distance 1, got 0 and 0"):
        Separation((1,), distance=0)
