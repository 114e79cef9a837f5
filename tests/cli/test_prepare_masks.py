"""`unet prepare folder`: the model zoo's layouts, and masks with palettes, colours and values that are told."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.core.weight_map import balanced_weights, border_weights
from unetcli.data.manifest import load_cases, load_manifest
from unetcli.errors import ConfigError, DataError

SIZE = (6, 7)
COLOURS = [(0, 0, 0), (255, 0, 0), (0, 128, 0), (9, 9, 200)]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare folder` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["folder", *(str(argument) for argument in arguments)])


@pytest.fixture
def draw(tmp_path, rng):
    """Write an image, and a mask by a function of its path; returns the indices that are in the mask."""

    def draw(image, mask, write=None, *, values=(0, 255), colour=False):
        pixels = rng.integers(0, 255, (*SIZE, 3) if colour else SIZE, dtype=np.uint8)
        indices = rng.choice(len(values), SIZE).astype(np.uint8)
        indices.flat[: len(values)] = range(len(values))
        for name, content in ((image, pixels), (mask, np.array(values, np.uint8)[indices])):
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), content)
        if write:
            write(tmp_path / "source" / mask, indices)
        return indices

    return draw


def with_palette(path, indices, *, colours=COLOURS, bits=8):
    image = Image.fromarray(indices, "P")
    image.putpalette([number for colour in colours for number in colour])
    image.save(path, bits=bits)


def as_tif(path, indices, *, colours=COLOURS):
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(colours)] = np.array(colours, np.uint16).T * 257
    tifffile.imwrite(path, indices, photometric="palette", colormap=table)


def in_colour(path, indices):
    assert cv2.imwrite(str(path), np.array(COLOURS, np.uint8)[indices][..., ::-1])


def summary_of(result):
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def cases_of(folder):
    manifest = load_manifest(folder)
    return manifest, {case.id: case for case in load_cases(folder, manifest, [each.id for each in manifest.cases])}


@pytest.mark.parametrize("colour", [False, True])
def test_the_zoo_layout_has_a_folder_for_each_image(invoke, draw, tmp_path, colour):
    drawn = {name: draw(f"{name}/image.png", f"{name}/mask.png", colour=colour) for name in ("c10", "c9", "x")}
    (tmp_path / "source" / "x" / "mask.png").unlink()
    summary = summary_of(invoke("source", "--json"))
    assert [pair["case"] for pair in summary["pairs"]] == ["c9", "c10"]
    assert (summary["skipped"], len(summary["channels"])) == (
        [{"case": "x/image.png", "reason": "has no mask"}],
        3 if colour else 1,
    )
    _, cases = cases_of(tmp_path / "datasets" / "source")
    for name, case in cases.items():
        np.testing.assert_array_equal(case.labels, drawn[name])


def test_images_may_be_jpeg_and_their_masks_png(invoke, draw, tmp_path):
    drawn = {name: draw(f"images/{name}", f"masks/{Path(name).stem}.png", colour=True) for name in ("a.jpg", "b.JPEG")}
    summary = summary_of(invoke("source", "--json"))
    assert (summary["channels"], summary["skipped"]) == (["red", "green", "blue"], [])
    _, cases = cases_of(tmp_path / "datasets" / "source")
    for name, indices in drawn.items():
        decoded = cv2.imread(str(tmp_path / "source" / "images" / name))[..., ::-1]
        np.testing.assert_array_equal(cases[Path(name).stem].image, np.moveaxis(decoded, 2, 0))
        np.testing.assert_array_equal(cases[Path(name).stem].labels, indices)


@pytest.mark.parametrize("options", [(), ("--label-map", "255=1"), ("--label", "255=cell"), ("--dry-run",)])
@pytest.mark.parametrize("name", ["b.jpg", "b.png"])
def test_a_mask_that_is_a_jpeg_is_refused_whatever_is_told_of_it(invoke, draw, tmp_path, name, options):
    draw("images/a.jpg", "masks/a.png")
    draw("images/b.png", "masks/b.jpg")
    (tmp_path / "source" / "masks" / "b.jpg").rename(tmp_path / "source" / "masks" / name)
    result = invoke("source", *options)
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith(f"source/masks/{name}: is a JPEG, but a mask must hold exactly the values")
    assert result.exception.hint.startswith("save it as PNG or TIF")


def test_a_jpeg_beside_an_image_of_its_name_is_only_to_look_at(invoke, draw, tmp_path):
    for name in "ab":
        draw(f"images/{name}.jpg", f"masks/{name}.jpg")
        draw(f"images/{name}.png", f"masks/{name}.png")
    summary = summary_of(invoke("source", "--json"))
    assert [pair["image"] for pair in summary["pairs"]] == ["images/a.png", "images/b.png"]
    assert [pair["mask"] for pair in summary["pairs"]] == ["masks/a.png", "masks/b.png"]
    assert summary["skipped"] == []
    told = "passed over for files of the same name that are none, such as images/a.jpg beside images/a.png"
    assert summary["warnings"] == [f"source: 4 JPEGs are {told}"]
    for name in ("images/b.jpg", "masks/a.jpg", "masks/b.jpg"):
        (tmp_path / "source" / name).unlink()
    assert summary_of(invoke("source", "-o", "other", "--json"))["warnings"] == [f"source: 1 JPEG is {told}"]


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
@pytest.mark.parametrize(("image", "mask"), [("{}/image.png", "{}/mask.png"), ("images/{}.png", "masks/{}.png")])
def test_folders_train_and_val_say_what_validates(invoke, draw, tmp_path, validation, image, mask):
    for part, names in (("train", ("a", "b")), (validation, ("c",))):
        for name in names:
            draw(f"{part}/{image.format(name)}", f"{part}/{mask.format(name)}")
    assert summary_of(invoke("source", "--json"))["split"] == "published"
    manifest = load_manifest(tmp_path / "datasets" / "source")
    assert [(split.train, split.validation) for split in manifest.splits] == [(("a", "b"), ("c",))]
    drawn = summary_of(invoke("source", "--folds", 3, "--overwrite", "--json"))
    assert (drawn["split"], drawn["cases"], len(drawn["folds"])) == ("random", 3, 3)
    draw(f"{validation}/{image.format('a')}", f"{validation}/{mask.format('a')}")
    shared = summary_of(invoke("source", "--dry-run", "--json"))
    assert shared["folds"][0]["validation"] == [f"{validation}_a", f"{validation}_c"]
    for path in (tmp_path / "source" / validation).rglob("*.png"):
        path.unlink()
    empty = invoke("source", "-o", "other")
    assert isinstance(empty.exception, DataError)
    assert f"source/{validation}: holds no images" in str(empty.exception)


@pytest.mark.parametrize(
    ("ending", "write"),
    [("tif", as_tif), *(("png", partial(with_palette, bits=bits)) for bits in (2, 4, 8))],
    ids=["tif", "png-2", "png-4", "png-8"],
)
def test_a_palette_of_colours_has_its_indices_for_values(invoke, draw, tmp_path, ending, write):
    drawn = {name: draw(f"{name}.png", f"{name}_mask.{ending}", write, values=range(4)) for name in "ab"}
    summary = summary_of(invoke("source", "--json"))
    assert summary["warnings"] == [
        "masks have a palette, whose indices are taken for values: 0 #000000, 1 #ff0000, 2 #008000, 3 #0909c8"
    ]
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert manifest.num_classes == 4
    for name, case in cases.items():
        np.testing.assert_array_equal(case.labels, drawn[name])


@pytest.mark.parametrize("told", [{}, {"#ff0000": 2, "#008000": 3, "#0909c8": 1}])
def test_each_page_of_a_tif_has_its_indices_for_values_or_its_colours_if_they_are_told(
    invoke, draw, tmp_path, rng, told
):
    for name in "ab":
        draw(f"{name}.tif", f"{name}_mask.tif")
        pixels = rng.integers(0, 255, (3, *SIZE), dtype=np.uint8)
        tifffile.imwrite(tmp_path / "source" / f"{name}.tif", pixels, photometric="minisblack")
        indices = np.stack([(np.arange(42).reshape(SIZE) + page) % 4 for page in range(3)]).astype(np.uint8)
        as_tif(tmp_path / "source" / f"{name}_mask.tif", indices)
    options = [text for colour, index in told.items() for text in ("--label-map", f"{colour}={index}")]
    summary_of(invoke("source", *options, "--json"))
    _, cases = cases_of(tmp_path / "datasets" / "source")
    for page in range(3):
        expected = np.array([0, *(told.values() or (1, 2, 3))])[indices[page]]
        np.testing.assert_array_equal(cases[f"a-{page}"].labels, expected)


def test_a_palette_of_colours_is_refused_in_volumes(invoke, draw):
    for name in "ab":
        draw(f"{name}.tif", f"{name}_mask.tif", as_tif, values=range(4))
    result = invoke("source", "--volumes", "--label", "1=cell")
    assert isinstance(result.exception, DataError)
    assert "a_mask.tif: labels have 3 channels, as a palette of colours has, but must have 1" in str(result.exception)


@pytest.mark.parametrize(("ending", "write"), [("tif", as_tif), ("png", with_palette)])
def test_a_mask_that_uses_only_the_greys_of_a_palette_has_its_indices_too(invoke, draw, tmp_path, ending, write):
    """As the class `car` has in Pascal VOC, whose colour is a grey."""
    colours = [(0, 0, 0), (255, 0, 0), (128, 128, 128)]
    writes = partial(write, colours=colours)
    draw("a.png", f"a_mask.{ending}", writes, values=range(3))
    draw("b.png", f"b_mask.{ending}", lambda path, indices: writes(path, indices * 2), values=range(2))
    summary_of(invoke("source", "--json"))
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert [info.source_values for info in manifest.classes] == [(0,), (1,), (2,)]
    assert set(np.unique(cases["b"].labels)) == {0, 2}


@pytest.mark.parametrize(("ending", "write"), [("tif", as_tif), ("png", with_palette)])
def test_palettes_that_differ_between_masks_are_told(invoke, draw, ending, write):
    draw("a.png", f"a_mask.{ending}", write, values=range(4))
    other = [COLOURS[0], COLOURS[2], COLOURS[1], COLOURS[3]]
    draw("b.png", f"b_mask.{ending}", partial(write, colours=other), values=range(4))
    (warning,) = summary_of(invoke("source", "--json"))["warnings"]
    assert "1 #ff0000 or #008000" in warning
    assert "not all have the same colours" in warning


@pytest.mark.parametrize(("ending", "write"), [("tif", as_tif), ("png", with_palette)])
def test_indices_of_one_colour_are_told(invoke, draw, ending, write):
    same = [COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[1]]
    draw("a.png", f"a_mask.{ending}", partial(write, colours=same), values=range(4))
    draw("b.png", f"b_mask.{ending}", write, values=range(3))
    warnings = summary_of(invoke("source", "--json"))["warnings"]
    assert warnings[1:] == ["1 and 3 have one colour, #ff0000, so look whether they are one class"]


@pytest.mark.parametrize(("ending", "write"), [("tif", as_tif), ("png", with_palette)])
def test_a_palette_of_greys_has_them_for_values_whatever_its_order(invoke, draw, tmp_path, ending, write):
    greys = [(255,) * 3, (0,) * 3]
    drawn = {name: draw(f"{name}.png", f"{name}_mask.{ending}", partial(write, colours=greys)) for name in "ab"}
    assert summary_of(invoke("source", "--json"))["warnings"] == []
    _, cases = cases_of(tmp_path / "datasets" / "source")
    np.testing.assert_array_equal(cases["a"].labels, 1 - drawn["a"])


def test_values_and_palettes_may_hold_pixels_to_ignore(invoke, draw, tmp_path):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 1, 255))
    refused = invoke("source")
    assert isinstance(refused.exception, DataError)
    summary_of(invoke("source", "--label", "1=cell", "--label", "255=ignore", "--json"))
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert (manifest.has_ignored, manifest.class_names) == (True, ("background", "cell"))
    assert set(np.unique(cases["a"].labels)) == {0, 1, 255}


def test_a_label_map_merges_values_into_classes(invoke, draw, tmp_path):
    drawn = {name: draw(f"{name}.png", f"{name}_mask.png", values=(0, 50, 60, 200, 9)) for name in "ab"}
    told = ("50=1", "60=1", "200=2", "9=255")
    options = [text for entry in told for text in ("--label-map", entry)]
    summary = summary_of(invoke("source", *options, "--label", "2=nucleus", "--json"))
    assert [(info["name"], info["source_values"]) for info in summary["classes"]] == [
        ("background", [0]),
        ("class_1", [50, 60]),
        ("nucleus", [200]),
    ]
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert manifest.has_ignored
    np.testing.assert_array_equal(cases["a"].labels, np.array([0, 1, 1, 2, 255])[drawn["a"]])


def test_the_value_255_may_become_1_and_is_called_foreground(invoke, draw):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png")
    summary = summary_of(invoke("source", "--label-map", "255=1", "--json"))
    assert [(info["name"], info["source_values"]) for info in summary["classes"]] == [
        ("background", [0]),
        ("foreground", [255]),
    ]


def test_colours_are_classes_where_they_are_told_and_refused_by_name_where_not(invoke, draw, tmp_path):
    drawn = {name: draw(f"{name}.png", f"{name}_mask.png", in_colour, values=range(4)) for name in "ab"}
    refused = invoke("source")
    assert isinstance(refused.exception, DataError)
    assert "a_mask.png: the mask has colours, #" in str(refused.exception)
    assert "--label-map" in refused.exception.hint
    assert "#ff0000 (" in str(refused.exception)
    told = ("#ff0000=1", "#008000=2")
    options = [text for entry in told for text in ("--label-map", entry)]
    incomplete = invoke("source", *options)
    assert "the mask has #0909c8 (" in str(incomplete.exception)
    assert "which --label-map does not tell" in str(incomplete.exception)
    summary = summary_of(invoke("source", *options, "--label-map", "#0909C8=255", "--label", "1=wall", "--json"))
    assert [(info["name"], info["source_values"]) for info in summary["classes"]] == [
        ("background", [0]),
        ("wall", [1]),
        ("class_2", [2]),
    ]
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert manifest.has_ignored
    for name, case in cases.items():
        np.testing.assert_array_equal(case.labels, np.array([0, 1, 2, 255])[drawn[name]])


def test_values_of_which_nothing_is_told_are_one_error(invoke, draw):
    for name in "abc":
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 7, 255))
    for option, becomes, hint in (
        ("--label-map", "300=1", "--label-map 7=1, or 7=255 for pixels to ignore"),
        ("--label", "300=cell", "--label 7=NAME, or 7=ignore for pixels to ignore"),
    ):
        result = invoke("source", option, becomes)
        assert isinstance(result.exception, DataError)
        found = re.fullmatch(
            r"source: the masks hold 7 .*, 255 .*, which (.*) does not tell; .*", str(result.exception)
        )
        assert found[1] == option
        assert str(result.exception).endswith("it tells of 0, 300")
        assert result.exception.hint.endswith(hint)


def test_what_is_told_of_a_value_or_colour_that_no_mask_holds_is_warned_of(invoke, draw):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png")
    assert summary_of(invoke("source", "--label-map", "255=1", "--label-map", "7=2", "--json"))["warnings"] == [
        "no mask holds 7, of which --label-map tells; they hold the values 0, 255"
    ]
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png", in_colour, values=range(2))
    options = ("--label-map", "#ff0000=1", "--label-map", "#008000=2", "-o", "other", "--json")
    assert summary_of(invoke("source", *options))["warnings"] == ["no mask holds #008000, of which --label-map tells"]


def test_grey_masks_are_told_from_colours(invoke, draw):
    draw("a.png", "a_mask.png")
    result = invoke("source", "--label-map", "#ff0000=1")
    assert isinstance(result.exception, DataError)
    assert re.search(r"a_mask\.png: the mask has #ffffff \(\d+ px\), which --label-map does not", str(result.exception))
    assert result.exception.hint.endswith("or of grey masks the values, such as --label-map 255=1")


def test_a_name_for_no_class_of_the_map_is_refused(invoke, draw):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png")
    result = invoke("source", "--label-map", "255=1", "--label", "255=cell")
    assert isinstance(result.exception, ConfigError)
    assert "--label 255=cell: with --label-map, labels name the classes that values become, 0, 1" in str(
        result.exception
    )


def test_volumes_have_label_maps_and_parts_too(invoke, tmp_path, rng):
    for part, names in (("train", "ab"), ("val", "c")):
        for kind in ("images", "labels"):
            (tmp_path / "source" / part / kind).mkdir(parents=True)
        for name in names:
            image = rng.integers(-9, 99, (4, 5, 6)).astype(np.int16)
            labels = rng.choice(np.array([0, 7, 9, 250], np.uint8), (4, 5, 6))
            for kind, array in (("images", image), ("labels", labels)):
                path = tmp_path / "source" / part / kind / f"{name}.nii"
                nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)
    options = [text for entry in ("7=1", "9=1", "250=255") for text in ("--label-map", entry)]
    summary = summary_of(invoke("source", *options, "--json"))
    assert (summary["split"], summary["folds"]) == ("published", [{"train": 2, "validation": ["c"]}])
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    assert (manifest.has_ignored, manifest.classes[1].source_values) == (True, (7, 9))
    assert set(np.unique(cases["c"].labels)) == {0, 1, 255}
    refused = invoke("source", "-o", "other", "--label-map", "#ff0000=1")
    assert isinstance(refused.exception, ConfigError)
    assert "volumes have none" in str(refused.exception)


def test_the_pieces_of_a_class_are_weighed_as_its_cells(invoke, draw, tmp_path, rng):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 1, 2, 255))
    options = ("--label-map", "1=1", "--label-map", "2=2", "--label-map", "255=255", "--weight-map")
    assert summary_of(invoke("source", *options, "--json"))["weight_map"]["classes"] == "balanced"
    manifest, cases = cases_of(tmp_path / "datasets" / "source")
    balance = balanced_weights(sum(np.bincount(case.labels.flat, minlength=256)[:3] for case in cases.values()))
    for case in cases.values():
        first, num_first = ndimage.label(case.labels == 1)
        second, _ = ndimage.label(case.labels == 2)
        cells = np.where(second > 0, second + num_first, first)
        np.testing.assert_allclose(case.weights, border_weights(case.labels, cells, balance), rtol=1e-6)
    assert manifest.weight_map is not None
    nibabel.Nifti1Image(rng.random((4, 5, 6)), np.eye(4)).to_filename(tmp_path / "v.nii")
    nibabel.Nifti1Image(np.eye(5)[None].astype(np.uint8), np.eye(4)).to_filename(tmp_path / "v_mask.nii")
    refused = invoke(tmp_path, "--images", "v.nii", "--masks", "v_mask.nii", "--weight-map")
    assert isinstance(refused.exception, ConfigError)
    assert "--weight-map: is for images" in str(refused.exception)


def test_the_pages_of_a_single_stack_validate_on_the_last(invoke, tmp_path, rng):
    (tmp_path / "source").mkdir()
    tifffile.imwrite(tmp_path / "source" / "a.tif", rng.integers(0, 255, (5, 6, 7), dtype=np.uint8))
    tifffile.imwrite(tmp_path / "source" / "a_mask.tif", rng.integers(0, 2, (5, 6, 7), dtype=np.uint8))
    summary = summary_of(invoke("source", "--validation", 2, "--json"))
    assert (summary["split"], summary["folds"]) == ("block", [{"train": 3, "validation": ["a-3", "a-4"]}])


def test_the_bowl_as_published_is_sent_to_its_own_command(invoke, draw):
    draw("x/images/x.png", "x/masks/1.png")
    result = invoke("source")
    assert isinstance(result.exception, DataError)
    assert result.exception.hint == "prepare them with: unet prepare nuclei"
