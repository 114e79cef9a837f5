"""MindRecord: what is written comes back bit for bit, and what is broken is said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unetcli.data import mindrecord
from unetcli.data.cases import LabelledImage
from unetcli.data.mindrecord import read_cases, write_cases
from unetcli.errors import DataError


def make_case(name, dtype, rng, size=(9, 7)):
    image = (rng.random((1, *size)) * 255).astype(dtype)
    image[..., -3:] = 0  # bytes that end in zeros are where such formats lose data
    labels = rng.integers(0, 3, size, dtype=np.uint8)
    labels[-2:] = 0
    return LabelledImage(name, image, labels)


@pytest.fixture
def cases(rng):
    return [make_case(name, np.uint8, rng) for name in ("slice-002", "slice-000", "größe")]


@pytest.fixture
def path(tmp_path, cases):
    folder = tmp_path / "a folder"
    folder.mkdir()
    write_cases(folder / "cases.mindrecord", cases)
    return folder / "cases.mindrecord"


def assert_same(ours, theirs):
    assert ours.id == theirs.id
    assert ours.image.dtype == theirs.image.dtype
    np.testing.assert_array_equal(ours.image, theirs.image)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", ">u2"])
def test_every_type_comes_back_bit_for_bit(tmp_path, rng, dtype):
    cases = [make_case(f"{i}", dtype, rng, size=(5 + i, 40)) for i in range(4)]
    write_cases(tmp_path / "cases.mindrecord", cases)
    for ours, theirs in zip(read_cases(tmp_path / "cases.mindrecord", "0123"), cases, strict=True):
        native = theirs.image.astype(theirs.image.dtype.newbyteorder("="))
        assert_same(ours, LabelledImage(theirs.id, native, theirs.labels))


def test_what_a_case_holds_in_memory_is_told_and_maps_of_files_hold_nothing(tmp_path, rng):
    case = make_case("a", "uint16", rng)
    assert case.held_bytes == 9 * 7 * (2 + 1)
    more = {"instances": np.zeros((9, 7), np.int32), "weights": np.ones((9, 7), np.float32)}
    assert replace(case, **more).held_bytes == 9 * 7 * (2 + 1 + 4 + 4)
    mapped = np.memmap(tmp_path / "image", np.uint16, "w+", shape=case.image.shape)
    assert replace(case, image=mapped).held_bytes == 9 * 7


def test_cases_come_in_the_order_asked_for(path, cases):
    read = read_cases(path, ["größe", "slice-002"])
    assert_same(read[0], cases[2])
    assert_same(read[1], cases[0])


def test_the_folder_may_be_moved(path, cases, tmp_path):
    path.parent.rename(tmp_path / "elsewhere")
    assert_same(read_cases(tmp_path / "elsewhere" / path.name, ["slice-000"])[0], cases[1])


def test_the_file_is_not_padded_to_megabytes(tmp_path, rng):
    cases = [make_case(f"{i}", np.uint8, rng, size=(200, 200)) for i in range(300)]
    write_cases(tmp_path / "cases.mindrecord", cases)
    payload = sum(case.image.nbytes + case.labels.nbytes for case in cases)
    assert (tmp_path / "cases.mindrecord").stat().st_size < payload * 1.1
    assert len(read_cases(tmp_path / "cases.mindrecord", [case.id for case in cases])) == 300


def test_a_case_larger_than_a_page_is_refused(tmp_path, cases, monkeypatch):
    monkeypatch.setattr(mindrecord, "LARGEST_PAGE", 1 << 12)
    with pytest.raises(DataError, match="can have at most"):
        write_cases(tmp_path / "cases.mindrecord", cases)


def test_missing_files_and_cases_are_named(path):
    with pytest.raises(DataError, match="holds no case slice-007"):
        read_cases(path, ["slice-000", "slice-007"])
    index = path.with_name("cases.mindrecord.db")
    index.rename(path.with_name("away"))
    with pytest.raises(DataError, match=r"cases\.mindrecord\.db: no such file"):
        read_cases(path, ["slice-000"])
    with pytest.raises(DataError, match=r"nowhere: no such file"):
        read_cases(path.with_name("nowhere"), ["slice-000"])


@pytest.mark.parametrize("which", ["cases.mindrecord", "cases.mindrecord.db"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_cut_off_is_a_data_error(path, which, share):
    file = path.with_name(which)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cases\.mindrecord: "):
        read_cases(path, ["slice-000", "slice-002"])


def test_a_renamed_file_is_a_data_error(path):
    renamed = path.rename(path.with_name("other.mindrecord"))
    path.with_name("cases.mindrecord.db").rename(path.with_name("other.mindrecord.db"))
    with pytest.raises(DataError, match=r"other\.mindrecord: cannot be read"):
        read_cases(renamed, ["slice-000"])


def test_an_existing_file_is_not_written_over(path, cases):
    with pytest.raises(DataError, match="cannot be written"):
        write_cases(path, cases)


@pytest.mark.parametrize("num_objects", [0, 3, 300, 70000])
def test_objects_and_weights_come_back_bit_for_bit(tmp_path, rng, num_objects):
    instances = rng.integers(0, num_objects + 1, (9, 7)).astype(np.int32)
    weights = rng.random((9, 7), np.float32)
    case = replace(make_case("a", np.uint8, rng), instances=instances, weights=weights)
    write_cases(tmp_path / "cases.mindrecord", [case])
    (read,) = read_cases(tmp_path / "cases.mindrecord", ["a"])
    assert_same(read, case)
    assert (read.instances.dtype, read.weights.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(read.instances, instances)
    np.testing.assert_array_equal(read.weights, weights)


def test_cases_without_objects_are_written_as_they_always_were(path):
    (read,) = read_cases(path, ["slice-000"])
    assert read.instances is None
    assert read.weights is None
    assert set(next(mindrecord._rows(path))) == set(mindrecord.SCHEMA)


def test_cases_that_differ_in_what_they_hold_are_refused(tmp_path, rng):
    cases = [make_case(name, np.uint8, rng) for name in "ab"]
    cases[1] = replace(cases[1], weights=np.ones((9, 7), np.float32))
    with pytest.raises(ValueError, match="b and a have not the same of them"):
        write_cases(tmp_path / "cases.mindrecord", cases)
