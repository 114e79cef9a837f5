"""Distributions of intensities against NumPy, alone and merged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetcli.core.normalization import measure_channels
from unetcli.data.preparing import intensities
from unetcli.data.preparing.intensities import count_values, distribution_of, intensity_record, merge_distributions

SMALL_TYPES = [np.dtype(name) for name in ("uint8", "int8", "uint16", "int16")]


@given(hnp.arrays(st.sampled_from(SMALL_TYPES), hnp.array_shapes(max_dims=3, max_side=9)))
def test_counts_are_those_of_numpy(array):
    values, counts = count_values(array)
    expected = np.unique(array, return_counts=True)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(counts, expected[1])


def test_counts_are_exact_beyond_what_a_float_counts(monkeypatch):
    monkeypatch.setattr(intensities, "CHUNK", 1 << 10)
    array = np.zeros(100_001, np.int16)
    array[::7] = -5
    assert [part.tolist() for part in count_values(array)] == [[-5, 0], [14286, 85715]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_statistics_are_those_of_numpy(rng, dtype):
    image = (rng.normal(40, 30, (1, 8, 9, 10)) * (1 if dtype == "uint8" else 50)).clip(
        0, 250 if dtype == "uint8" else 9e3
    )
    image = image.astype(dtype)
    found, expected = distribution_of(image[0]).statistics, measure_channels(image)[0]
    for name in ("minimum", "maximum", "mean", "std"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    for name in ("low", "high"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name


@given(
    hnp.arrays(np.int16, st.integers(1, 50), elements=st.integers(-9, 9)),
    hnp.arrays(np.uint8, st.integers(1, 50), elements=st.integers(0, 9)),
    st.floats(0, 100),
)
def test_merged_percentiles_are_those_of_all_pixels(first, second, percent):
    together = np.concatenate([first, second])
    merged = merge_distributions([distribution_of(first), distribution_of(second)])
    assert merged.percentile(percent) == pytest.approx(np.percentile(together, percent), abs=1e-9)
    assert (merged.mean, merged.std) == pytest.approx((together.mean(), together.std()), abs=1e-9)
    assert merged.num_pixels == len(together)


def test_large_floats_are_sampled_and_their_extremes_kept(rng, monkeypatch):
    monkeypatch.setattr(intensities, "SAMPLE", 5000)
    values = rng.normal(size=100_000).astype(np.float32)
    values[1], values[2] = -77, 99
    found = distribution_of(values)
    assert (found.values[0], found.values[-1], found.num_pixels) == (-77, 99, 100_000)
    assert found.mean == pytest.approx(values.mean(dtype=np.float64))
    ranks = np.searchsorted(np.sort(values), [found.percentile(percent) for percent in (1, 50, 99)])
    np.testing.assert_allclose(ranks / 1e5, [0.01, 0.5, 0.99], atol=0.01)


def test_what_is_not_finite_is_counted():
    with pytest.raises(ValueError, match="2 of 3 intensities are NaN or infinite"):
        distribution_of(np.array([1, np.nan, np.inf], np.float32))


def test_the_manifest_gets_the_percentiles_it_needs():
    record = intensity_record(distribution_of(np.arange(201, dtype=np.int16)), "int16")
    assert record.percentiles == {0.5: 1, 1.0: 2, 50.0: 100, 99.0: 198, 99.5: 199}
    assert (record.minimum, record.maximum, record.mean, record.dtype) == (0, 200, 100, "int16")
