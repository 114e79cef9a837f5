"""V_Rand and V_Info: by hand, against pairs counted one by one, against scikit-image, and on the real stack."""

import math
from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import watershed

from unetcli.core.boundary import (
    THRESHOLDS,
    boundary_scores,
    cell_segments,
    foreground_restricted_info,
    foreground_restricted_rand,
    thin_borders,
)

SMALL_SEGMENTS = npst.arrays(np.int32, (2, 4, 5), elements=st.integers(0, 4))


def row(*values):
    return np.array([values], np.int32)


@pytest.mark.parametrize(
    ("proposal", "rand", "info"),
    [
        (row(9, 9, 4, 4), (1, 1, 1), (1, 1, 1)),
        (row(1, 1, 1, 1), (1, 1 / 2, 2 / 3), (1, 0, 0)),
        (row(1, 2, 3, 4), (1 / 2, 1, 2 / 3), (1 / 2, 1, 2 / 3)),
        (row(0, 0, 0, 0), (1 / 2, 1, 2 / 3), (1 / 2, 1, 2 / 3)),
    ],
    ids=["equal but for the numbers", "all merged", "all split", "all lines, each pixel on its own"],
)
def test_two_cells_of_two_pixels_by_hand(proposal, rand, info):
    assert foreground_restricted_rand(row(1, 1, 2, 2), proposal) == pytest.approx(rand)
    assert foreground_restricted_info(row(1, 1, 2, 2), proposal) == pytest.approx(info)


def test_membrane_of_the_truth_does_not_count():
    truth = row(1, 1, 0, 0, 2, 2)
    for score in (foreground_restricted_rand, foreground_restricted_info):
        assert score(truth, row(1, 1, 1, 2, 2, 2)) == pytest.approx((1, 1, 1))


def test_one_cell_found_as_one_is_perfect_and_split_in_two_is_not():
    assert foreground_restricted_info(row(1, 1), row(1, 1)) == (1, 1, 1)
    assert foreground_restricted_info(row(1, 1), row(1, 2)) == (0, 1, 0)


def test_a_truth_without_cells_is_nan():
    assert np.isnan(foreground_restricted_rand(row(0, 0), row(1, 0))).all()
    assert np.isnan(foreground_restricted_info(row(0, 0), row(1, 0))).all()


def inside_with_lines_alone(truth, proposal):
    """Pairs of numbers of the pixels that count, each line pixel with a number of its own."""
    pixels = zip(truth.ravel().tolist(), proposal.ravel().tolist(), strict=True)
    return [(t, s if s else ("line", i)) for i, (t, s) in enumerate(pixels) if t]


@given(SMALL_SEGMENTS)
@settings(deadline=None)
def test_rand_is_the_count_of_pixel_pairs(both):
    pixels = inside_with_lines_alone(*both)
    if not pixels:
        return
    pairs = [(p[0] == q[0], p[1] == q[1]) for p in pixels for q in pixels]
    together = sum(t and s for t, s in pairs)
    in_truth, in_proposal = sum(t for t, _ in pairs), sum(s for _, s in pairs)
    split, merge = together / in_truth, together / in_proposal

    expected = (split, merge, 2 * split * merge / (split + merge))
    assert foreground_restricted_rand(*both) == pytest.approx(expected)


@given(SMALL_SEGMENTS)
@settings(deadline=None)
def test_info_is_the_mutual_information_over_the_entropies(both):
    pixels = inside_with_lines_alone(*both)
    n = len(pixels)
    true, proposed = Counter(t for t, _ in pixels), Counter(s for _, s in pixels)
    if len(true) < 2 or len(proposed) < 2:
        return
    entropies = [-sum(c / n * math.log2(c / n) for c in sizes.values()) for sizes in (true, proposed)]
    shared = sum(c / n * math.log2(c * n / (true[t] * proposed[s])) for (t, s), c in Counter(pixels).items())

    expected = (shared / entropies[1], shared / entropies[0], 2 * shared / sum(entropies))
    assert foreground_restricted_info(*both) == pytest.approx(expected, abs=1e-12)


def test_rand_nears_scikit_image_which_leaves_a_pixels_pair_with_itself_out(rng):
    truth, proposal = (ndimage.zoom(rng.integers(low, 9, (8, 8)), 16, order=0) for low in (0, 1))
    proposal = np.roll(proposal, (5, 3), axis=(0, 1))
    # scikit-image 0.26 returns recall where it says precision, and the other way round (its issue 6485)
    error, recall, precision = adapted_rand_error(truth, proposal, ignore_labels=(0,))
    assert foreground_restricted_rand(truth, proposal) == pytest.approx((recall, precision, 1 - error), abs=1e-3)


def test_info_is_that_of_scikit_image(rng):
    truth, proposal = rng.integers(0, 9, (20, 20)), rng.integers(1, 9, (20, 20))
    splits, merges = variation_of_information(truth, proposal, ignore_labels=(0,))
    entropies = [
        -sum(p * math.log2(p) for p in np.unique(a[truth > 0], return_counts=True)[1] / np.count_nonzero(truth))
        for a in (truth, proposal)
    ]
    result = foreground_restricted_info(truth, proposal)
    assert result.split == pytest.approx(1 - splits / entropies[1])
    assert result.merge == pytest.approx(1 - merges / entropies[0])


