"""Paired differences: by hand on few cases, and what must hold for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import binom

from unetcli.core.bootstrap import mean_interval
from unetcli.core.paired import PairedDifference, paired_difference

NAN = float("nan")


def paired(first, second, **options) -> PairedDifference:
    rng = np.random.default_rng(7)
    return paired_difference(np.array(first, np.float64), np.array(second, np.float64), rng, **options)


def test_differences_by_hand():
    found = paired([0.5, 0.75, 1.0, 0.25, NAN, 0.5], [0.25, 0.25, 1.0, 0.5, 0.5, NAN])
    assert found.mean == 0.125
    assert (found.num_better, found.num_worse, found.num_equal, found.num_undefined) == (2, 1, 1, 2)
    assert (found.low, found.high) == mean_interval(np.array([0.25, 0.5, 0, -0.25]), np.random.default_rng(7))
    assert np.isnan(found.p_value)


def test_of_distances_the_lower_is_better():
    found = paired([1.0, 4.0, 5.0], [2.0, 3.0, 7.0], higher_is_better=False)
    assert (found.num_better, found.num_worse, found.mean) == (2, 1, pytest.approx(-2 / 3))


def test_six_gains_of_six_come_by_chance_in_one_of_32():
    found = paired([2, 3, 4, 5, 6, 7], [1, 1, 1, 1, 1, 1])
    assert found.p_value == pytest.approx(2 * binom.pmf(6, 6, 0.5))


def test_no_p_value_of_fewer_pairs_that_differ():
    assert np.isnan(paired([2, 3, 4, 5, 6, 1, 1], [1, 1, 1, 1, 1, 1, 1]).p_value)


def test_without_a_pair_nothing_is_said():
    found = paired([NAN, 1], [1, NAN])
    assert np.isnan([found.mean, found.low, found.high, found.p_value]).all()
    assert found.num_undefined == 2


values = npst.arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1, width=16))


@given(values, st.randoms(use_true_random=False))
def test_it_is_turned_about_with_its_two_sides(first, random):
    second = np.array(random.sample(list(first), len(first)))
    one, other = paired(first, second), paired(second, first)
    assert one.mean == -other.mean
    assert (one.num_better, one.num_worse, one.num_equal) == (other.num_worse, other.num_better, other.num_equal)
    np.testing.assert_allclose(one.p_value, other.p_value)
    np.testing.assert_allclose([one.low, one.high], [-other.high, -other.low], atol=1e-12)


def test_measurements_of_other_cases_are_refused():
    with pytest.raises(ValueError, match=r"must be two times \(n,\), got \(2,\) and \(3,\)"):
        paired([1, 2], [1, 2, 3])
