"""`unet prepare msd`: Decathlon and nnU-Net forms, what is skipped and why, and the real hippocampus."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.data.manifest import load_manifest, load_split
from unetcli.errors import ConfigError, DataError

SIZE = (4, 5, 6)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path, array, affine=AFFINE):
    """A NIfTI file of an array Z Y X, or C Z Y X."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array.T if array.ndim == 3 else array.transpose(3, 2, 1, 0), affine).to_filename(path)


def labels_of(index):
    """Labels whose class 1 has `index` + 1 voxels, and class 2 one."""
    labels = np.zeros(SIZE, np.uint8)
    labels.flat[: index + 1] = 1
    labels.flat[-1] = 2
    return labels


@pytest.fixture
def task(tmp_path, rng):
    """A Decathlon task of six volumes."""
    source = tmp_path / "Task99_Made Up"
    pairs = []
    for index in range(6):
        write(source / "imagesTr" / f"case_{index}.nii.gz", rng.integers(-99, 99, SIZE).astype(np.int16))
        write(source / "labelsTr" / f"case_{index}.nii.gz", labels_of(index))
        pairs.append({"image": f"./imagesTr/case_{index}.nii.gz", "label": f"./labelsTr/case_{index}.nii.gz"})
    description = {
        "name": "Made Up",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "left_part", "2": "right_part"},
        "numTraining": 6,
        "training": pairs,
    }
    (source / "dataset.json").write_text(json.dumps(description))
    return source


def change(task, **values):
    path = task / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def reasons(result):
    return {each["case"]: each["reason"] for each in json.loads(result.stdout)["skipped"]}


def test_a_decathlon_task_becomes_a_dataset_named_after_it(invoke, task, tmp_path):
    result = invoke("msd", task)

    assert result.exit_code == 0, result.exception
    folder = tmp_path / "datasets" / "madeup"
    manifest = load_manifest(folder)
    assert (manifest.kind, manifest.num_axes, manifest.channels) == ("msd", 3, ("CT",))
    assert manifest.spacing == (4.0, 3.0, 2.0)
    assert [(info.name, info.source_values, info.mirror_of) for info in manifest.classes] == [
        ("background", (0,), None),
        ("left_part", (1,), "right_part"),
        ("right_part", (2,), "left_part"),
    ]
    assert [len(split.validation) for split in manifest.splits] == [2, 1, 1, 1, 1]
    for case in sum(load_split(folder, manifest, 0), ()):
        index = int(case.id[-1])
        published = nibabel.load(task / "imagesTr" / f"{case.id}.nii.gz")
        np.testing.assert_array_equal(case.image[0], np.asarray(published.dataobj).T)
        np.testing.assert_array_equal(case.labels, labels_of(index))
        assert manifest.cases[index].class_shares == ((120 - index - 2) / 120, (index + 1) / 120, 1 / 120)
        assert case.points[:, 0].tolist() == [1] * (index + 1) + [2]
        part = "val" if case.id in manifest.splits[0].validation else "train"
        np.testing.assert_array_equal(nibabel.load(folder / part / "images" / f"{case.id}.nii").affine, AFFINE)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "points", "preview.png", "train", "val"]
    assert [path.name for path in folder.parent.iterdir()] == ["madeup"]
    assert "left_part and right_part become each other when an image is mirrored" in result.stderr
    assert "case_0: left_part lies to the patient's right of right_part" not in result.stderr


def test_nnunet_names_several_channels_and_voxels_to_ignore(invoke, tmp_path, rng):
    source = tmp_path / "Dataset007_Two"
    for index in range(3):
        for channel in range(2):
            image = rng.random(SIZE, dtype=np.float32) + 10 * channel
            write(source / "imagesTr" / f"a{index}_{channel:04d}.nii", image)
        labels = labels_of(index)
        labels.flat[20:24] = 3
        write(source / "labelsTr" / f"a{index}.nii", labels)
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "core": 1, "edema": 2, "ignore": 3},
        "numTraining": 3,
        "file_ending": ".nii",
    }
    (source / "dataset.json").write_text(json.dumps(description))

    result = invoke("msd", source, "--folds", 3, "-o", "two", "--mirror", "core=edema", "--json")

    assert result.exit_code == 0, result.exception
    summary = json.loads(result.stdout)
    assert (summary["cases"], summary["channels"], summary["warnings"]) == (3, ["T1", "T2"], [])
    manifest = load_manifest(tmp_path / "two")
    assert manifest.has_ignored
    assert [info.mirror_of for info in manifest.classes] == [None, "edema", "core"]
    (case,) = load_split(tmp_path / "two", manifest, 0)[1]
    assert case.image.shape == (2, *SIZE)
    assert (case.image[0] < 1).all()
    assert (case.image[1] >= 10).all()
    assert (case.labels == 255).sum() == 4
    assert sum(manifest.cases[0].class_shares) == pytest.approx(1 - 4 / 120)


def test_channels_may_lie_in_one_file_of_four_axes(invoke, task, tmp_path, rng):
    change(task, modality={"0": "T1", "1": "T2"})
    for index in range(6):
        write(task / "imagesTr" / f"case_{index}.nii.gz", rng.random((2, *SIZE), dtype=np.float32))
    assert invoke("msd", task, "-o", "out").exit_code == 0
    assert load_manifest(tmp_path / "out").cases[0].shape == (2, *SIZE)