def test_segments_are_4_connected():
    np.testing.assert_array_equal(cell_segments(np.eye(2, dtype=bool)) > 0, np.eye(2, dtype=bool))
    assert cell_segments(np.eye(2, dtype=bool)).max() == 2


def test_a_thick_membrane_becomes_a_line_and_loose_ends_vanish():
    segments = np.zeros((5, 9), np.int32)
    segments[:, :2], segments[:, 7:] = 1, 2
    segments[:, 0] = [1, 1, 0, 1, 1]
    np.testing.assert_array_equal(thin_borders(segments), [[1, 1, 1, 1, 0, 2, 2, 2, 2]] * 5)


def test_a_slice_without_cells_is_one_segment():
    np.testing.assert_array_equal(thin_borders(np.zeros((3, 4), np.int32)), np.ones((3, 4)))


@given(npst.arrays(bool, npst.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@settings(deadline=None)
def test_thinning_grows_segments_and_never_lets_them_touch(is_cell):
    segments = cell_segments(is_cell)
    thinned = thin_borders(segments)
    np.testing.assert_array_equal(thinned[is_cell], segments[is_cell])
    for a, b in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert not np.any((a != b) & (a > 0) & (b > 0))


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (np.zeros((2, 4, 4)), np.ones((3, 4, 4), int), "as many slices"),
        (np.zeros((0, 4, 4)), np.ones((0, 4, 4), int), "as many slices"),
        (np.zeros((4, 4)), np.ones((4, 4), int), r"must be \(H, W\)"),
        (np.zeros((1, 4, 4)), np.ones((1, 4, 5), int), r"must be \(H, W\)"),
    ],
)
def test_stacks_that_do_not_fit_are_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        boundary_scores(scores, labels)


def test_segments_that_do_not_fit_or_are_negative_are_refused():
    with pytest.raises(ValueError, match="px but the proposal"):
        foreground_restricted_rand(row(1, 1), row(1, 1, 1))
    with pytest.raises(ValueError, match="negative"):
        foreground_restricted_info(row(1, 1), row(-1, 1))


def test_thresholds_are_those_of_fiji():
    np.testing.assert_allclose(THRESHOLDS, np.arange(11) / 10, atol=1e-12)
    assert THRESHOLDS[-1] < 1


def test_the_best_threshold_of_the_mean_is_taken_and_slices_may_differ_in_size():
    labels = [np.array([[1, 1, 0, 1, 1]]), np.array([[1, 0, 1]])]
    scores = [np.array([[0.9, 0.9, 0.35, 0.9, 0.9]]), np.array([[0.9, 0.15, 0.9]])]
    result = boundary_scores(scores, labels)
    assert result.rand.score == pytest.approx(1)
    assert (result.rand.threshold, result.info.threshold) == (0.4, 0.4)
    assert (result.rand.split, result.rand.merge) == (1, 1)

    low = boundary_scores(scores, labels, thresholds=[0.2])
    assert low.rand.score == pytest.approx((2 / 3 + 1) / 2)
    assert low.rand.merge == pytest.approx((1 / 2 + 1) / 2)
    assert low.info.score == pytest.approx((0 + 1) / 2)


def test_slices_without_cells_are_left_out_of_the_mean():
    labels = np.array([[[1, 0, 1]], [[0, 0, 0]]])
    result = boundary_scores(labels.astype(float), labels)
    assert result.rand.score == result.info.score == 1
    assert np.isnan(boundary_scores(labels[1:].astype(float), labels[1:]).rand.score)


@pytest.fixture(scope="module")
def real_labels(real_data):
    return (tifffile.imread(real_data / "isbi2012" / "train-labels.tif", key=range(3)) > 0).astype(np.uint8)


def test_the_real_truth_is_perfect_against_itself(real_labels):
    result = boundary_scores(real_labels.astype(np.float32), real_labels)
    assert result.rand.score == pytest.approx(1)
    assert result.info.score == pytest.approx(1)


def test_membranes_2_px_thicker_hardly_matter_thanks_to_thinning(real_labels):
    thick = np.stack([ndimage.binary_erosion(labels, iterations=2, border_value=1) for labels in real_labels])
    result = boundary_scores(thick.astype(np.float32), real_labels)
    assert 0.99 < result.rand.score < 1
    assert 0.99 < result.info.score < 1
    unthinned = foreground_restricted_rand(cell_segments(real_labels[0] > 0), cell_segments(thick[0]))
    assert unthinned.f < 0.95


def test_merged_cells_lower_the_merge_score_and_leave_the_split_score(real_labels):
    merged = real_labels.copy()
    merged[:, 200:300, 200:300] = 1
    result = boundary_scores(merged.astype(np.float32), real_labels)
    assert result.rand.score < 0.9
    assert result.rand.merge < 0.8
    assert result.rand.split > 0.99


def test_scores_are_those_of_scikit_images_watershed(real_labels, rng):
    noisy = real_labels[0] + rng.normal(0, 1.5, real_labels[0].shape)
    is_cell = ndimage.gaussian_filter(noisy, 2) > 0.7
    segments = cell_segments(is_cell)
    other = watershed(np.zeros(segments.shape), segments, connectivity=1, watershed_line=True)
    truth = cell_segments(real_labels[0] > 0)
    for score in (foreground_restricted_rand, foreground_restricted_info):
        assert score(truth, thin_borders(segments)) == pytest.approx(score(truth, other), abs=1e-3)
