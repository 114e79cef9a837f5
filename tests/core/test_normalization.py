"""Intensities by hand, and what must hold for any image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetcli.core import normalization as module
from unetcli.core.normalization import dtype_range, fit_normalization, is_off_range, measure_channels


def normalize(image, *arguments, **options):
    return fit_normalization(image, *arguments, **options)(image)


def test_range_maps_its_bounds_to_minus_one_and_one_and_clips():
    image = np.array([[0, 50, 100, 150, 200, 250]], np.uint8)

    result = normalize(image, "range", 50, 150)

    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[-1, -1, 0, 1, 1, 1]])


def test_range_takes_signed_values_beyond_the_type_of_the_bounds():
    hounsfield = np.array([[-32768, -1200, -300, 600, 32767]], np.int16)
    np.testing.assert_allclose(normalize(hounsfield, "range", -1200.0, 600.0), [[-1, -1, 0, 1, 1]], atol=1e-6)


def test_range_keeps_small_differences_of_large_values():
    image = np.array([[1_000_000_000, 1_000_000_001, 1_000_000_002]], np.int32)
    np.testing.assert_array_equal(normalize(image, "range", 1e9, 1e9 + 2), [[-1, 0, 1]])


def test_percentile_uses_each_channels_own_percentiles():
    ramp = np.arange(101.0)
    image = np.stack([ramp, 1000 - 10 * ramp])

    result = normalize(image, "percentile")

    np.testing.assert_allclose(result[0], np.clip((ramp - 50) / 49, -1, 1), atol=1e-6)
    np.testing.assert_allclose(result[1], -result[0], atol=1e-6)


def test_percentile_of_a_nearly_empty_image_keeps_what_is_there():
    image = np.zeros((1, 1000), np.uint16)
    image[0, :3] = (500, 1000, 1000)
    np.testing.assert_array_equal(normalize(image, "percentile")[0, :4], [0, 1, 1, -1])


def test_zscore_is_per_channel_and_not_clipped():
    image = np.array([[0, 0, 0, 4], [10, 20, 30, 40]], np.uint8)

    result = normalize(image, "zscore")

    np.testing.assert_allclose(result[0], np.array([-1, -1, -1, 3]) / np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(result[1], np.array([-3, -1, 1, 3]) / np.sqrt(5), rtol=1e-6)


@pytest.mark.parametrize("method", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_constant_channel_becomes_zero(method, value):
    image = np.stack([np.full(97, value, np.float32), np.linspace(0, 1, 97, dtype=np.float32)])

    result = normalize(image, method)

    np.testing.assert_array_equal(result[0], 0)
    assert result[1].std() > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_image_is_mapped_piece_by_piece_to_where_it_is_asked_to(rng, monkeypatch, dtype, axis):
    image = rng.integers(0, 100, (2, 2, 9, 5)).astype(dtype)
    fitted = fit_normalization(image[0], "zscore")
    whole = fitted.along(image, axis)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 45)
    out = np.empty(image.shape, np.float32)

    assert fitted.along(image[..., ::-1, :], axis, out) is out

    np.testing.assert_array_equal(out, whole[..., ::-1, :])


@given(
    hnp.arrays(np.int16, (2, 5, 7), elements=st.integers(-3000, 3000)),
    st.sampled_from(["range", "zscore", "percentile"]),
)
def test_a_part_is_normalised_like_the_whole(image, method):
    fitted = fit_normalization(image, method, -1000, 500)
    np.testing.assert_array_equal(fitted(image[:, 1:4, 2:]), fitted(image)[:, 1:4, 2:])


@given(
    hnp.arrays(np.uint8, (1, 40)), st.sampled_from(["zscore", "percentile"]), st.integers(1, 9), st.integers(-500, 500)
)
def test_own_statistics_forget_gain_and_offset(image, method, gain, offset):
    other = image.astype(np.int32) * gain + offset
    np.testing.assert_allclose(normalize(other, method), normalize(image, method), atol=1e-4)


def test_the_image_is_left_as_it_was(rng):
    image = rng.random((1, 9, 9), dtype=np.float32)
    before = image.copy()
    normalize(image, "range", 0.2, 0.4)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [((None, 1), "needs lower and upper"), ((1, 1), "less than upper"), ((0, np.inf), "both finite")],
)
def test_range_without_a_range_is_refused(bounds, said):
    with pytest.raises(ValueError, match=said):
        normalize(np.zeros((1, 4)), "range", *bounds)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="range, zscore, percentile, not 'minmax'"):
        normalize(np.zeros((1, 4)), "minmax")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not finite"):
        normalize(np.array([[0.0, np.nan]]), "zscore")
    with pytest.raises(ValueError, match=r"not \(4,\)"):
        normalize(np.zeros(4), "zscore")
    with pytest.raises(TypeError, match="complex128"):
        normalize(np.zeros((1, 4), complex), "zscore")
    with pytest.raises(ValueError, match="2 channels"):
        fit_normalization(np.zeros((2, 4)), "zscore")(np.zeros((1, 4)))


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", (0, 255)), ("u2", (0, 65535)), ("i2", (-32768, 32767)), ("?", (0, 1))]
)
def test_integer_types_have_a_range(dtype, expected):
    assert dtype_range(dtype) == expected


def test_floats_have_no_range():
    with pytest.raises(ValueError, match="float32 have no natural range"):
        dtype_range(np.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 255, 100), False),
        (np.linspace(90, 160, 100), False),
        (np.linspace(0, 1, 100), True),
        (np.linspace(0, 65535, 100), True),
        (np.full(100, 7.0), False),
    ],
    ids=["the same scale", "low contrast", "0 to 1", "16 bit", "blank"],
)
def test_an_image_on_another_scale_than_the_range_is_noticed(values, expected):
    assert is_off_range(values.reshape(1, 10, 10), 0, 255) is expected


@pytest.mark.parametrize("method", ["percentile", "zscore"])
def test_known_statistics_stand_in_for_the_image(method, rng):
    image = rng.normal(100, 20, (2, 30, 30)).astype(np.float32)
    whole = fit_normalization(image, method)

    known = fit_normalization(image[:, :3, :3], method, statistics=measure_channels(image))

    np.testing.assert_array_equal(known(image), whole(image))


def test_the_output_range_is_a_setting():
    hounsfield = np.array([[-2000, -500, 250, 1000, 3000]], np.int16)

    np.testing.assert_allclose(
        normalize(hounsfield, "range", -500, 1000, output_range=(0.0, 1.0)), [[0, 0, 0.5, 1, 1]], atol=1e-7
    )


def test_a_batch_is_normalised_along_its_second_axis(rng):
    batch = rng.integers(0, 255, (3, 2, 4, 5), np.uint8)
    normalization = fit_normalization(batch[0], "range", 10, 200)

    np.testing.assert_array_equal(normalization.along(batch, 1)[2], normalization(batch[2]))