def test_what_is_wrong_with_a_case_is_said_and_it_is_skipped(invoke, task):
    images, labels = task / "imagesTr", task / "labelsTr"
    (images / "case_0.nii.gz").unlink()
    write(labels / "case_1.nii.gz", labels_of(1), np.diag([3.0, 3.0, 4.0, 1.0]))
    strange = labels_of(2)
    strange.flat[50:53] = 9
    write(labels / "case_2.nii.gz", strange)
    (images / "case_3.nii.gz").write_bytes((images / "case_4.nii.gz").read_bytes())

    result = invoke("msd", task, "--json", "--dry-run")
    assert set(reasons(result)) == {"case_0", "case_1"}
    result = invoke("msd", task, "--json")

    assert result.exit_code == 0
    found = reasons(result)
    assert found["case_0"].endswith("case_0.nii.gz: no such file")
    assert "labels are on another grid than the image: spacing 4 x 3 x 2 against 4 x 3 x 3 mm" in found["case_1"]
    assert "labels hold 9 (3 voxels), but must be of 0, 1, 2" in found["case_2"]
    assert found["case_4"] == "its image is the same as that of case_3, but its labels differ"
    assert set(found) == {"case_0", "case_1", "case_2", "case_4"}
    assert json.loads(result.stdout)["cases"] == 2


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full(SIZE, np.nan, np.float32), "120 of 120 intensities are NaN or infinite"),
        (np.full(SIZE, 7, np.int16), "the image is 7 everywhere"),
    ],
)
def test_an_image_that_says_nothing_is_skipped(invoke, task, array, told):
    write(task / "imagesTr" / "case_0.nii.gz", array)
    assert told in reasons(invoke("msd", task, "--json"))["case_0"]


def test_labels_between_two_numbers_are_refused_and_whole_ones_stored_as_floats_are_not(invoke, task):
    write(task / "labelsTr" / "case_0.nii.gz", labels_of(0).astype(np.float32))
    between = labels_of(1).astype(np.float32)
    between.flat[3] = 0.5
    write(task / "labelsTr" / "case_1.nii.gz", between)

    found = reasons(invoke("msd", task, "--json"))

    assert list(found) == ["case_1"]
    assert "labels must be whole numbers, but hold 0.5 (1 voxel)" in found["case_1"]


@pytest.mark.parametrize("is_late", [False, True])
def test_strict_makes_a_skipped_case_an_error_and_keeps_nothing(invoke, task, tmp_path, is_late):
    path = task / "imagesTr" / "case_5.nii.gz"
    if is_late:
        write(path, np.full(SIZE, 7, np.int16))
    else:
        path.unlink()
    result = invoke("msd", task, "--strict")
    assert isinstance(result.exception, DataError)
    assert "1 of 6 cases cannot be used: case_5: " in str(result.exception)
    assert [path.name for path in tmp_path.rglob("*.nii")] == []
    assert not list(tmp_path.glob("datasets/.*"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "the label 'whole' is a region of several values"),
        ({"labels": {"1": "a", "2": "b"}}, "there must be 0 for background"),
        ({"labels": {"background": 0}}, "there is no class beside background"),
        ({"labels": []}, "has no labels"),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "two labels have the value 1: a and b"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "two classes cannot both be called 'a'"),
        ({"labels": {"zero": "background"}}, "has no whole number"),
        ({"modality": {"1": "CT"}}, "has no channels numbered from 0"),
        ({"training": [{"image": "x"}]}, "has no image and label"),
    ],
)
def test_a_description_that_cannot_be_is_refused(invoke, task, values, told):
    change(task, **values)
    result = invoke("msd", task)
    assert isinstance(result.exception, DataError)
    assert told in str(result.exception)
    assert "dataset.json" in str(result.exception)


def test_options_that_cannot_be_are_refused(invoke, task, tmp_path):
    for arguments, told in (
        (("--folds", 7), "--folds 7: the number of folds must be in"),
        (("--mirror", "left_part=nose"), "there is no class 'nose'"),
        (("--spacing", 0, 1, 1), "--spacing 0 1 1: must be three positive numbers"),
        (("--spacing", 1, "nan", 1), "--spacing 1 nan 1: must be three positive numbers"),
    ):
        result = invoke("msd", task, *arguments)
        assert isinstance(result.exception, ConfigError)
        assert told in str(result.exception)
    missing = invoke("msd", tmp_path)
    assert isinstance(missing.exception, DataError)
    assert "holds no dataset.json" in str(missing.exception)


def test_the_same_seed_gives_the_same_folds(invoke, task, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert invoke("msd", task, "-o", name, "--seed", seed).exit_code == 0
    first, same, other = (load_manifest(tmp_path / name).splits for name in "abc")
    assert first == same != other


def test_the_real_hippocampus_gives_160_and_40(invoke, real_data, tmp_path, pytestconfig):
    source = pytestconfig.rootpath / real_data / "msd_task04_hippocampus"
    result = invoke("msd", source)

    assert result.exit_code == 0, result.exception
    manifest = load_manifest(tmp_path / "datasets" / "hippocampus")
    assert len(manifest.cases) == 200
    assert [(len(split.train), len(split.validation)) for split in manifest.splits] == [(160, 40)] * 5
    assert manifest.class_names == ("background", "Anterior", "Posterior")
    case = load_split(tmp_path / "datasets" / "hippocampus", manifest, 3)[1][0]
    published = nibabel.load(source / "imagesTr" / f"{case.id}.nii.gz")
    np.testing.assert_array_equal(case.image[0], np.asarray(published.dataobj).T)
