"""LUNA16 in the forms it is found in, its split, and its labels; through the command."""

from __future__ import annotations

import json
import shutil
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.data.manifest import load_cases, load_manifest, mirror_pairs
from unetcli.data.preparing.volume_plan import SplitPlan
from unetcli.data.sources.luna16 import read_luna16
from unetcli.errors import ConfigError, DataError

SIZE = (3, 4, 6)
PUBLISHED = SplitPlan(is_published=True)


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare luna16` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, ["luna16", *(str(argument) for argument in arguments)])


def write(path, array, *, spacing=(0.7, 0.7, 2.5), compress=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-100.5, -90.25, -300.0))
    sitk.WriteImage(image, str(path), compress)


def lungs_of(index):
    """A mask with one voxel of every value from 0 to 5, the left lung at larger x, and `index` more tracheas."""
    mask = np.zeros(SIZE, np.uint8)
    mask[0, 0] = [0, 1, 2, 4, 3, 5]
    mask[1].flat[:index] = 5
    return mask


@pytest.fixture
def tree(tmp_path, rng):
    """Sixteen volumes as they are published: two in each of four subsets, eight in subset 9."""
    source = tmp_path / "data" / "LUNA16"
    subsets = [0, 0, 1, 1, 2, 2, 8, 8, *[9] * 12]
    for index, subset in enumerate(subsets):
        volume = rng.integers(-1024, 1500, SIZE).astype(np.int16)
        write(source / f"subset{subset}" / f"1.3.{index:02d}.mhd", volume)
        write(source / "seg-lungs-LUNA16" / f"1.3.{index:02d}.mhd", lungs_of(index % 7), compress=True)
    return source


def names(numbers):
    return tuple(f"1.3.{number:02d}" for number in numbers)


def test_the_defaults_work_as_they_stand(invoke, tree, tmp_path):
    result = invoke("--json")

    assert result.exit_code == 0, result.exception
    folder = tmp_path / "datasets" / "luna16"
    manifest = load_manifest(folder)
    (split,) = manifest.splits
    assert (manifest.split_method, split.validation) == ("published", names(range(10, 20)))
    assert split.train == names(range(10))
    assert manifest.class_names == ("background", "left_lung", "right_lung", "trachea")
    assert mirror_pairs(manifest) == (0, 2, 1, 3)
    assert sorted(path.name for path in (folder / "val" / "seg").iterdir()) == [
        f"{n}.nii" for n in names(range(10, 20))
    ]
    for case in load_cases(folder, manifest, names((3, 12))):
        index = int(case.id[-2:])
        published = sitk.GetArrayFromImage(sitk.ReadImage(str(next(tree.rglob(f"subset*/{case.id}.mhd")))))
        np.testing.assert_array_equal(case.image[0], published)
        mask = lungs_of(index % 7)
        np.testing.assert_array_equal(case.labels, np.array([0, 0, 0, 1, 2, 3], np.uint8)[mask])
        part = "train" if index < 10 else "val"
        written = sitk.ReadImage(str(folder / part / "images" / f"{case.id}.nii"))
        assert written.GetSpacing() == pytest.approx((0.7, 0.7, 2.5))
        assert written.GetOrigin() == pytest.approx((-100.5, -90.25, -300.0))
    assert json.loads(result.stdout)["other_values"] == {"1": 20, "2": 20}


def archived(source):
    for folder in [path for path in source.iterdir() if path.is_dir()]:
        with zipfile.ZipFile(source / f"{folder.name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"{folder.name}/{path.name}")
        shutil.rmtree(folder)


def nested(source):
    for folder in list(source.iterdir()):
        folder.rename(source / "moved")
        folder.mkdir()
        (source / "moved").rename(folder / folder.name)


def flat(source):
    for path in source.glob("subset*/*"):
        path.rename(source / path.name)
    (source / "seg-lungs-LUNA16").rename(source / "seg-lungs")


@pytest.mark.parametrize("change", [archived, nested, flat])
def test_every_form_gives_the_same_volumes(invoke, tree, tmp_path, change):
    assert invoke("-o", "plain").exit_code == 0
    change(tree)
    result = invoke("-o", "changed")
    assert result.exit_code == 0, result.exception
    plain, changed = (load_manifest(tmp_path / name) for name in ("plain", "changed"))
    hashes = [[(case.id, case.image_sha256, case.labels_sha256) for case in m.cases] for m in (plain, changed)]
    assert hashes[0] == hashes[1]
    assert (plain.splits == changed.splits) == (change is not flat)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["changed", "data", "plain"]


def test_without_the_published_volumes_the_last_tenth_validates_and_it_is_said(tree):
    shutil.rmtree(tree / "subset9")
    source = read_luna16(tree, PUBLISHED)
    assert [raw.id for raw in source.cases if raw.is_validation] == list(names([7]))
    assert source.warnings == (
        "there is no subset9, so validation is not the published one, but the last 1 of all by name",
    )
    assert not source.skipped  # masks of subsets that are not there are no mistake


def test_few_volumes_keep_one_for_validation(tree):
    for path in list(tree.glob("subset[0-8]/*")) + list(tree.glob("subset9/1.3.1[2-9]*")):
        path.unlink()
    source = read_luna16(tree, PUBLISHED)
    assert [(raw.id, raw.is_validation) for raw in source.cases] == [
        *((name, False) for name in names((8, 9, 10))),
        (names([11])[0], True),
    ]
    assert "there are only 4 volumes" in source.warnings[0]


def test_folds_may_be_drawn_instead(invoke, tree, tmp_path):
    assert invoke("--folds", 4, "--seed", 3).exit_code == 0
    manifest = load_manifest(tmp_path / "datasets" / "luna16")
    assert (manifest.split_method, [len(split.validation) for split in manifest.splits]) == ("random", [5] * 4)
    assert tree.is_dir()


def test_labels_are_a_setting_by_value_and_name(invoke, tree, tmp_path):
    result = invoke(tree, "--label", "5=airway", "--label", "1=other", "--json")
    assert result.exit_code == 0, result.exception
    summary = json.loads(result.stdout)
    assert [(info["name"], info["source_values"]) for info in summary["classes"]] == [
        ("background", [0]),
        ("other", [1]),
        ("airway", [5]),
    ]
    assert summary["other_values"] == {"2": 20, "3": 20, "4": 20}
    folder = tmp_path / "datasets" / "luna16"
    (case,) = load_cases(folder, load_manifest(folder), names([0]))
    np.testing.assert_array_equal(case.labels, np.array([0, 1, 0, 0, 0, 2], np.uint8)[lungs_of(0)])


def test_lungs_on_the_wrong_side_are_told(invoke, tree):
    mask = lungs_of(2)
    mask[0, 0, 3:5] = [3, 4]
    write(tree / "seg-lungs-LUNA16" / "1.3.02.mhd", mask, compress=True)
    warnings = json.loads(invoke("--json").stdout)["warnings"]
    assert warnings == ["1.3.02: left_lung lies to the patient's right of right_lung; are the labels mixed up?"]


def test_what_is_wrong_is_skipped_with_the_reason(invoke, tree):
    masks = tree / "seg-lungs-LUNA16"
    (masks / "1.3.00.mhd").unlink()
    write(masks / "1.3.01.mhd", lungs_of(0)[:2])
    (tree / "subset1" / "1.3.02.raw").unlink()
    (masks / "1.3.03.zraw").write_bytes(b"cut off")
    shutil.copy(tree / "subset2" / "1.3.04.raw", tree / "subset2" / "1.3.05.raw")
    shutil.copy(tree / "subset9" / "1.3.08.mhd", tree / "subset8")
    shutil.copy(tree / "subset9" / "1.3.08.raw", tree / "subset8")

    skipped = {each["case"]: each["reason"] for each in json.loads(invoke("--json").stdout)["skipped"]}

    assert skipped["1.3.00"] == "there is no mask 1.3.00.mhd in seg-lungs"
    assert skipped["1.3.01"] == "labels are on another grid than the image: size 3 x 4 x 6 against 2 x 4 x 6 voxels"
    assert "1.3.02.raw, which is not beside it" in skipped["1.3.02"]
    assert "1.3.03.zraw: cannot be read" in skipped["1.3.03"]
    assert skipped["1.3.05"] == "its image is the same as that of 1.3.04, but its labels differ"
    assert "the same name as" in skipped["1.3.08"]
    assert len(skipped) == 6


def test_a_damaged_archive_is_an_error_that_names_it(invoke, tree):
    archived(tree)
    (tree / "subset3.zip").write_bytes(b"PK not really")
    result = invoke()
    assert isinstance(result.exception, DataError)
    assert "subset3.zip: cannot be read as a ZIP archive" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("nowhere",), DataError, "nowhere: no such folder"),
        ((".", "--label", "3"), ConfigError, "--label 3: must be VALUE=NAME"),
        (("data/LUNA16/subset0",), DataError, "holds no masks"),
        (("data/LUNA16/seg-lungs-LUNA16",), DataError, "holds no masks"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_a_source_that_cannot_be_is_refused(invoke, arguments, kind, told):
    result = invoke(*arguments)
    assert isinstance(result.exception, kind)
    assert told in str(result.exception)


def test_the_real_chest_has_its_left_lung_on_the_left(invoke, real_data, tmp_path, pytestconfig):
    chest = pytestconfig.rootpath / real_data / "ct_chest"
    source = tmp_path / "luna"
    for index in range(2):
        image = sitk.ReadImage(str(chest / "images" / "cip_ct64.mhd")) + index
        (source / f"subset{8 + index}").mkdir(parents=True)
        sitk.WriteImage(image, str(source / f"subset{8 + index}" / f"chest{index}.mhd"))
        for path in (chest / "seg-lungs").iterdir():
            target = source / "seg-lungs-LUNA16" / f"chest{index}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
        header = source / "seg-lungs-LUNA16" / f"chest{index}.mhd"
        header.write_text(header.read_text().replace("cip_ct64.zraw", f"chest{index}.zraw"))

    result = invoke(source, "--json")

    summary = json.loads(result.stdout)
    assert (summary["cases"], summary["skipped"]) == (2, [])
    assert not [warning for warning in summary["warnings"] if "right of" in warning]
    manifest = load_manifest(tmp_path / "datasets" / "luna16")
    assert manifest.cases[0].class_shares == pytest.approx((257960 / 323584, 30766 / 323584, 34858 / 323584, 0))
    written = nibabel.load(tmp_path / "datasets" / "luna16" / "train" / "seg" / "chest0.nii")
    voxels = np.argwhere(np.asarray(written.dataobj) == 1)
    x = nibabel.affines.apply_affine(written.affine, voxels.mean(axis=0))[0]
    assert x < 0  # NIfTI's x grows to the right
