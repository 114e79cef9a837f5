"""From cases to a dataset folder: statistics, folds, duplicates, and what may be overwritten."""

from __future__ import annotations

import numpy as np
import pytest

from unetcli.core.splits import zoo_folds
from unetcli.data.cases import LabelledImage, class_shares, content_hash
from unetcli.data.manifest import ClassInfo, load_manifest
from unetcli.data.preparing.dataset import (
    describe_isbi,
    duplicate_warnings,
    intensity_stats,
    make_splits,
    refuse_output,
    write_dataset,
)
from unetcli.data.sources.isbi import IsbiStack
from unetcli.errors import ConfigError, DataError

CLASSES = (
    ClassInfo(index=0, name="membrane", source_values=(0,)),
    ClassInfo(index=1, name="cell", source_values=(255,)),
)


def make_stack(images, labels=None):
    shape = images[0].shape
    labels = labels or [np.eye(*shape, dtype=np.uint8)] * len(images)
    pairs = enumerate(zip(images, labels, strict=True))
    cases = tuple(LabelledImage(f"slice-{i:03d}", image[None], mask) for i, (image, mask) in pairs)
    return IsbiStack(cases, CLASSES, None, ())


@pytest.fixture
def images(rng):
    return list(rng.integers(0, 255, (6, 8, 9), dtype=np.uint8))


def warnings_of(stack, num_folds=3):
    return list(duplicate_warnings(describe_isbi(stack, "isbi", "block", num_folds), stack.cases))


def test_shares_by_hand():
    assert class_shares(np.array([[0, 0, 0, 1]], np.uint8), 3) == (0.75, 0.25, 0.0)


def test_the_hash_knows_values_type_and_shape_but_not_byte_order():
    array = np.arange(6, dtype=np.uint16).reshape(2, 3)
    assert content_hash(array) == content_hash(array.astype(">u2")) == content_hash(np.asfortranarray(array))
    others = [array + 1, array.reshape(3, 2), array.astype(np.int16)]
    assert len({content_hash(other) for other in [array, *others]}) == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_statistics_are_those_of_all_pixels(rng, dtype):
    images = [(rng.random((1, 7, 5)) * 100).astype(dtype) for _ in range(3)]
    pixels = np.concatenate(images).astype(np.float64)

    stats = intensity_stats(images)

    assert (stats.minimum, stats.maximum, stats.dtype) == (pixels.min(), pixels.max(), np.dtype(dtype).name)
    assert (stats.mean, stats.std) == pytest.approx((pixels.mean(), pixels.std()))
    for percent in (0.5, 1, 50, 99, 99.5):
        assert stats.percentiles[percent] == pytest.approx(np.percentile(pixels, percent), rel=1e-5)


def test_splits_name_cases_in_the_order_of_the_folds():
    ids = [f"s{i}" for i in range(30)]
    block = make_splits(ids, "block", 5)
    assert [split.validation for split in block] == [tuple(ids[i : i + 6]) for i in range(0, 30, 6)]
    zoo = make_splits(ids, "zoo", 5)
    assert zoo[1].validation == ("s4", "s6", "s7", "s9", "s18", "s19")
    assert [len(split.train) for split in zoo] == [len(train) for train, _ in zoo_folds(30, 5)]


@pytest.mark.parametrize(("method", "folds"), [("block", 7), ("zoo", 4)])
def test_folds_that_cannot_be_are_a_settings_error(method, folds):
    with pytest.raises(ConfigError, match=f"--split {method} --folds {folds}: "):
        make_splits([f"s{i}" for i in range(6)], method, folds)


def test_duplicates_within_training_are_told(images):
    images[1] = images[0]
    assert warnings_of(make_stack(images)) == ["images of slice-000, slice-001 are the same"]


def test_duplicates_on_both_sides_of_a_fold_are_told_as_such(images):
    images[5] = images[0]
    labels = [np.eye(8, 9, dtype=np.uint8)] * 5 + [np.ones((8, 9), np.uint8)]
    assert warnings_of(make_stack(images, labels)) == [
        "images of slice-000, slice-005 are the same, but their labels differ; "
        "validation of fold 0, 2 contains what it trains on"
    ]


def test_blank_images_are_not_copies_of_each_other(images):
    images[2] = images[4] = np.zeros_like(images[0])
    assert warnings_of(make_stack(images)) == []


def test_a_dataset_is_replaced_only_when_asked_and_nothing_else_ever_is(tmp_path, images):
    folder = tmp_path / "isbi"
    stack = make_stack(images)
    write_dataset(folder, describe_isbi(stack, "first", "block", 2), stack.cases, overwrite=False)
    second = describe_isbi(stack, "second", "block", 3)

    with pytest.raises(ConfigError, match="already exists"):
        write_dataset(folder, second, stack.cases, overwrite=False)
    assert load_manifest(folder).name == "first"
    write_dataset(folder, second, stack.cases, overwrite=True)
    assert load_manifest(folder).name == "second"
    assert sorted(path.name for path in folder.iterdir()) == [
        "cases.mindrecord",
        "cases.mindrecord.db",
        "manifest.json",
        "preview.png",
    ]
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1
    assert list(tmp_path.iterdir()) == [folder]

    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    for other in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.txt"):
        with pytest.raises(ConfigError, match="is not a dataset folder"):
            refuse_output(other, overwrite=True)


def test_a_single_slice_is_refused_by_name_and_not_by_folds():
    with pytest.raises(DataError, match="1 slice cannot be split"):
        make_splits(["slice-000"], "block", 5)
