"""The sample stack: what is committed is what the script makes, and it is neither trivial nor odd."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unetcli.data.isbi import read_isbi

SAMPLE = Path(__file__).parents[2] / "sample_data"


@pytest.fixture
def script(monkeypatch):
    """The script as a module, though it lies outside the package."""
    spec = importlib.util.spec_from_file_location("make_sample_data", SAMPLE / "make_sample_data.py")
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
