"""`unet prepare folder`: how images and masks find each other, in two dimensions and three."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import nibabel
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.data.manifest import load_manifest, load_split
from unetcli.errors import ConfigError, DataError


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare folder` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["folder", *(str(argument) for argument in arguments)])


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        assert cv2.imwrite(str(path), array)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        nibabel.Nifti1Image(array.T, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)


@pytest.fixture
def draw(tmp_path, rng):
    """Write an image and its mask below `source`, and return both."""

    def draw(image, mask, size=(6, 7), values=(0, 255), dtype=np.uint8):
        pixels = rng.integers(0, 255, size).astype(dtype)
        labels = rng.choice(np.array(values, np.uint8), size[:2] if image.endswith(".png") else size)
        labels.flat[: len(values)] = values
        write(tmp_path / "source" / image, pixels)
        write(tmp_path / "source" / mask, labels)
        return pixels, labels

    return draw


def summary_of(result):
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "labels/{}.png"),
        ("images/{}.tif", "masks/{}.png"),
        ("image/{}.png", "seg/{}_mask.png"),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png"),
        ("images/img_{}.png", "masks/mask_{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}_image.png", "{}_seg.png"),
        ("sub/{}.png", "sub/{}-label.png"),
    ],
)
def test_pairs_are_found_by_their_names(invoke, draw, tmp_path, image, mask):
    drawn = {name: draw(image.format(name), mask.format(name)) for name in ("a2", "a10", "b")}

    result = invoke("source", "--json")

    summary = summary_of(result)
    ids = [pair["case"].removeprefix("sub_") for pair in summary["pairs"]]
    assert ids == ["a2", "a10", "b"]
    assert [pair["mask"] for pair in summary["pairs"]] == [mask.format(name) for name in ids]
    folder = tmp_path / "datasets" / "source"
    manifest = load_manifest(folder)
    assert (manifest.kind, manifest.num_axes, manifest.class_names) == ("folder", 2, ("background", "foreground"))
    for case in sum(load_split(folder, manifest, 0), ()):
        pixels, labels = drawn[case.id.removeprefix("sub_")]
        np.testing.assert_array_equal(case.image[0], pixels)
        np.testing.assert_array_equal(case.labels, labels == 255)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("scan-*", "drawn/*-by-hand*"),
        ("scan-*.png", "drawn/*-by-hand.png"),
        ("*.png", "drawn/*.png"),
        ("**/scan-*.png", "drawn/**/*-by-hand.png"),
    ],
)
def test_patterns_pair_by_what_their_stars_stand_for(invoke, draw, images, masks):
    for name in ("x", "y"):
        draw(f"scan-{name}.png", f"drawn/{name}-by-hand.png")
    if images == "*.png":
        for name in ("x", "y"):
            draw(f"scan-{name}.png", f"drawn/scan-{name}.png")
    summary = summary_of(invoke("source", "--images", images, "--masks", masks, "--json"))
    names = ("scan-x", "scan-y") if images == "*.png" else ("x", "y")
    assert [pair["case"] for pair in summary["pairs"]] == list(names)


def test_what_has_no_partner_is_listed_and_an_error_under_strict(invoke, draw, tmp_path):
    for name in ("a", "b", "c"):
        draw(f"images/{name}.png", f"labels/{name}.png")
    (tmp_path / "source" / "labels" / "c.png").rename(tmp_path / "source" / "labels" / "d.png")

    strict = invoke("source", "--strict")
    result = invoke("source")

    assert isinstance(strict.exception, DataError)
    assert "images/c.png: has no mask" in str(strict.exception)
    assert result.exit_code == 0
    assert "images/c.png" in result.stdout
    assert "has no image" in result.stdout
    assert "cases         2, and 2 skipped" in result.stdout


def test_classes_come_from_the_values_or_from_labels(invoke, draw):
    for name in ("a", "b"):
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 1, 2, 3))
    summary = summary_of(invoke("source", "--dry-run", "--json"))
    assert [info["name"] for info in summary["classes"]] == ["background", "class_1", "class_2", "class_3"]
    assert not summary["written"]

    for name in ("a", "b"):
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 50, 200))
    refused = invoke("source")
    assert isinstance(refused.exception, DataError)
    assert "50 (" in str(refused.exception)
    assert "--label" in refused.exception.hint
    options = ("--label", "50=left_eye", "--label", "200=right_eye")
    summary = summary_of(invoke("source", *options, "--json"))
    assert [(info["name"], info["source_values"], info["mirror_of"]) for info in summary["classes"]] == [
        ("background", [0], None),
        ("left_eye", [50], "right_eye"),
        ("right_eye", [200], "left_eye"),
    ]


def test_interpolated_greys_are_refused_with_what_was_found(invoke, draw):
    for name in ("a", "b"):
        draw(f"{name}.png", f"{name}_mask.png", values=(0, 255, 128, 64))
    result = invoke("source")
    assert isinstance(result.exception, DataError)
    assert "source: the masks hold 0 (" in str(result.exception)
    assert "64 (" in str(result.exception)
    assert "neither 0 and one other nor 0, 1, 2" in str(result.exception)


@pytest.mark.parametrize(
    ("place", "content", "told"),
    [
        ("masks", np.zeros((3, 3), np.uint8), "is 3 x 3 px, but its image is 6 x 7 px"),
        ("images", np.full((6, 7), 9, np.uint8), "the image is 9 everywhere"),
        ("masks", np.eye(6, 7, dtype=np.uint8)[..., None] * [1, 2, 3], "the mask has colours"),
        ("images", b"\x89PNG\r\n\x1a\n", "c.png"),
        ("images", "a.png", "its image is the same as that of a"),
    ],
)
def test_a_case_that_cannot_be_used_is_skipped_with_the_reason(invoke, draw, tmp_path, place, content, told):
    for name in ("a", "b", "c"):
        draw(f"images/{name}.png", f"masks/{name}.png")
    path = tmp_path / "source" / place / "c.png"
    if isinstance(content, np.ndarray):
        write(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.with_name(content).read_bytes())
    summary = summary_of(invoke("source", "--json"))
    ((case, reason),) = [(each["case"], each["reason"]) for each in summary["skipped"]]
    assert (case, summary["cases"]) == ("c", 2)
    assert told in reason


def test_colour_among_grey_makes_all_colour(invoke, draw, tmp_path):
    draw("a.png", "a_mask.png")
    pixels, _ = draw("b.png", "b_mask.png", size=(6, 7, 3))
    assert summary_of(invoke("source", "--json"))["channels"] == ["red", "green", "blue"]
    folder = tmp_path / "datasets" / "source"
    manifest = load_manifest(folder)
    cases = {case.id: case for case in sum(load_split(folder, manifest, 0), ())}
    assert cases["a"].image.shape == (3, 6, 7)
    np.testing.assert_array_equal(cases["b"].image, pixels[..., ::-1].transpose(2, 0, 1))


def test_cases_of_one_patient_are_never_parted(invoke, draw, tmp_path):
    for patient in range(4):
        for visit in range(patient + 1):
            draw(f"p{patient}_v{visit}.png", f"p{patient}_v{visit}_mask.png")
    assert invoke("source", "--group-by", r"^(p\d)_", "--folds", 4).exit_code == 0
    manifest = load_manifest(tmp_path / "datasets" / "source")
    assert [case.group for case in manifest.cases] == ["p0", "p1", "p1", "p2", "p2", "p2", "p3", "p3", "p3", "p3"]
    validated = sorted(sorted({name[:2] for name in split.validation}) for split in manifest.splits)
    assert validated == [["p0"], ["p1"], ["p2"], ["p3"]]


def test_pages_of_a_file_stay_together_and_those_of_a_single_file_in_blocks(invoke, draw, tmp_path):
    draw("a.tif", "a_mask.tif", size=(4, 6, 7))
    assert invoke("source", "--folds", 2).exit_code == 0
    manifest = load_manifest(tmp_path / "datasets" / "source")
    assert manifest.split_method == "block"
    assert manifest.splits[0].validation == ("a-0", "a-1")
    draw("b.tif", "b_mask.tif", size=(3, 6, 7))
    assert invoke("source", "--overwrite").exit_code == 0
    manifest = load_manifest(tmp_path / "datasets" / "source")
    assert {split.validation for split in manifest.splits} == {
        ("a-0", "a-1", "a-2", "a-3"),
        ("b-0", "b-1", "b-2"),
    }


def test_stacks_are_volumes_where_asked(invoke, draw, tmp_path):
    drawn = {name: draw(f"{name}.tif", f"{name}_mask.tif", size=(4, 6, 7)) for name in "ab"}
    result = invoke("source", "--volumes", "--json")
    assert "do not tell the size of their voxels" in summary_of(result)["warnings"][0]
    folder = tmp_path / "datasets" / "source"
    manifest = load_manifest(folder)
    assert (manifest.num_axes, manifest.spacing) == (3, (1.0, 1.0, 1.0))
    (case,) = load_split(folder, manifest, 0)[1]
    np.testing.assert_array_equal(case.image[0], drawn[case.id][0])
    np.testing.assert_array_equal(case.labels, drawn[case.id][1] == 255)


def test_volumes_of_any_format_are_told_from_images(invoke, draw, tmp_path):
    for name in ("a", "b", "c"):
        draw(f"images/{name}.nii.gz", f"labels/{name}.nii", size=(4, 6, 7), values=(0, 1, 2), dtype=np.int16)
    summary = summary_of(invoke("source", "--json", "--spacing", 2, 2, 2, "--compress"))
    assert summary["size"]["median"] == [4, 3, 4]
    assert summary["pairs"][0] == {"case": "a", "image": "images/a.nii.gz", "mask": "labels/a.nii"}
    manifest = load_manifest(tmp_path / "datasets" / "source")
    assert manifest.spacing == (2.0, 2.0, 2.0)
    assert manifest.class_names == ("background", "class_1", "class_2")
    draw("images/d.png", "labels/d.png")
    mixed = invoke("source", "--overwrite")
    assert isinstance(mixed.exception, DataError)
    assert "a dataset is of one kind" in str(mixed.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("--images", "*.png"), ConfigError, "one is no use without the other"),
        (("--images", "/*.png", "--masks", "*.tif"), ConfigError, "is no pattern within"),
        (("--images", "*.jpg", "--masks", "*_mask.png"), DataError, "holds no images"),
        (("--group-by", "("), ConfigError, "is no regular expression"),
        (("--group-by", "patient"), ConfigError, "matches no name"),
        (("--label", "one=a"), ConfigError, "must be VALUE=NAME"),
        (("--label", "1=a", "--label", "1=b"), ConfigError, "given twice"),
        (("--spacing", 1, 1, 1), ConfigError, "--spacing: is for volumes"),
        (("--folds", 9), ConfigError, "--folds 9: the number of folds must be in [2, 2]"),
    ],
)
def test_options_that_cannot_be_are_refused(invoke, draw, arguments, kind, told):
    for name in ("a", "b"):
        draw(f"{name}.png", f"{name}_mask.png")
    result = invoke("source", *arguments)
    assert isinstance(result.exception, kind)
    assert told in str(result.exception)


def test_a_folder_without_images_or_pairs_says_what_it_holds(invoke, draw, tmp_path):
    missing = invoke("source")
    assert isinstance(missing.exception, DataError)
    assert "source: no such folder" in str(missing.exception)
    draw("images/a.png", "labels/b.png")
    unpaired = invoke("source")
    assert "no image and mask agree in their names, such as a.png and b.png" in str(unpaired.exception)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in str(invoke("empty").exception)


def test_nothing_is_written_in_a_dry_run_and_no_mindspore_is_loaded(draw, tmp_path):
    for name in ("a", "b"):
        draw(f"{name}.png", f"{name}_mask.png")
    code = (
        "import sys; from typer.testing import CliRunner; from unetcli.cli.prepare import app;"
        "result = CliRunner().invoke(app, ['folder', 'source', '--dry-run']);"
        "sys.exit(result.exit_code or 'mindspore' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_named_class_that_no_mask_holds_is_told(invoke, draw):
    for name in "ab":
        draw(f"{name}.png", f"{name}_mask.png")
    summary = summary_of(invoke("source", "--label", "255=cell", "--label", "7=nucleus", "--json"))
    assert summary["warnings"] == ["no pixel is of 1 class: nucleus"]
