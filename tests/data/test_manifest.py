"""The manifest: written, read back, refused when broken; and cases checked against its hashes."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from unetcli.data.cases import LabelledImage
from unetcli.data.dataset import describe_isbi, write_dataset
from unetcli.data.isbi import IsbiStack
from unetcli.data.manifest import (
    ClassInfo,
    Manifest,
    fingerprint,
    load_cases,
    load_manifest,
    load_split,
    newest_dataset,
    save_manifest,
)
from unetcli.errors import ConfigError, DataError

CLASSES = (
    ClassInfo(index=0, name="membrane", source_values=(0,)),
    ClassInfo(index=1, name="cell", source_values=(255,)),
)


def make_stack(rng, num_slices=4):
    cases = tuple(
        LabelledImage(
            f"slice-{i:03d}",
            rng.integers(0, 255, (1, 8, 9), dtype=np.uint8),
            rng.integers(0, 2, (8, 9), dtype=np.uint8),
        )
        for i in range(num_slices)
    )
    return IsbiStack(cases, CLASSES, (0.05, 0.004), ())


@pytest.fixture
def stack(rng):
    return make_stack(rng)


@pytest.fixture
def manifest(stack):
    return describe_isbi(stack, "isbi", "block", 2)


@pytest.fixture
def folder(tmp_path, manifest, stack):
    write_dataset(tmp_path / "isbi", manifest, stack.cases, overwrite=False)
    return tmp_path / "isbi"


def test_a_manifest_comes_back_equal(tmp_path, manifest):
    save_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest


def test_no_manifest_is_a_data_error_that_names_the_command(tmp_path):
    with pytest.raises(DataError, match=r"holds no manifest\.json") as caught:
        load_manifest(tmp_path)
    assert "unet prepare" in caught.value.hint


@pytest.mark.parametrize(
    "text", ["", "{", "\x00", "[]", "null", "{}", '{"schema_version": 1}', '{"schema_version": "1"}']
)
def test_what_is_no_manifest_of_this_version_is_a_data_error(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: (cannot be read|schema version is)"):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("colour",), 1, "colour: Extra inputs"),
        (("cases", 0, "shape"), "large", r"cases\.0\.shape"),
        (("cases", 0, "id"), "slice-001", "two cases have the same id"),
        (("classes", 1, "index"), 2, "numbered from 0"),
        (("splits", 0, "train", 0), "slice-099", "split 0 names cases that are not there: .*slice-099"),
        (("splits", 1, "train", 0), "slice-002", "split 1 has cases in train and validation: .*slice-002"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, manifest, place, value, told):
    content = manifest.model_dump(mode="json")
    parent = content
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        load_manifest(tmp_path)


def test_shares_are_of_all_pixels_even_if_sizes_differ(manifest):
    small = manifest.cases[0].model_copy(update={"shape": (1, 1, 2), "class_shares": (1.0, 0.0)})
    large = manifest.cases[1].model_copy(update={"shape": (1, 2, 3), "class_shares": (0.5, 0.5)})
    both = manifest.model_copy(update={"cases": (small, large)})
    assert both.class_shares == pytest.approx((5 / 8, 3 / 8))


def test_the_newest_dataset_is_the_one_written_last(tmp_path):
    with pytest.raises(DataError, match="no dataset in it") as caught:
        newest_dataset(tmp_path)
    assert "unet prepare" in caught.value.hint
    for name, age in (("old", 300), ("new", 100), ("older", 200), (".left-by-a-killed-process", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
        os.utime(tmp_path / name / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "not a dataset").mkdir()
    assert newest_dataset(tmp_path) == tmp_path / "new"


def test_the_fingerprint_follows_content_and_classes_and_not_names_or_splits(manifest, rng):
    renamed = manifest.model_copy(update={"name": "other", "splits": manifest.splits[::-1]})
    assert fingerprint(renamed) == fingerprint(manifest)
    case = manifest.cases[0].model_copy(update={"labels_sha256": "0" * 64})
    assert fingerprint(manifest.model_copy(update={"cases": (case, *manifest.cases[1:])})) != fingerprint(manifest)
    classes = (CLASSES[0].model_copy(update={"name": "wall"}), CLASSES[1])
    assert fingerprint(manifest.model_copy(update={"classes": classes})) != fingerprint(manifest)
    assert fingerprint(describe_isbi(make_stack(rng), "isbi", "block", 2)) != fingerprint(manifest)


def test_a_split_is_loaded_as_it_was_published(folder, stack):
    train, validation = load_split(folder, load_manifest(folder), 1)
    assert [case.id for case in train] == ["slice-000", "slice-001"]
    assert [case.id for case in validation] == ["slice-002", "slice-003"]
    np.testing.assert_array_equal(validation[0].image, stack.cases[2].image)
    np.testing.assert_array_equal(validation[0].labels, stack.cases[2].labels)


@pytest.mark.parametrize("fold", [-1, 2])
def test_a_fold_out_of_range_is_told_how_many_there_are(folder, manifest, fold):
    with pytest.raises(ConfigError, match=f"data.fold: {fold}, but .* has 2 folds") as caught:
        load_split(folder, manifest, fold)
    assert caught.value.hint == "choose 0 to 1"


@pytest.mark.parametrize("part", ["image", "labels"])
def test_a_changed_byte_is_found_though_mindrecord_reads_it(folder, manifest, stack, part):
    path = folder / "cases.mindrecord"
    content = path.read_bytes()
    payload = getattr(stack.cases[2], part).tobytes()
    assert content.count(payload) == 1
    path.write_bytes(content.replace(payload, bytes([payload[0] ^ 1]) + payload[1:]))

    assert len(load_cases(folder, manifest, ["slice-000", "slice-001", "slice-003"])) == 3
    with pytest.raises(DataError, match="case slice-002 is not what was written"):
        load_cases(folder, manifest, ["slice-002"])


def test_types_are_part_of_the_manifest(manifest):
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert (manifest.spacing, manifest.unit) == ((0.05, 0.004), "um")
