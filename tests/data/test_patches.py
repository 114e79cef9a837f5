"""Batches depend on the seed and the step alone, and show every case equally often."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import numpy as np
import pytest

from unetcli.config import AugmentationSettings, Config, DataSettings, with_values
from unetcli.core.normalization import fit_normalization
from unetcli.core.spatial import MirrorRule
from unetcli.data.cases import LabelledImage
from unetcli.data.patches import PatchSampler, Share, intensity_ranges, spatial_ranges
from unetcli.errors import ConfigError, DataError

EVERYTHING = {
    "augmentation.affine_probability": 0.7,
    "augmentation.elastic_probability": 0.7,
    "augmentation.intensity_probability": 0.5,
}


def make_cases(rng, sizes, num_channels=1):
    return [
        LabelledImage(
            f"slice {index}",
            rng.integers(0, 256, (num_channels, *size), dtype=np.uint8),
            rng.integers(0, 3, size, dtype=np.uint8),
        )
        for index, size in enumerate(sizes)
    ]


def make_config(**values):
    dotted = {name.replace("__", "."): value for name, value in values.items()}
    base = {"model.num_classes": 3, "model.depth": 2, "data.patch_size": [32, 24], "train.batch_size": 3}
    return with_values(Config(), base | dotted)


PLAIN = {"augmentation__flip": False, "augmentation__quarter_turns": False}


def test_a_batch_has_the_shapes_and_types_of_the_network(rng):
    images, labels = PatchSampler(
        make_cases(rng, [(40, 50)] * 2, num_channels=2), with_values(make_config(), EVERYTHING)
    )[0]

    assert (images.shape, images.dtype) == ((3, 2, 32, 24), np.float32)
    assert (labels.shape, labels.dtype) == ((3, 32, 24), np.int32)
    assert np.abs(images).max() <= 1
    assert set(np.unique(labels)) <= {0, 1, 2}


def test_batches_do_not_depend_on_order_or_workers(rng):
    cases = make_cases(rng, [(60, 50), (40, 64), (33, 37)])
    config = with_values(make_config(), EVERYTHING)
    expected = [PatchSampler(cases, config)[step] for step in range(12)]

    sampler = PatchSampler(cases, config)
    steps = list(reversed(range(12)))
    with ThreadPoolExecutor(4) as pool:
        for step, (images, labels) in zip(steps, pool.map(sampler.__getitem__, steps), strict=True):
            np.testing.assert_array_equal(images, expected[step][0])
            np.testing.assert_array_equal(labels, expected[step][1])


@pytest.mark.parametrize("num_ranks", [2, 3, 6])
def test_the_shares_of_all_processes_are_the_batch_of_one(rng, num_ranks):
    cases = make_cases(rng, [(60, 50), (40, 64), (33, 37)])
    config = with_values(make_config(train__batch_size=6, data__foreground_share=0.5), EVERYTHING)
    alone = PatchSampler(cases, config)
    shared = [PatchSampler(cases, config, share=Share(6, rank, num_ranks)) for rank in range(num_ranks)]
    assert {sampler.steps_per_epoch for sampler in shared} == {alone.steps_per_epoch}
    for step in (0, 5):
        for expected, parts in zip(alone[step], zip(*(sampler[step] for sampler in shared), strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_every_process_has_its_part_of_every_batch_of_a_step():
    assert [Share(12, rank, 2, num_batches=3).places for rank in range(2)] == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]


def test_patches_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ConfigError, match="6 patches of a batch cannot be shared out to 4 processes"):
        Share(12, 0, 4, num_batches=2)


def test_steps_and_seeds_differ(rng):
    cases = make_cases(rng, [(64, 64)])
    sampler = PatchSampler(cases, make_config())
    other = PatchSampler(cases, make_config(train__seed=2))
    assert not np.array_equal(sampler[0][0], sampler[1][0])
    assert not np.array_equal(sampler[0][0], other[0][0])


def test_every_pass_shows_every_case_once_in_a_new_order(rng):
    sampler = PatchSampler(make_cases(rng, [(32, 32)] * 10), make_config())
    passes = [[sampler.case_index(10 * turn + place) for place in range(10)] for turn in range(6)]
    assert all(sorted(order) == list(range(10)) for order in passes)
    assert len({tuple(order) for order in passes}) == 6


def test_batches_show_the_cases_that_their_numbers_name():
    cases = [LabelledImage(f"{i}", np.full((1, 32, 24), i, np.uint8), np.full((32, 24), i, np.uint8)) for i in range(5)]
    sampler = PatchSampler(cases, make_config(model__num_classes=5, data__lower=-1, data__upper=5))

    shown = [int(label[0, 0]) for step in range(5) for label in sampler[step][1]]

    assert shown == [sampler.case_index(number) for number in range(15)]
    assert set(Counter(shown).values()) == {3}


@pytest.mark.parametrize("method", ["range", "zscore", "percentile"])
def test_a_patch_is_normalised_by_its_whole_image(rng, method):
    case = make_cases(rng, [(32, 24)])[0]
    case.image[0, :16] //= 2
    sampler = PatchSampler([case], make_config(data__normalization=method, **PLAIN))

    images, labels = sampler[0]

    np.testing.assert_array_equal(images[1], fit_normalization(case.image, method, 0, 255)(case.image))
    np.testing.assert_array_equal(labels[1], case.labels)


def test_only_zscores_may_leave_minus_one_to_one(rng):
    cases = make_cases(rng, [(32, 32)])
    noisy = {"augmentation__intensity_probability": 1.0, "augmentation__noise": 3.0}
    assert np.abs(PatchSampler(cases, make_config(**noisy))[0][0]).max() == 1
    assert np.abs(PatchSampler(cases, make_config(**noisy, data__normalization="zscore"))[0][0]).max() > 1.8


def test_the_valid_network_gets_labels_of_the_inner_part():
    image = np.arange(900, dtype=np.uint16).reshape(1, 30, 30)
    case = LabelledImage("a", image, (image[0] % 3).astype(np.uint8))
    config = make_config(
        model__architecture="unet_valid", data__patch_size=[28, 28], data__lower=0, data__upper=900, **PLAIN
    )
    margin = config.model.margin

    images, labels = PatchSampler([case], config)[0]

    assert margin == 8
    assert labels.shape == (3, 12, 12)
    inner = np.rint((images[:, 0, 8:-8, 8:-8] + 1) * 450).astype(int)
    np.testing.assert_array_equal(inner % 3, labels)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, 5),  # (60 * 80 + 40 * 48) / (2 * 32 * 24) = 4.375
        ({"train__steps_per_epoch": 7}, 7),
        ({"model__architecture": "unet_valid", "data__patch_size": [28, 28]}, 24),  # 6720 / (2 * 12 * 12) = 23.3
    ],
)
def test_an_epoch_shows_every_pixel_about_once(rng, values, expected):
    sampler = PatchSampler(make_cases(rng, [(60, 80), (40, 48)]), make_config(train__batch_size=2, **values))
    assert sampler.steps_per_epoch == expected


def test_bad_cases_are_refused_by_name(rng):
    good, bad = make_cases(rng, [(32, 32), (32, 40)])
    with pytest.raises(DataError, match="slice 1: labels hold the value 2, but 2 classes allow 0 to 1"):
        PatchSampler([LabelledImage("slice 0", good.image, good.labels % 2), bad], make_config(model__num_classes=2))
    with pytest.raises(DataError, match=r"slice 0: image has shape \(1, 32, 32\).*3 channels"):
        PatchSampler([good], make_config(model__in_channels=3))
    with pytest.raises(DataError, match=r"mixed: image has shape \(2, 32, 32\).*1 channel"):
        PatchSampler([good, LabelledImage("mixed", np.zeros((2, 32, 32), np.uint8), good.labels)], make_config())
    holed = np.zeros((1, 32, 32), np.float32)
    holed[0, 3, 3] = np.nan
    with pytest.raises(DataError, match="holed: image has values that are not finite"):
        PatchSampler([LabelledImage("holed", holed, good.labels)], make_config(data__lower=0, data__upper=1))
    with pytest.raises(DataError, match="no training cases"):
        PatchSampler([], make_config())


def test_settings_that_leave_something_open_are_refused(rng):
    case = make_cases(rng, [(32, 32)])[0]
    with pytest.raises(ConfigError, match=r"model\.num_classes: not set"):
        PatchSampler([case], make_config(model__num_classes=None))
    with pytest.raises(ConfigError, match="slice 0 is float32, which has no natural range"):
        PatchSampler([LabelledImage("slice 0", case.image.astype(np.float32), case.labels)], make_config())
    with pytest.raises(ConfigError, match=r"data\.lower 300, data\.upper 255: empty range"):
        PatchSampler([case], make_config(data__lower=300))


def test_every_augmentation_setting_reaches_its_part():
    changed = {
        "flip": False,
        "flip_axes": (1,),
        "quarter_turns": False,
        "affine_probability": 0.1,
        "rotation": 11.0,
        "in_plane": True,
        "scale": (0.7, 1.3),
        "shear": 12.0,
        "shift": 13.0,
        "elastic_probability": 0.2,
        "elastic_std": 14.0,
        "elastic_grid": 5,
        "intensity_probability": 0.3,
        "brightness": 0.4,
        "contrast": (0.6, 1.4),
        "gamma": (0.5, 1.5),
        "noise": 0.6,
        "stray_light": 0.8,
    }
    settings = AugmentationSettings(**changed)
    intensity = asdict(intensity_ranges(settings, DataSettings()))

    assert set(changed) == set(AugmentationSettings.model_fields)
    assert intensity.pop("limits") == (-1, 1)
    intensity["intensity_probability"] = intensity.pop("probability")
    assert asdict(spatial_ranges(settings)) | intensity == changed


def test_steps_are_counted_from_zero(rng):
    with pytest.raises(IndexError, match="-1"):
        PatchSampler(make_cases(rng, [(32, 32)]), make_config())[-1]


def test_patches_of_a_case_follow_each_other(rng):
    cases = make_cases(rng, [(32, 32)] * 3)
    sampler = PatchSampler(cases, make_config(data__patches_per_case=4))
    plain = PatchSampler(cases, make_config())
    assert [sampler.case_index(number) for number in range(24)] == [plain.case_index(n // 4) for n in range(24)]
    first, second = sampler[0][0][:2]
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("batch_size", "expected"), [(1, 12), (5, 3), (8, 2)])
def test_an_epoch_may_be_so_many_patches_of_every_case(rng, batch_size, expected):
    values = {"train__epoch_unit": "cases", "data__patches_per_case": 4, "train__batch_size": batch_size}
    assert PatchSampler(make_cases(rng, [(90, 90)] * 3), make_config(**values)).steps_per_epoch == expected
    assert PatchSampler(make_cases(rng, [(9, 9)]), make_config(**values, train__steps_per_epoch=7)).steps_per_epoch == 7


def test_sides_of_images_lie_along_their_columns():
    labels = np.repeat(np.array([[1, 0, 0, 2]], np.uint8), 4, axis=0)
    labels[0] = 0
    case = LabelledImage("a", np.zeros((1, 4, 4), np.uint8), labels)
    sampler = PatchSampler([case], make_config(data__patch_size=[4, 4]), mirror=MirrorRule((0, 2, 1)))
    shown = {patch.astype(np.uint8).tobytes() for step in range(20) for patch in sampler[step][1]}
    assert shown == {labels.tobytes(), labels[::-1].tobytes()}


def test_ignored_pixels_are_let_in_only_where_they_are_expected(rng):
    case = make_cases(rng, [(32, 32)])[0]
    case.labels[4, 4] = 255
    with pytest.raises(DataError, match="labels hold the value 255"):
        PatchSampler([case], make_config())
    assert (PatchSampler([case], make_config(**PLAIN), has_ignored=True)[0][1] <= 255).all()
    case.labels[4, 5] = 254
    with pytest.raises(DataError, match="labels hold the value 254"):
        PatchSampler([case], make_config(), has_ignored=True)


def weighed(cases):
    """The same cases, each pixel weighing what its label says."""
    return [replace(case, weights=case.labels.astype(np.float32) + 0.5) for case in cases]


@pytest.mark.parametrize("architecture", ["unet", "unet_valid"])
def test_weights_are_moved_as_the_labels_are(rng, architecture):
    cases = weighed(make_cases(rng, [(60, 50), (40, 64), (33, 37)]))
    values = {"loss__weight_map": True, "data__patch_size": [32, 32], "model__architecture": architecture}
    values |= {"data__patch_size": [28, 28]} if architecture == "unet_valid" else {}
    sampler = PatchSampler(cases, with_values(make_config(**values), EVERYTHING))
    plain = PatchSampler(cases, with_values(make_config(**values | {"loss__weight_map": False}), EVERYTHING))
    for step in range(6):
        images, labels, weights = sampler[step]
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights, labels + np.float32(0.5))
        for found, expected in zip((images, labels), plain[step], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_shares_of_all_processes_have_the_weights_of_one(rng):
    cases = weighed(make_cases(rng, [(60, 50), (40, 64)]))
    config = with_values(make_config(train__batch_size=4, loss__weight_map=True), EVERYTHING)
    parts = [PatchSampler(cases, config, share=Share(4, rank, 2))[3][2] for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), PatchSampler(cases, config)[3][2])


def test_pixels_cannot_be_weighed_without_a_map(rng):
    with pytest.raises(ConfigError, match=r"loss\.weight_map: is set, but slice 0 has no weight map") as caught:
        PatchSampler(make_cases(rng, [(32, 32)]), make_config(loss__weight_map=True))
    assert "--weight-map" in caught.value.hint
