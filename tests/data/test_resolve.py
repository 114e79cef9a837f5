"""What the dataset fills in, and what contradicts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unetcli.config import Config, with_values
from unetcli.data.manifest import Case, ClassInfo, Manifest, Split, WeightMapFacts
from unetcli.data.preparing.dataset import intensity_stats
from unetcli.data.resolve import intensity_range, resolve
from unetcli.errors import ConfigError


def make_manifest(images, num_classes=2, channels=("grey",)):
    return Manifest(
        name="isbi",
        kind="isbi",
        classes=tuple(ClassInfo(index=i, name=f"class {i}", source_values=(i,)) for i in range(num_classes)),
        channels=channels,
        intensity=intensity_stats(images),
        cases=(
            Case(
                id="a",
                shape=images[0].shape,
                image_sha256="",
                labels_sha256="",
                class_shares=(1.0,) + (0.0,) * (num_classes - 1),
            ),
        ),
        split_method="block",
        splits=(Split(train=("a",), validation=()),),
    )


@pytest.fixture
def manifest():
    return make_manifest([np.full((3, 4, 4), 9, np.uint8)], num_classes=4, channels=("red", "green", "blue"))


def test_what_was_left_out_is_taken_from_the_dataset(tmp_path, monkeypatch, manifest):
    monkeypatch.chdir(tmp_path)
    config = with_values(Config(), {"train.epochs": 7})

    resolved = resolve(config, Path("datasets/isbi"), manifest)

    assert (resolved.model.in_channels, resolved.model.num_classes) == (3, 4)
    assert (resolved.data.lower, resolved.data.upper) == (0, 255)
    assert resolved.data.dataset == tmp_path / "datasets" / "isbi"
    assert resolved.train.epochs == 7
    assert config == with_values(Config(), {"train.epochs": 7})


def test_resolving_twice_changes_nothing(tmp_path, manifest):
    resolved = resolve(Config(), tmp_path, manifest)

    assert resolve(resolved, tmp_path, manifest) == resolved


def test_bounds_that_are_given_are_kept(tmp_path, manifest):
    resolved = resolve(with_values(Config(), {"data.lower": 40}), tmp_path, manifest)

    assert (resolved.data.lower, resolved.data.upper) == (40, 255)


@pytest.mark.parametrize("method", ["zscore", "percentile"])
def test_methods_that_look_at_each_image_get_no_bounds(tmp_path, manifest, method):
    resolved = resolve(with_values(Config(), {"data.normalization": method}), tmp_path, manifest)

    assert (resolved.data.lower, resolved.data.upper) == (None, None)


@pytest.mark.parametrize(
    ("name", "value", "found"), [("model.in_channels", 1, 3), ("model.num_classes", 2, 4), ("model.num_classes", 5, 4)]
)
def test_a_setting_that_contradicts_the_dataset_is_refused_with_both_values(tmp_path, manifest, name, value, found):
    with pytest.raises(ConfigError) as caught:
        resolve(with_values(Config(), {name: value}), tmp_path, manifest)

    assert str(caught.value) == f"{name}: {value}, but {tmp_path} has {found}"
    assert caught.value.hint == "leave the setting out"


def test_a_setting_that_repeats_the_dataset_is_taken(tmp_path, manifest):
    resolved = resolve(with_values(Config(), {"model.in_channels": 3, "model.num_classes": 4}), tmp_path, manifest)

    assert (resolved.model.in_channels, resolved.model.num_classes) == (3, 4)


def test_a_lower_bound_above_that_of_the_dataset_is_refused(tmp_path, manifest):
    with pytest.raises(ConfigError, match=r"lower 300.0 must be less than upper 255.0"):
        resolve(with_values(Config(), {"data.lower": 300}), tmp_path, manifest)


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", (0, 255)), ("int8", (-128, 127)), ("bool", (0, 1))])
def test_8_bit_images_use_their_type(dtype, expected):
    stats = intensity_stats([np.ones((1, 2, 2), np.uint8)]).model_copy(update={"dtype": dtype})

    assert intensity_range(stats) == expected


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_wider_types_use_the_middle_99_percent_of_the_pixels(dtype):
    image = np.arange(1001).reshape(1, 7, 143).astype(dtype)

    assert intensity_range(intensity_stats([image])) == pytest.approx((5, 995))


def test_images_that_are_nearly_all_background_use_their_extent():
    image = np.full((1, 40, 40), 100, np.uint16)
    image[0, 0, :2] = 90, 4000

    assert intensity_range(intensity_stats([image])) == (90, 4000)


def test_images_of_one_value_get_a_range_that_is_not_empty():
    assert intensity_range(intensity_stats([np.full((1, 4, 4), 7, np.uint16)])) == (7, 8)


def volume_manifest(spacing):
    manifest = make_manifest([np.full((1, 4, 4), 9, np.uint8)], num_classes=2, channels=("CT",))
    return manifest.model_copy(update={"num_axes": 3, "spacing": spacing, "unit": "mm"})


def test_the_levels_of_a_network_follow_the_spacing_of_volumes(tmp_path):
    config = with_values(Config(), {"model.ndim": 3, "data.patch_size": [16, 32, 32]})

    resolved = resolve(config, tmp_path, volume_manifest((5.0, 1.0, 1.0)))

    assert resolved.model.strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert resolved.model.kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert resolve(resolved, tmp_path, volume_manifest((1.0, 1.0, 1.0))) == resolved


@pytest.mark.parametrize(("ndim", "what"), [(2, "volumes"), (3, "images")])
def test_a_network_of_other_axes_than_the_dataset_is_refused(tmp_path, ndim, what):
    config = with_values(Config(), {"model.ndim": ndim, "data.patch_size": [32] * ndim})
    manifest = volume_manifest((1.0, 1.0, 1.0)).model_copy(update={"num_axes": 5 - ndim})

    with pytest.raises(ConfigError) as caught:
        resolve(config, tmp_path, manifest)

    assert str(caught.value) == f"model.ndim: {ndim}, but {tmp_path} holds {what}"
    assert "preset" in caught.value.hint


def test_a_loss_that_weighs_pixels_needs_a_weight_map(tmp_path, manifest):
    config = with_values(Config(), {"loss.weight_map": True})
    with pytest.raises(ConfigError, match="has no weight map") as caught:
        resolve(config, tmp_path, manifest)
    assert "--weight-map" in caught.value.hint
    of_volumes = with_values(config, {"model.ndim": 3, "data.patch_size": [16, 32, 32]})
    with pytest.raises(ConfigError, match="has no weight map") as caught:
        resolve(of_volumes, tmp_path, volume_manifest((1.0, 1.0, 1.0)))
    assert caught.value.hint == "leave the setting out; there are weight maps of images only"
    weighed = manifest.model_copy(update={"weight_map": WeightMapFacts(w0=10, sigma=5)})
    assert resolve(config, tmp_path, weighed).loss.weight_map


def test_logits_are_adjusted_by_what_a_pixel_of_each_class_weighs(tmp_path, manifest):
    (case,) = manifest.cases
    # a large case of class 0 alone that weighs 2, a small one of half each that weighs 4 and 6: 2.4 and 6 in the mean
    cases = (
        case.model_copy(update={"shape": (1, 8, 8), "class_shares": (1.0, 0.0), "weight_shares": (2.0, 0.0)}),
        case.model_copy(update={"shape": (1, 8, 4), "class_shares": (0.5, 0.5), "weight_shares": (2.0, 3.0)}),
    )
    weighed = manifest.model_copy(
        update={"weight_map": WeightMapFacts(), "cases": cases, "classes": manifest.classes[:2]}
    )
    assert weighed.mean_weights == pytest.approx((2.4, 6.0))
    weights = {"loss.logit_adjustment": "weights", "loss.class_weights": [1.0, 3.0]}

    by_class = resolve(with_values(Config(), weights), tmp_path, weighed)
    np.testing.assert_allclose(by_class.loss.log_weights, [0, np.log(3)], atol=1e-6)
    by_both = resolve(with_values(Config(), weights | {"loss.weight_map": True}), tmp_path, weighed)
    np.testing.assert_allclose(by_both.loss.log_weights, np.log([2.4, 18.0]), atol=1e-6)
    assert resolve(by_both, tmp_path, weighed) == by_both

    untold = weighed.model_copy(update={"cases": (cases[0], case)})
    with pytest.raises(ConfigError, match="does not say what its weights are in the mean") as caught:
        resolve(with_values(Config(), weights | {"loss.weight_map": True}), tmp_path, untold)
    assert "--weight-map" in caught.value.hint

    changed = resolve(with_values(by_both, {"loss.weight_map": False}), tmp_path, weighed)
    assert changed.loss == by_class.loss
    unset = resolve(with_values(by_both, {"loss.logit_adjustment": None}), tmp_path, weighed)
    assert unset.loss.log_weights is None

    with pytest.raises(ConfigError, match=r"loss\.logit_adjustment: weights, but those of class 0 are 0 in the mean"):
        resolve(with_values(Config(), weights | {"loss.class_weights": [0.0, 1.0]}), tmp_path, weighed)
    with pytest.raises(ConfigError, match=r"loss\.class_weights are 3, but there are 2 classes"):
        resolve(with_values(Config(), weights | {"loss.class_weights": [1.0, 2.0, 3.0]}), tmp_path, weighed)
