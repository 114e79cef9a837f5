"""The manifest: written, read back, refused when broken; and cases checked against its hashes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

from unetcli.core.geometry import Geometry
from unetcli.core.normalization import measure_channels
from unetcli.core.sampling import foreground_points
from unetcli.data.cases import LabelledImage, content_hash
from unetcli.data.formats.volume_masks import write_volume
from unetcli.data.manifest import (
    ClassInfo,
    Manifest,
    fingerprint,
    load_cases,
    load_manifest,
    load_split,
    mirror_pairs,
    newest_dataset,
    save_manifest,
)
from unetcli.data.preparing.dataset import describe_isbi, write_dataset
from unetcli.data.preparing.volume_dataset import make_dataset
from unetcli.data.preparing.volume_plan import VolumeSource, WorkOptions, plan_work
from unetcli.data.preparing.volume_records import RawCase
from unetcli.data.sources.class_names import numbered_classes, rule_of, with_mirrors
from unetcli.data.sources.isbi import IsbiStack
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


def test_objects_and_weights_are_known_by_their_hashes(tmp_path, stack):
    cases = tuple(
        replace(case, instances=case.labels.astype(np.int32), weights=np.full((8, 9), 0.5, np.float32))
        for case in stack.cases
    )
    manifest = describe_isbi(replace(stack, cases=cases), "isbi", "block", 2)
    known = manifest.cases[2]
    assert known.instances_sha256 == content_hash(cases[2].instances)
    assert known.weights_sha256 == content_hash(cases[2].weights)
    changed = known.model_copy(update={"instances_sha256": "0" * 64})
    other = manifest.model_copy(update={"cases": (*manifest.cases[:2], changed, *manifest.cases[3:])})
    assert fingerprint(other) != fingerprint(manifest)
    write_dataset(tmp_path / "cells", manifest, cases, overwrite=False)
    (case,) = load_cases(tmp_path / "cells", manifest, ["slice-002"])
    np.testing.assert_array_equal(case.instances, cases[2].instances)
    with pytest.raises(DataError, match="case slice-002 is not what was written"):
        load_cases(tmp_path / "cells", other, ["slice-002"])


def test_a_manifest_of_before_there_were_objects_is_read(tmp_path, manifest):
    content = manifest.model_dump(mode="json")
    for name in ("has_instances", "weight_map"):
        del content[name]
    for case in content["cases"]:
        del case["instances_sha256"], case["weights_sha256"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert load_manifest(tmp_path) == manifest


def test_types_are_part_of_the_manifest(manifest):
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert (manifest.spacing, manifest.unit) == ((0.05, 0.004), "um")


@pytest.fixture
def volumes(tmp_path, rng):
    """A dataset of two volumes."""
    geometry = Geometry((3, 4, 5), (2.0, 0.5, 0.5), (1.0, 2.0, 3.0))
    raws = []
    for index in range(2):
        image, labels = tmp_path / f"i{index}.nii.gz", tmp_path / f"l{index}.nii.gz"
        write_volume(image, rng.integers(-9, 99, (2, 3, 4, 5)).astype(np.int16), geometry, compress=True)
        write_volume(labels, rng.integers(0, 3, (3, 4, 5)).astype(np.uint8), geometry, compress=True)
        raws.append(RawCase(f"v{index}", (image,), labels))
    classes = with_mirrors(numbered_classes({0: "background", 1: "left_a", 2: "right_a"}))
    source = VolumeSource("msd", tuple(raws), classes, ("T1", "T2"), rule_of(classes))
    options = WorkOptions(tmp_path / "volumes")
    make_dataset(source, plan_work(source, options), options)
    return tmp_path / "volumes"


def test_volumes_are_mapped_with_what_is_known_of_them(volumes):
    manifest = load_manifest(volumes)
    train, validation = load_split(volumes, manifest, 1)
    (case,) = train
    assert (case.id, validation[0].id) == (manifest.splits[1].train[0], manifest.splits[1].validation[0])
    assert isinstance(case.image, np.memmap)
    assert not case.image.flags.writeable
    assert case.geometry == Geometry((3, 4, 5), (2.0, 0.5, 0.5), (1.0, 2.0, 3.0))
    assert case.spacing == (2.0, 0.5, 0.5)
    for found, measured in zip(case.statistics, measure_channels(np.asarray(case.image)), strict=True):
        assert asdict(found) == pytest.approx(asdict(measured))
    np.testing.assert_array_equal(case.points, foreground_points(np.asarray(case.labels), 3))
    known = next(known for known in manifest.cases if known.id == case.id)
    assert (known.image_sha256, known.labels_sha256) == (content_hash(case.image), content_hash(case.labels))
    assert mirror_pairs(manifest) == (0, 2, 1)


def test_volumes_that_are_not_what_was_written_are_told(volumes):
    manifest = load_manifest(volumes)
    case = manifest.cases[0]
    image, labels, points = (volumes / name for name in (case.files.image, case.files.labels, case.files.points))
    content = image.read_bytes()
    image.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{case.id}\.nii: has {len(content) - 1} bytes, but its header tells of"):
        load_cases(volumes, manifest, [case.id])
    image.write_bytes(labels.read_bytes())
    with pytest.raises(DataError, match="but was written as"):
        load_cases(volumes, manifest, [case.id])
    image.unlink()
    with pytest.raises(DataError, match="no such file, but the dataset needs it"):
        load_cases(volumes, manifest, [case.id])
    image.write_bytes(content)
    points.write_bytes(b"")
    with pytest.raises(DataError, match=r"\.npy: cannot be read"):
        load_cases(volumes, manifest, [case.id])
    with pytest.raises(DataError, match="holds no case v7"):
        load_cases(volumes, manifest, ["v7"])


def test_mirror_pairs_that_contradict_themselves_are_refused(volumes):
    manifest = load_manifest(volumes)
    classes = (*manifest.classes[:2], manifest.classes[2].model_copy(update={"mirror_of": None}))
    with pytest.raises(DataError, match="class left_a is said to mirror right_a, which does not mirror it"):
        mirror_pairs(manifest.model_copy(update={"classes": classes}))
