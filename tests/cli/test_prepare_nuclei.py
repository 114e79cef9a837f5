"""`unet prepare nuclei`: the layouts it knows, what becomes of the nuclei, and what is said of bad masks."""

from __future__ import annotations

import json
import shutil

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.core.weight_map import balanced_weights, border_weights
from unetcli.data.manifest import load_cases, load_manifest
from unetcli.errors import ConfigError, DataError

SIZE = (12, 16)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare nuclei` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["nuclei", *(str(argument) for argument in arguments)])


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))


def square(top, left, side=3, size=SIZE):
    mask = np.zeros(size, np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


@pytest.fixture
def publish(tmp_path, rng):
    """Write an image and its masks as the Bowl did; returns its grey values or colours."""

    def publish(name, masks, *, size=SIZE, colour=False, alpha=255, root="nuclei/stage1_train"):
        pixels = rng.integers(0, 255, (*size, 4), dtype=np.uint8)
        if not colour:
            pixels[..., 1] = pixels[..., 2] = pixels[..., 0]
        pixels[..., 3] = 255
        pixels[0, 0, 3] = alpha
        folder = tmp_path / root / name
        write_png(folder / "images" / f"{name}.png", pixels)
        (folder / "masks").mkdir()
        for number, mask in enumerate(masks):
            write_png(folder / "masks" / f"{number}.png", mask)
        return pixels[..., :3]

    return publish


@pytest.fixture
def bowl(publish):
    """Three images with two nuclei that touch and one apart."""
    masks = [square(1, 1), square(1, 4), square(8, 9)]
    return {name: publish(name, masks) for name in ("a2", "a10", "b")}


def by_hand():
    """The numbers of those three."""
    places = enumerate([(1, 1), (1, 4), (8, 9)], 1)
    return sum(number * (square(*place) > 0).astype(np.int32) for number, place in places)


def summary_of(result):
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def cases_of(folder):
    manifest = load_manifest(folder)
    return manifest, {case.id: case for case in load_cases(folder, manifest, [each.id for each in manifest.cases])}


@pytest.mark.parametrize("source", ["nuclei", "nuclei/stage1_train"])
def test_the_bowl_is_read_as_published(invoke, bowl, tmp_path, source):
    summary = summary_of(invoke(source, "-o", "out", "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert list(cases) == ["a2", "a10", "b"]
    assert (summary["objects"], summary["channels"], summary["weight_map"]) == (9, ["grey"], None)
    assert (manifest.kind, manifest.has_instances, manifest.class_names) == ("nuclei", True, ("background", "nucleus"))
    for name, case in cases.items():
        np.testing.assert_array_equal(case.image, bowl[name][None, ..., 0])
        np.testing.assert_array_equal(case.instances, by_hand())
        np.testing.assert_array_equal(case.labels, by_hand() > 0)
        assert case.weights is None


@pytest.mark.usefixtures("bowl")
def test_masks_without_an_image_are_told_of(invoke, tmp_path):
    shutil.rmtree(tmp_path / "nuclei" / "stage1_train" / "b" / "images")
    (skipped,) = summary_of(invoke("nuclei", "-o", "out", "--json"))["skipped"]
    assert skipped["case"] == "b"
    assert "holds 0 images, but must hold one" in skipped["reason"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[(option, value) for option in ("--weight-map-w0", "--weight-map-sigma") for value in ("inf", "nan")],
        ("--weight-map-w0", "1e7"),
    ],
)
def test_a_weight_map_is_of_finite_numbers_that_are_not_huge(invoke, option, value):
    refused = invoke("nuclei", "-o", "out", "--weight-map", option, value)
    assert refused.exit_code == 2
    assert option in refused.stderr


@pytest.mark.usefixtures("bowl")
def test_borders_are_a_class_between_nuclei_that_touch(invoke, tmp_path):
    summary_of(invoke("nuclei", "-o", "out", "--target", "border", "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert manifest.class_names == ("background", "nucleus", "border")
    labels = cases["b"].labels
    assert labels[1:4, 1:7].tolist() == [[1, 2, 2, 2, 2, 1]] * 3
    assert (labels[8:11, 9:12] == 1).all()
    np.testing.assert_array_equal(cases["b"].instances, by_hand())


@pytest.mark.usefixtures("bowl")
def test_nuclei_that_touch_are_parted_by_background_that_the_weight_map_weighs(invoke, tmp_path):
    summary_of(invoke("nuclei", "-o", "out", "--target", "separated", "--weight-map", "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert manifest.class_names == ("background", "nucleus")
    assert cases["b"].labels[1:4, 1:7].tolist() == [[1, 1, 0, 0, 1, 1]] * 3
    np.testing.assert_array_equal(cases["b"].instances, by_hand())
    background, nucleus = balanced_weights(np.array([12 * 16 - 21, 21]))
    np.testing.assert_allclose(cases["b"].weights[2, 1:3], nucleus, rtol=1e-6)
    # one pixel to the nearest, two to the other
    np.testing.assert_allclose(cases["b"].weights[2, 3:5] - background, 10 * np.exp(-9 / 50), rtol=1e-5)


@pytest.mark.usefixtures("bowl")
def test_classes_may_count_the_same_so_that_gaps_alone_count_more(invoke, tmp_path):
    options = ("--target", "separated", "--weight-map", "--weight-map-classes", "equal")
    summary = summary_of(invoke("nuclei", "-o", "out", *options, "--json"))
    assert summary["weight_map"] == {"classes": "equal", "w0": 10, "sigma": 5}
    manifest, cases = cases_of(tmp_path / "out")
    assert manifest.weight_map.classes == "equal"
    np.testing.assert_array_equal(cases["b"].weights[2, 1:3], [1, 1])
    np.testing.assert_allclose(cases["b"].weights[2, 3:5], 1 + 10 * np.exp(-9 / 50), rtol=1e-6)


@pytest.mark.usefixtures("bowl")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--weight-map-w0", "3"], "--weight-map-w0 3.0: says how to compute a weight map, but none is wanted"),
        (["--weight-map-sigma", "3"], "--weight-map-sigma 3.0: says how"),
        (["--weight-map-classes", "equal"], "--weight-map-classes equal: says how"),
        (["--border-width", "2"], "--border-width 2: is for --target separated and border, and this is semantic"),
    ],
)
def test_what_would_change_nothing_is_refused(invoke, tmp_path, options, says):
    refused = invoke("nuclei", "-o", "out", *options)
    assert isinstance(refused.exception, ConfigError)
    assert says in str(refused.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("bowl")
@pytest.mark.parametrize("target", ["separated", "border"])
def test_borders_that_leave_nothing_of_nuclei_are_told_or_refused(invoke, tmp_path, target):
    summary = summary_of(invoke("nuclei", "-o", "out", "--target", target, "--border-width", 4, "--json"))
    assert summary["warnings"][0] == "borders of 4 px leave no pixel of 6 of 9 nuclei, first in a2"
    refused = invoke("nuclei", "-o", "none", "--target", target, "--border-width", 1000)
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception) == "--border-width 1000: leaves no pixel of any of 9 nuclei"
    assert not (tmp_path / "none").exists()


def test_a_class_without_a_pixel_is_told(invoke, publish):
    for name in "ab":
        publish(name, [square(1, 1), square(8, 9)])
    summary = summary_of(invoke("nuclei", "-o", "out", "--target", "border", "--json"))
    assert summary["warnings"] == ["no pixel is of 1 class: border"]
    assert summary_of(invoke("nuclei", "-o", "other", "--json"))["warnings"] == []


@pytest.mark.usefixtures("bowl")
def test_the_weight_map_is_that_of_the_paper_with_classes_balanced_over_all_images(invoke, publish, tmp_path):
    publish("c", [square(0, 0, 8)])
    options = ("--weight-map", "--weight-map-w0", 7, "--weight-map-sigma", 3)
    summary = summary_of(invoke("nuclei", "-o", "out", *options, "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert summary["weight_map"] == {"classes": "balanced", "w0": 7, "sigma": 3}
    assert (manifest.weight_map.w0, manifest.weight_map.sigma) == (7, 3)
    inside = 3 * 27 + 64
    balance = balanced_weights(np.array([4 * 12 * 16 - inside, inside]))
    expected = border_weights(cases["b"].labels, by_hand(), balance, w0=7, sigma=3)
    np.testing.assert_array_equal(cases["b"].weights, expected)
    labels = np.concatenate([case.labels.ravel() for case in cases.values()])
    weights = np.concatenate([case.weights.ravel() for case in cases.values()])
    assert manifest.mean_weights == pytest.approx([weights[labels == index].mean() for index in (0, 1)], rel=1e-6)


def test_the_zoo_layout_has_pieces_for_nuclei(invoke, rng, tmp_path):
    for name in "ab":
        write_png(tmp_path / "zoo" / name / "image.png", rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8))
        write_png(tmp_path / "zoo" / name / "mask.png", square(1, 1) | square(4, 4) | square(8, 9))
    summary = summary_of(invoke("zoo", "-o", "out", "--json"))
    assert (summary["objects"], summary["channels"]) == (6, ["red", "green", "blue"])
    _, cases = cases_of(tmp_path / "out")
    assert [cases["a"].instances[place] for place in ((1, 1), (4, 4), (8, 9), (0, 0))] == [1, 2, 3, 0]


def test_stacks_keep_the_numbers_of_their_nuclei(invoke, rng, tmp_path):
    folder = tmp_path / "stacks"
    folder.mkdir()
    volume = rng.integers(0, 255, (11, *SIZE), dtype=np.uint8)
    labels = np.zeros((11, *SIZE), np.uint16)
    labels[:, 2, 3], labels[:, 9, 3], labels[:, 5, 5] = 700, 700, 3
    tifffile.imwrite(folder / "volume.tif", volume, photometric="minisblack")
    tifffile.imwrite(folder / "labels-instances.tif", labels, photometric="minisblack")
    summary = summary_of(invoke("stacks", "-o", "out", "--validation", 3, "--seed", 5, "--json"))
    _, cases = cases_of(tmp_path / "out")
    assert (len(summary["folds"]), summary["folds"][0]["train"], len(summary["folds"][0]["validation"])) == (1, 8, 3)
    assert list(cases)[-1] == "10"
    np.testing.assert_array_equal(cases["07"].image[0], volume[7])
    np.testing.assert_array_equal(cases["07"].instances, labels[7])
    tifffile.imwrite(folder / "labels-instances.tif", labels[:5], photometric="minisblack")
    result = invoke("stacks", "-o", "other")
    assert isinstance(result.exception, DataError)
    assert "labels-instances.tif: has 5 pages, but volume.tif has 11" in str(result.exception)


@pytest.mark.parametrize(("wish", "channels"), [("auto", 3), ("rgb", 3), ("grey", 1)])
def test_grey_and_coloured_images_get_the_same_channels(invoke, bowl, publish, tmp_path, wish, channels):
    colours = publish("c", [square(2, 2)], colour=True)
    summary_of(invoke("nuclei", "-o", "out", "--channels", wish, "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert len(manifest.channels) == channels
    assert {len(case.image) for case in cases.values()} == {channels}
    np.testing.assert_array_equal(cases["b"].image[-1], bowl["b"][..., 0])
    brightness = np.rint(colours @ np.array([0.299, 0.587, 0.114]))
    expected = np.moveaxis(colours, 2, 0) if channels == 3 else brightness[None]
    assert np.abs(cases["c"].image - expected.astype(int)).max() <= (channels == 1)


@pytest.mark.usefixtures("bowl")
def test_bad_masks_are_named_and_the_image_left_out_or_mended(invoke, publish, tmp_path):
    publish("empty", [square(1, 1), np.zeros(SIZE, np.uint8)])
    publish("other-size", [square(1, 1, size=(12, 17))])
    publish("overlap", [square(1, 1), square(2, 2)])
    publish("no-masks", [])
    publish("transparent", [square(1, 1)], alpha=7)
    publish("blurred", [square(1, 1)])
    masks = tmp_path / "nuclei/stage1_train/blurred/masks"
    assert cv2.imwrite(str(masks / "0.jpg"), square(1, 1))
    (masks / "0.jpg").rename(masks / "0.png")
    (tmp_path / "nuclei/stage1_train/test-part/images").mkdir(parents=True)
    write_png(tmp_path / "nuclei/stage1_train/test-part/images/x.png", np.eye(9, dtype=np.uint8))
    summary = summary_of(invoke("nuclei", "-o", "out", "--json"))
    reasons = {each["case"]: each["reason"] for each in summary["skipped"]}
    assert set(reasons) == {"other-size", "no-masks", "test-part", "blurred"}
    assert "0.png: is a JPEG, but a mask must hold exactly the values" in reasons["blurred"]
    assert "the mask is 12 x 17 px, but its image is 12 x 16 px" in reasons["other-size"]
    assert "is empty" in reasons["no-masks"]
    assert "there is no folder masks beside its folder" in reasons["test-part"]
    told = "\n".join(summary["warnings"])
    assert "1.png: the mask is empty, and left out" in told
    assert "1.png: 4 of 9 px are in the masks before it, which keep them" in told
    assert "is transparent in places" in told
    _, cases = cases_of(tmp_path / "out")
    assert np.bincount(cases["overlap"].instances.ravel()).tolist() == [12 * 16 - 14, 9, 5]
    strict = invoke("nuclei", "-o", "strict", "--strict")
    assert isinstance(strict.exception, DataError)
    assert "4 of 10 images cannot be used" in str(strict.exception)


def test_what_holds_no_nuclei_is_told_what_was_looked_for(invoke, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    for source, told in (("nowhere", "no such folder"), ("other/notes.txt", "is a file"), ("other", "found notes.txt")):
        result = invoke(source, "-o", "out")
        assert isinstance(result.exception, DataError)
        assert told in str(result.exception)
        assert "labels-instances.tif" in str(result.exception)


@pytest.mark.usefixtures("bowl")
def test_folds_and_a_number_of_validation_cases_exclude_each_other(invoke):
    both = invoke("nuclei", "-o", "out", "--folds", 2, "--validation", 1)
    assert isinstance(both.exception, ConfigError)
    assert "--folds 2, --validation 1" in str(both.exception)
    many = invoke("nuclei", "-o", "out", "--validation", 3)
    assert isinstance(many.exception, ConfigError)
    assert "--validation 3: the number of validation cases must be in [1, 2]" in str(many.exception)


def test_the_real_bowl_is_prepared_whole(real_data, tmp_path):
    def prepare(source, name, *options):
        arguments = ["nuclei", str(source), "-o", str(tmp_path / name), "--json", *options]
        return summary_of(CliRunner().invoke(app, arguments))

    summary = prepare(real_data / "dsb2018", "published")
    assert (summary["cases"], summary["objects"], summary["skipped"]) == (32, 876, [])
    summary = prepare(real_data / "dsb2018" / "fluo256", "stacks", "--validation", "20")
    assert (summary["cases"], summary["folds"][0]["train"], summary["channels"]) == (80, 60, ["grey"])
