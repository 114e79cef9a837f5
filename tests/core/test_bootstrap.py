"""Bootstrap intervals: exact where they can be, SciPy's elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import bootstrap as scipy_bootstrap

from unetcli.core import bootstrap
from unetcli.core.bootstrap import mean_interval


def interval(values, **options):
    return mean_interval(np.asarray(values, np.float64), np.random.default_rng(7), **options)


def test_equal_values_leave_no_doubt():
    assert interval([0.25] * 5) == (0.25, 0.25)


def test_of_two_values_any_mean_may_come():
    assert interval([0, 1]) == (0, 1)  # 0, 0.5 and 1, with 1/4, 1/2 and 1/4


@pytest.mark.parametrize("values", [[], [0.5]])
def test_of_fewer_than_two_values_nothing_is_said(values):
    assert np.isnan(interval(values)).all()


def test_it_is_the_percentile_interval_of_scipy(rng):
    values = rng.random(30)

    # SciPy is handed the draws that ours makes from the same generator, one batch of all
    theirs = scipy_bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval

    assert interval(values) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


@given(npst.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1e3, 1e3)))
def test_it_is_ordered_within_the_values_and_the_same_for_one_seed(values):
    low, high = interval(values, resamples=100)

    slack = 1e-9
    assert values.min() - slack <= low <= high <= values.max() + slack
    assert interval(values, resamples=100) == (low, high)
    narrow = interval(values, resamples=100, confidence=0.5)
    assert low - slack <= narrow[0] <= narrow[1] <= high + slack


def test_draws_in_parts_are_the_same(rng, monkeypatch):
    values = rng.random(10)
    whole = interval(values)
    monkeypatch.setattr(bootstrap, "CHUNK", 70)

    assert interval(values) == whole


def test_what_has_no_mean_interval_is_refused():
    with pytest.raises(ValueError, match=r"values must be \(n,\) and no NaN"):
        interval([0.5, np.nan])
    with pytest.raises(ValueError, match=r"values must be \(n,\)"):
        interval([[0.5, 1]])
    for confidence in (0, 1, 95):
        with pytest.raises(ValueError, match="confidence must be in"):
            interval([0.5, 1], confidence=confidence)
