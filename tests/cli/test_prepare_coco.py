"""`unet prepare coco`: outlines of every form, overlaps, crowds, and what is said of files that do not fit."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.data.manifest import load_cases, load_manifest, load_split
from unetcli.data.sources.coco import CocoObject
from unetcli.data.sources.coco_masks import draw_outline
from unetcli.errors import ConfigError, DataError

HEIGHT, WIDTH = 12, 16
CATEGORIES = [{"id": 90, "name": "tooth brush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare coco` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["coco", *(str(argument) for argument in arguments)])


def box(top, left, height, width):
    """A rectangle as a polygon: x and y of its corners."""
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def pixels_of(top, left, height, width):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def compressed(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


def uncompressed(mask):
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat.astype(int))) + 1
    lengths = np.diff([0, *changes, flat.size]).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": lengths if not flat[0] else [0, *lengths]}


@pytest.fixture
def publish(tmp_path, rng):
    """Write images and an annotation file of `{name: [(category, outline, is_crowd), ...]}`."""

    def publish(name, content, *, folder="images", suffix=".png", categories=CATEGORIES):
        (tmp_path / folder).mkdir(exist_ok=True)
        images, annotations, drawn = [], [], {}
        for number, (image, objects) in enumerate(content.items(), 1):
            drawn[image] = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / folder / f"{image}{suffix}"), drawn[image][..., ::-1])
            images.append({"id": number, "file_name": f"{image}{suffix}", "height": HEIGHT, "width": WIDTH})
            for category, outline, *crowd in objects:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "segmentation": outline,
                        "iscrowd": int(bool(crowd and crowd[0])),
                    }
                )
        value = {"images": images, "annotations": annotations, "categories": categories}
        (tmp_path / name).write_text(json.dumps(value))
        return drawn

    return publish


def summary_of(result):
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def cases_of(folder):
    manifest = load_manifest(folder)
    return manifest, {case.id: case for case in load_cases(folder, manifest, [each.id for each in manifest.cases])}


def test_outlines_of_every_form_are_drawn(invoke, publish, tmp_path):
    first, second = pixels_of(1, 2, 4, 3), pixels_of(7, 9, 3, 5)
    drawn = publish(
        "a.json",
        {
            "polygons": [(1, [box(1, 2, 4, 3)]), (18, [box(7, 9, 3, 5)])],
            "compressed": [(1, compressed(first)), (18, compressed(second))],
            "lengths": [(1, uncompressed(first)), (18, uncompressed(second))],
            "two-parts": [(1, [box(1, 2, 4, 3), box(7, 9, 3, 5)])],
        },
    )
    summary = summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert manifest.class_names == ("background", "person", "dog", "tooth brush")
    assert [info.source_values for info in manifest.classes] == [(0,), (1,), (18,), (90,)]
    assert (manifest.kind, manifest.has_instances, manifest.has_ignored) == ("coco", True, False)
    assert (summary["objects"], summary["channels"]) == (7, ["red", "green", "blue"])
    for name in ("polygons", "compressed", "lengths"):
        np.testing.assert_array_equal(cases[name].labels, first * 1 + second * 2)
        np.testing.assert_array_equal(cases[name].instances, first * 1 + second * 2)
        np.testing.assert_array_equal(cases[name].image, np.moveaxis(drawn[name], 2, 0))
    np.testing.assert_array_equal(cases["two-parts"].instances, (first | second) * 1)


def test_the_smaller_of_two_objects_is_in_front_whatever_their_order(invoke, publish, tmp_path):
    large, small = (1, [box(2, 2, 8, 10)]), (18, [box(4, 4, 3, 3)])
    publish("a.json", {"large-first": [large, small], "small-first": [small, large]})
    summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    _, cases = cases_of(tmp_path / "out")
    expected = pixels_of(2, 2, 8, 10) * 1 + pixels_of(4, 4, 3, 3)
    for case in cases.values():
        np.testing.assert_array_equal(case.labels, expected)


@pytest.mark.parametrize(("wish", "value"), [("ignore", 255), ("background", 0)])
def test_crowds_are_ignored_or_background_but_where_an_object_is(invoke, publish, tmp_path, wish, value):
    crowd = (1, uncompressed(pixels_of(0, 0, 6, 16)), True)
    publish("a.json", {name: [crowd, (1, [box(2, 2, 8, 4)])] for name in ("x", "y")})
    summary_of(invoke("a.json", "images", "-o", "out", "--crowd", wish, "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert manifest.has_ignored == (wish == "ignore")
    person = pixels_of(2, 2, 8, 4)
    np.testing.assert_array_equal(cases["x"].labels, np.where(person, 1, pixels_of(0, 0, 6, 16) * value))
    np.testing.assert_array_equal(cases["x"].instances, 1 * person)


@pytest.mark.parametrize("name", ["background", "border", "ignore"])
def test_a_category_must_not_be_called_as_what_is_no_object(invoke, publish, name):
    publish("a.json", {"x": [(1, [box(1, 1, 3, 3)])]}, categories=[{"id": 1, "name": name}])
    refused = invoke("a.json", "images", "-o", "out")
    assert isinstance(refused.exception, ConfigError)
    assert f"a.json: a category is called '{name}'" in str(refused.exception)


def test_categories_are_chosen_by_name_and_images_without_them_left_out(invoke, publish, tmp_path):
    publish("a.json", {"x": [(1, [box(1, 1, 3, 3)])], "y": [(18, [box(1, 1, 3, 3)])], "z": [(18, [box(2, 2, 3, 3)])]})
    summary = summary_of(invoke("a.json", "images", "-o", "out", "--category", "dog", "--json"))
    manifest, cases = cases_of(tmp_path / "out")
    assert (manifest.class_names, list(cases)) == (("background", "dog"), ["y", "z"])
    assert "a.json: 1 image holds no object of the classes, and is left out" in summary["warnings"]
    kept = summary_of(invoke("a.json", "images", "-o", "all", "--category", "dog", "--keep-empty", "--json"))
    assert kept["cases"] == 3
    few = summary_of(invoke("a.json", "images", "-o", "few", "--limit", 2, "--dry-run", "--json"))
    assert few["cases"] == 2
    wrong = invoke("a.json", "images", "-o", "none", "--category", "dgo")
    assert isinstance(wrong.exception, ConfigError)
    assert "--category dgo" in str(wrong.exception)
    assert "did you mean 'dog'?" in wrong.exception.hint


def test_images_to_validate_on_may_be_published_apart(invoke, publish, tmp_path):
    publish("train.json", {"a": [(1, [box(1, 1, 3, 3)])], "b": [(18, [box(1, 1, 3, 3)])]})
    other = [{"id": 5, "name": "dog"}, {"id": 7, "name": "person"}, {"id": 8, "name": "tooth brush"}]
    publish("val.json", {"c": [(7, [box(1, 1, 3, 3)])]}, folder="val", categories=other)
    options = ("--validation-annotations", "val.json", "--validation-images", "val")
    summary = summary_of(invoke("train.json", "images", "-o", "out", *options, "--json"))
    assert summary["split"] == "published"
    manifest, cases = cases_of(tmp_path / "out")
    train, validation = load_split(tmp_path / "out", manifest, 0)
    assert ([case.id for case in train], [case.id for case in validation]) == (["a", "b"], ["c"])
    assert cases["c"].labels.max() == 1  # by the name of its category
    refused = invoke("train.json", "images", "-o", "other", *options, "--folds", 3)
    assert isinstance(refused.exception, ConfigError)
    publish("fewer.json", {"d": [(5, [box(1, 1, 3, 3)])]}, folder="val", categories=other[:1])
    refused = invoke("train.json", "images", "-o", "other", "--validation-annotations", "fewer.json")
    assert isinstance(refused.exception, DataError)
    assert "fewer.json: has no category person, tooth brush" in str(refused.exception)


def test_jpeg_is_read_as_it_is_stored(invoke, publish, tmp_path):
    publish("a.json", {name: [(1, [box(1, 1, 3, 3)])] for name in "xy"}, suffix=".jpg")
    summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    _, cases = cases_of(tmp_path / "out")
    decoded = cv2.imread(str(tmp_path / "images" / "x.jpg"))[..., ::-1]
    assert np.abs(np.moveaxis(cases["x"].image, 0, 2).astype(int) - decoded).max() <= 2


def test_what_cannot_be_used_is_named(invoke, publish, tmp_path):
    bad = {
        "lacks-corners": [[1, 1, 5, 5]],
        "odd": [[1, 1, 5, 5, 3, 8, 2]],
        "text": [["a"] * 6],
        "none": None,
        "empty": [],
        "short": {"size": [HEIGHT, WIDTH], "counts": [3, 4]},
        "long": {"size": [HEIGHT, WIDTH], "counts": [3, 400]},
        "negative": {"size": [HEIGHT, WIDTH], "counts": [-8, 200]},
        "garbage": {"size": [HEIGHT, WIDTH], "counts": "pppp"},
        "other-size": {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
    }
    good = (1, [box(1, 1, 3, 3)])
    publish("a.json", {name: [good, (1, outline)] for name, outline in bad.items()} | {"lost": [good], "cut": [good]})
    (tmp_path / "images" / "lost.png").unlink()
    assert cv2.imwrite(str(tmp_path / "images" / "cut.png"), np.eye(9, dtype=np.uint8))
    summary = summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    reasons = {each["case"]: each["reason"] for each in summary["skipped"]}
    assert set(reasons) == {"lost", "cut"}
    assert "no such file" in reasons["lost"]
    assert "is 9 x 9 px, but annotated as 12 x 16 px" in reasons["cut"]
    assert summary["objects"] == len(bad)
    assert sum("left out" in warning for warning in summary["warnings"]) == 5
    assert summary["warnings"][-2:] == ["and 5 more of this kind", "no pixel is of 2 classes: dog, tooth brush"]
    _, cases = cases_of(tmp_path / "out")
    for case in cases.values():
        np.testing.assert_array_equal(case.labels, pixels_of(1, 1, 3, 3) * 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "must have lists of images, annotations, categories, but holds a list"),
        ('{"images": [], "info": 1}', "but holds images, info"),
        (
            '{"images": [], "annotations": [], "categories": {"1": "a"}}',
            "must have lists of images, annotations, categories, but categories is no list: {'1': 'a'}",
        ),
        ('{"images": "x", "annotations": null, "categories": []}', "images is no list: 'x' and annotations is no list"),
        ('{"images": [3], "annotations": [], "categories": []}', r"images\[0\]: must be an object, found 3"),
        ('{"images": [], "annotations": [], "categories": [{"id": "a"}]}', r"categories\[0\]: id must be of type int"),
        (
            '{"images": [], "annotations": [{"category_id": 1, "image_id": 7}], "categories": []}',
            "annotations are of image 7, which the file has not",
        ),
    ],
)
def test_files_of_another_form_are_refused_with_the_entry(invoke, tmp_path, text, told):
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "images").mkdir()
    result = invoke("a.json", "images", "-o", "out")
    assert isinstance(result.exception, DataError)
    assert re.search(told, str(result.exception))


@pytest.mark.parametrize(
    ("polygon", "corner"),
    [
        ([-100, -100, 1e9, -100, 1e9, 1e9], "x -100, y -100"),
        ([10, 10, 14, 10, 14, -1e9], "x 14, y -1e+09"),
        ([10, 10, -3e7, 10, 14, 2], "x -3e+07, y 10"),
        ([10, 10, 14, 1e300, 14, 2], "x 14, y 1e+300"),
        ([10, 10, 14, 10, 33, 2], "x 33, y 2"),
    ],
)
def test_an_outline_that_leads_far_out_of_the_image_is_left_out(invoke, publish, tmp_path, polygon, corner):
    shape = [box(1, 1, 3, 3)]
    publish("a.json", {"x": [(1, shape), (1, [polygon])], "y": [(1, shape)]})
    assert summary_of(invoke("a.json", "images", "-o", "out", "--category", "person", "--json"))["warnings"] == [
        f"x.png: annotation 2: a corner of a polygon is at {corner}, which is more than 16 px out of the image of "
        "12 x 16 px; left out"
    ]
    _, cases = cases_of(tmp_path / "out")
    np.testing.assert_array_equal(cases["x"].labels, pixels_of(1, 1, 3, 3) * 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400])
def test_a_polygon_is_of_finite_numbers(number):
    with pytest.raises(DataError, match=r"^annotation 1: a polygon must be x and y of three corners or more, found "):
        draw_outline(CocoObject(1, 1, [[10, 10, 14, 10, 14, number]], is_crowd=False), (HEIGHT, WIDTH))


@pytest.mark.parametrize("away", [1, 16])
def test_an_outline_may_lead_a_little_out_of_the_image(away):
    around = [-away, -away, WIDTH + away, -away, WIDTH + away, HEIGHT + away, -away, HEIGHT + away]
    assert draw_outline(CocoObject(1, 1, [around], is_crowd=False), (HEIGHT, WIDTH)).all()


@pytest.mark.parametrize(
    "outline",
    [
        {"size": [HEIGHT, WIDTH], "counts": [10**30, HEIGHT * WIDTH - 10**30]},
        {"size": [HEIGHT, WIDTH], "counts": [2**32 + HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": "o" * 3_000_000 + "0"},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": "x" * 10_000, "counts": []},
        "x" * 10_000,
    ],
)
def test_run_lengths_that_are_too_large_are_refused_at_once(outline):
    with pytest.raises(DataError, match=r"^annotation 1: .{1,200}; left out$"):
        draw_outline(CocoObject(1, 1, outline, is_crowd=False), (HEIGHT, WIDTH))


@pytest.mark.parametrize("name", ["", " ", "two\nlines", "bell\x07", "half\ud800", "x" * 300])
def test_a_category_has_a_name_that_a_table_can_show(invoke, publish, name):
    publish("a.json", {"x": [(1, [box(1, 1, 3, 3)])]}, categories=[{"id": 1, "name": name}])
    refused = invoke("a.json", "images", "-o", "out")
    assert isinstance(refused.exception, DataError)
    assert str(refused.exception).startswith(
        "a.json: categories[0]: name must be of 1 to 200 bytes and without control"
    )
    assert str(refused.exception).isprintable()
    assert len(str(refused.exception)) < 200


@pytest.mark.parametrize("name", ["nul\0.png", "two\nlines.png", "half\ud800.png", "x" * 5000 + ".png"])
def test_an_image_whose_name_no_file_can_have_is_left_out(invoke, publish, tmp_path, name):
    shape = [box(1, 1, 3, 3)]
    publish("a.json", {"x": [(1, shape)], "y": [(1, shape)], "z": [(1, shape)]})
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"][1]["file_name"] = name
    (tmp_path / "a.json").write_text(json.dumps(content))
    summary = summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    (skipped,) = summary["skipped"]
    assert (summary["cases"], skipped["case"]) == (2, f"{name!r:.80}" + "..." * (len(name) > 80))
    assert skipped["reason"] == "file_name is of more than 200 bytes, or has control characters"


def test_a_category_that_the_file_lacks_stops_only_where_it_would_be_used(invoke, publish):
    shape = [box(1, 1, 3, 3)]
    publish("a.json", {"x": [(1, shape)], "y": [(1, shape)], "z": [(1, shape), (4, shape)], "w": [(5, shape)]})
    refused = invoke("a.json", "images", "-o", "out")
    assert isinstance(refused.exception, DataError)
    assert str(refused.exception) == (
        "a.json: annotation 4 of z.png is of category 4, but the file has the categories 1, 18, 90"
    )
    assert "--category NAME" in refused.exception.hint
    chosen = summary_of(invoke("a.json", "images", "-o", "out", "--category", "person", "--json"))
    assert (chosen["cases"], chosen["objects"]) == (3, 3)
    assert summary_of(invoke("a.json", "images", "-o", "few", "--limit", 2, "--json"))["cases"] == 2
    publish("b.json", {"x": [(1, shape)], "y": [(1, shape)], "w": [(5, shape)]})
    refused = invoke("b.json", "images", "-o", "other")
    assert isinstance(refused.exception, DataError)
    assert "annotation 3 of w.png is of category 5" in str(refused.exception)


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "..\\x.png", "C:\\x.png", "C:x.png", "\\x.png", "..", ".", ""]
)
def test_names_that_lead_out_of_the_folder_of_the_images_are_refused(invoke, publish, tmp_path, name):
    publish("a.json", {"x": [(1, [box(1, 1, 3, 3)])]})
    content = json.loads((tmp_path / "a.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "a.json").write_text(json.dumps(content))
    result = invoke("a.json", "images", "-o", "out")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("a.json: images[0]: file_name must be the name of a file in the folder")
    assert str(result.exception).endswith(f"found {name!r}")


def test_images_may_lie_in_folders_below_that_of_the_images(invoke, publish, tmp_path):
    publish("a.json", {name: [(1, [box(1, 1, 3, 3)])] for name in ("x", "y..z")})
    (tmp_path / "images").rename(tmp_path / "part")
    (tmp_path / "images").mkdir()
    (tmp_path / "part").rename(tmp_path / "images" / "part")
    text = (tmp_path / "a.json").read_text().replace('"file_name": "', '"file_name": "part/')
    (tmp_path / "a.json").write_text(text)
    summary_of(invoke("a.json", "images", "-o", "out", "--json"))
    assert list(cases_of(tmp_path / "out")[1]) == ["part_x", "part_y..z"]


def test_places_that_are_not_there_are_named(invoke, publish):
    publish("a.json", {"x": [(1, [box(1, 1, 3, 3)])]})
    for arguments, told in (
        (("b.json", "images"), "b.json: no such file"),
        (("a.json", "other"), "other: no such folder"),
    ):
        result = invoke(*arguments, "-o", "out")
        assert isinstance(result.exception, DataError)
        assert told in str(result.exception)


@given(hnp.arrays(np.bool_, st.just((HEIGHT, WIDTH))))
def test_run_lengths_are_those_of_the_library(mask):
    for outline in (compressed(mask), uncompressed(mask)):
        found = draw_outline(CocoObject(1, 1, outline, is_crowd=False), (HEIGHT, WIDTH))
        np.testing.assert_array_equal(found, mask)
