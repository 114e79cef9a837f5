"""Brightness, contrast, gamma and noise by hand, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from unetcli.core.intensity import (
    IntensityRanges,
    add_brightness,
    add_light,
    add_noise,
    apply_gamma,
    draw_factor,
    scale_contrast,
    vary_intensity,
)

PATCH = np.array([[[-1.0, 0.0], [0.5, 0.5]], [[3.0, 3.0], [3.0, 3.0]]], np.float32)  # the mean of channel 0 is 0


def test_brightness_by_hand():
    np.testing.assert_array_equal(add_brightness(PATCH, 0.25)[0], [[-0.75, 0.25], [0.75, 0.75]])


def test_contrast_turns_about_each_channels_mean():
    result = scale_contrast(PATCH, 2.0)
    np.testing.assert_array_equal(result[0], [[-2, 0], [1, 1]])
    np.testing.assert_array_equal(result[1], PATCH[1])


def test_gamma_keeps_the_ends_of_each_channels_range():
    result = apply_gamma(PATCH, 2.0)
    np.testing.assert_allclose(result[0], [[-1, -1 + 1.5 * (2 / 3) ** 2], [0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(result[1], PATCH[1])


def test_noise_has_the_deviation_asked_for(rng):
    noise = add_noise(np.zeros((2, 200, 200), np.float32), 0.3, rng)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.03


def test_noise_reaches_far_and_evenly_to_both_sides(rng):
    noise = np.sort(add_noise(np.zeros((1, 1 << 18), np.float32), 1, rng)[0])
    for share, quantile in ((0.001, -3.0902), (0.025, -1.96), (0.5, 0), (0.975, 1.96), (0.999, 3.0902)):
        assert noise[int(share * noise.size)] == pytest.approx(quantile, abs=0.1)
    assert -4.4 < noise[0] < -4
    assert 4 < noise[-1] < 4.4


def test_every_part_keeps_float32(rng):
    for result in (
        add_brightness(PATCH, 0.1),
        scale_contrast(PATCH, 1.1),
        apply_gamma(PATCH, 0.9),
        add_noise(PATCH, 1, rng),
    ):
        assert result.dtype == np.float32
        assert result.shape == PATCH.shape


class Lamp:
    """Draws the lights 0 to 8 in place of random ones."""

    def uniform(self, low, high, size):
        assert (low, high) == (0, 8)
        return np.arange(9.0).reshape(size)


def test_stray_light_goes_linearly_between_its_values_and_is_the_same_for_all_channels():
    patch = np.zeros((2, 5, 3), np.float32)
    patch[1] = 10
    lit = add_light(patch, 8, Lamp())
    rows = [[3 * row, 3 * row + 1, 3 * row + 2] for row in (0, 0.5, 1, 1.5, 2)]
    np.testing.assert_allclose(lit, [rows, np.add(rows, 10)])
    assert lit.dtype == np.float32


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 7), (2, 4, 5, 6)])
def test_stray_light_only_adds_and_no_more_than_is_allowed(shape):
    patch, ranges = np.zeros(shape, np.float32), IntensityRanges(probability=1.0, stray_light=0.7)
    for seed in range(20):
        lit = vary_intensity(patch, ranges, np.random.default_rng(seed))
        assert lit.min() > -1e-5
        assert lit.max() < 0.7 + 1e-5


def test_without_stray_light_all_else_is_drawn_as_before():
    with_light = IntensityRanges(1.0, 0.2, (0.8, 1.2), (0.8, 1.25), 0.1, stray_light=0.0)
    found = vary_intensity(PATCH, with_light, np.random.default_rng(3))
    rng = np.random.default_rng(3)
    rng.random(4)
    expected = add_brightness(PATCH, rng.uniform(-0.2, 0.2))
    expected = scale_contrast(expected, draw_factor((0.8, 1.2), rng))
    expected = apply_gamma(expected, draw_factor((0.8, 1.25), rng))
    np.testing.assert_allclose(found, add_noise(expected, rng.uniform(0, 0.1), rng), rtol=1e-6)


def test_probability_zero_changes_nothing(rng):
    ranges = IntensityRanges(0.0, 1.0, (0.5, 2.0), (0.5, 2.0), 1.0, limits=(-1, 1))
    assert vary_intensity(PATCH, ranges, rng) is PATCH


def test_each_part_is_drawn_apart():
    ranges = IntensityRanges(probability=0.25, brightness=1.0)
    # contrast, gamma and noise are drawn too, but their ranges change nothing beyond rounding
    brightened = [
        abs(float(vary_intensity(PATCH, ranges, np.random.default_rng(seed))[1, 0, 0]) - 3) > 1e-5
        for seed in range(2000)
    ]
    assert np.mean(brightened) == pytest.approx(0.25, abs=0.03)


def test_every_amount_stays_within_its_range_and_reaches_far_into_it():
    patch = np.array([[[0.0, 0.25, 1.0, 0.75]]], np.float32)
    varied = {"brightness": {"brightness": 0.5}, "contrast": {"contrast": (0.5, 2.0)}, "gamma": {"gamma": (0.25, 4.0)}}
    amounts = {name: [] for name in varied}
    for seed in range(300):
        results = {
            name: vary_intensity(patch, IntensityRanges(probability=1.0, **values), np.random.default_rng(seed))[0, 0]
            for name, values in varied.items()
        }
        amounts["brightness"].append(results["brightness"][0])
        amounts["contrast"].append(results["contrast"][2] - results["contrast"][0])
        amounts["gamma"].append(np.log(results["gamma"][1]) / np.log(0.25))
    for name, (low, high) in {"brightness": (-0.5, 0.5), "contrast": (0.5, 2.0), "gamma": (0.25, 4.0)}.items():
        assert low - 1e-5 <= min(amounts[name]) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(amounts[name]) <= high + 1e-5


def test_the_deviation_of_noise_is_drawn_evenly_up_to_the_largest():
    patch, ranges = np.zeros((1, 30, 30), np.float32), IntensityRanges(probability=1.0, noise=0.2)
    deviations = [vary_intensity(patch, ranges, np.random.default_rng(seed)).std() for seed in range(200)]
    assert np.mean(deviations) == pytest.approx(0.1, abs=0.02)
    assert min(deviations) < 0.02
    assert 0.18 < max(deviations) < 0.22


def test_the_result_is_clipped_only_where_limits_are_given(rng):
    wild = {"probability": 1.0, "brightness": 5.0, "noise": 5.0}
    patch = rng.uniform(-1, 1, (1, 32, 32)).astype(np.float32)

    clipped = vary_intensity(patch, IntensityRanges(**wild, limits=(-1, 1)), np.random.default_rng(1))
    free = vary_intensity(patch, IntensityRanges(**wild), np.random.default_rng(1))

    assert np.abs(free).max() > 2
    np.testing.assert_array_equal(clipped, np.clip(free, -1, 1))


def test_the_patch_is_left_as_it_was_and_the_same_seed_gives_the_same():
    ranges = IntensityRanges(1.0, 0.2, (0.8, 1.2), (0.8, 1.25), 0.1)
    before = PATCH.copy()

    first, second = (vary_intensity(PATCH, ranges, np.random.default_rng(3)) for _ in range(2))

    np.testing.assert_array_equal(PATCH, before)
    np.testing.assert_array_equal(first, second)


def test_in_place_the_patch_becomes_what_else_is_a_new_one():
    ranges = IntensityRanges(0.6, 0.2, (0.8, 1.2), (0.8, 1.25), 0.1, limits=(-1, 2))
    for seed in range(20):
        patch = PATCH.copy()
        expected = vary_intensity(PATCH, ranges, np.random.default_rng(seed))
        assert vary_intensity(patch, ranges, np.random.default_rng(seed), in_place=True) is patch
        np.testing.assert_array_equal(patch, expected)


def test_a_half_is_as_likely_as_a_double(rng):
    factors = np.array([draw_factor((0.5, 2.0), rng) for _ in range(4000)])
    assert factors.min() >= 0.5
    assert factors.max() <= 2.0
    assert np.mean(factors < 1) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "values",
    [
        {"probability": 1.5},
        {"contrast": (0.0, 1.0)},
        {"gamma": (2.0, 1.0)},
        {"noise": -1.0},
        {"brightness": -1.0},
        {"stray_light": -0.1},
    ],
)
def test_ranges_that_cannot_be_drawn_from_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        IntensityRanges(**values)
