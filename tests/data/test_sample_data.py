"""The sample data: what is committed is what the scripts make, and it is neither trivial nor odd."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile

from unetcli.data.sources.isbi import read_isbi

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture(params=["make_sample_data"])
def script(monkeypatch, request):
    """A script as a module, though it lies outside the package."""
    spec = importlib.util.spec_from_file_location(request.param, SAMPLE / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_script_makes_what_is_committed(tmp_path, script):
    script.write_sample_data(tmp_path)
    for name in ("train-volume", "train-labels", "test-volume"):
        made, committed = (tifffile.imread(folder / f"{name}.tif") for folder in (tmp_path, SAMPLE / "isbi"))
        assert made.dtype == committed.dtype == np.uint8
        # another processor may round the last bit otherwise, which few pixels show
        assert np.mean(made != committed) < 1e-4


def test_the_sample_is_small():
    assert sum(path.stat().st_size for path in (SAMPLE / "isbi").iterdir()) < 600_000


def test_no_threshold_finds_the_membranes():
    cases = read_isbi(SAMPLE / "isbi").cases
    images = np.stack([case.image[0] for case in cases])
    membrane = np.stack([case.labels for case in cases]) == 0
    assert membrane.mean() == pytest.approx(0.22, abs=0.02)
    overlap = []
    for threshold in range(60, 140, 4):
        dark = images < threshold
        overlap.append(2 * (dark & membrane).sum() / (dark.sum() + membrane.sum()))
    assert 0.5 < max(overlap) < 0.75


def test_neighbouring_slices_resemble_each_other_more_than_distant_ones():
    labels = np.stack([case.labels for case in read_isbi(SAMPLE / "isbi").cases])
    near = np.mean(labels[1:] != labels[:-1])
    far = np.mean(labels[6:] != labels[:-6])
    assert 0.05 < near < far / 1.5


@pytest.mark.parametrize("script", ["make_sample_volumes"], indirect=True)
def test_the_script_makes_the_volumes_that_are_committed(tmp_path, script):
    script.write_sample_volumes(tmp_path)

    made = [*sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.mhd")), Path("volume.nii.gz")]
    assert len(made) == 2 * 7 + 1
    assert made[:-1] == sorted(path.relative_to(SAMPLE) for path in SAMPLE.rglob("*.mhd"))
    for name in made:
        one, other = (sitk.ReadImage(str(folder / name)) for folder in (tmp_path, SAMPLE))
        assert one.GetOrigin() == other.GetOrigin()
        assert one.GetSpacing() == other.GetSpacing()
        # another processor may round the last bit otherwise, which few voxels show
        assert np.mean(sitk.GetArrayFromImage(one) != sitk.GetArrayFromImage(other)) < 1e-4


def test_the_sample_volumes_are_small():
    assert sum(path.stat().st_size for path in (SAMPLE / "luna16").rglob("*.*raw")) < 1_200_000


def test_no_threshold_parts_the_lungs_from_all_other_air():
    names = [path.name for path in (SAMPLE / "luna16" / "seg-lungs-LUNA16").glob("*.mhd")]
    images = [next((SAMPLE / "luna16").glob(f"subset*/{name}")) for name in names]
    masks = [SAMPLE / "luna16" / "seg-lungs-LUNA16" / name for name in names]
    image, labels = (
        np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in paths]) for paths in (images, masks)
    )
    assert set(np.unique(labels)) == {0, 3, 4, 5}
    lung = (labels == 3) | (labels == 4)
    overlap = [
        2 * (found & lung).sum() / (found.sum() + lung.sum())
        for low in range(-1024, -700, 40)
        for high in range(-800, -200, 40)
        if (found := (image > low) & (image < high)).any()
    ]
    assert 0.5 < max(overlap) < 0.93
