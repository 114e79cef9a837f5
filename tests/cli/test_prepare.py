"""`unet prepare`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from typer.testing import CliRunner

from unetcli.cli.prepare import app
from unetcli.core.weight_map import balanced_weights, border_weights
from unetcli.data.manifest import load_manifest, load_split
from unetcli.errors import ConfigError, DataError

SAMPLE = Path(__file__).parents[2] / "sample_data" / "isbi"


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `prepare` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_defaults_work_as_they_stand(invoke, tmp_path):
    shutil.copytree(SAMPLE, tmp_path / "data" / "isbi")

    result = invoke("isbi")

    assert result.exit_code == 0, result.exception
    manifest = load_manifest(tmp_path / "datasets" / "isbi")
    assert (manifest.split_method, len(manifest.splits), manifest.name) == ("block", 5, "isbi")
    train, validation = load_split(tmp_path / "datasets" / "isbi", manifest, 0)
    published = tifffile.imread(SAMPLE / "train-volume.tif")
    np.testing.assert_array_equal(np.stack([case.image[0] for case in validation + train]), published)
    assert "slices        12 of 192 x 192 px, uint8" in result.stdout
    assert "validating on 0 1; 2 3; 4 5 6; 7 8; 9 10 11" in result.stdout
    assert result.stderr.splitlines() == ["reading data/isbi"]


def test_json_is_all_that_standard_output_holds(invoke, tmp_path):
    volume = tifffile.imread(SAMPLE / "train-volume.tif")
    volume[7] = volume[0]
    (tmp_path / "source").mkdir()
    tifffile.imwrite(tmp_path / "source" / "train-volume.tif", volume)
    shutil.copy(SAMPLE / "train-labels.tif", tmp_path / "source")

    result = invoke("isbi", "source", "-o", "out", "--split", "zoo", "--folds", 3, "--json")

    summary = json.loads(result.stdout)
    assert {name: summary[name] for name in ("dataset", "written", "slices", "size", "dtype", "split", "folds")} == {
        "dataset": "out",
        "written": True,
        "slices": 12,
        "size": [192, 192],
        "dtype": "uint8",
        "split": "zoo",
        "folds": 3,
    }
    assert sum(summary["class_shares"].values()) == pytest.approx(1)
    (warning,) = summary["warnings"]
    assert warning.startswith("images of slice-000, slice-007 are the same, but their labels differ")
    assert f"warning: {warning}" in result.stderr


def test_a_dry_run_writes_nothing_and_loads_no_mindspore(tmp_path):
    code = (
        f"import sys; from typer.testing import CliRunner; from unetcli.cli.prepare import app;"
        f"result = CliRunner().invoke(app, ['isbi', {str(SAMPLE)!r}, '--dry-run']); print(result.stdout);"
        f"sys.exit(result.exit_code or 'mindspore' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "would write   datasets/isbi" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_asked(invoke):
    assert invoke("isbi", SAMPLE).exit_code == 0
    refused = invoke("isbi", SAMPLE, "--folds", 3)
    assert isinstance(refused.exception, ConfigError)
    assert "will need" not in invoke("isbi", SAMPLE, "--dry-run", "--overwrite").stderr
    assert "datasets/isbi exists; to write it will need --overwrite" in invoke("isbi", SAMPLE, "--dry-run").stderr
    assert len(load_manifest(Path("datasets/isbi")).splits) == 5
    assert invoke("isbi", SAMPLE, "--folds", 3, "--overwrite").exit_code == 0
    assert len(load_manifest(Path("datasets/isbi")).splits) == 3


def test_a_refused_source_leaves_nothing_behind(invoke, tmp_path):
    result = invoke("isbi")
    assert isinstance(result.exception, DataError)
    assert "data/isbi: no such folder" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


COMMON = ("--output", "--folds", "--dry-run", "--overwrite", "--json")
OF_VOLUMES = (*COMMON, "--seed", "--spacing", "--compress", "--jobs", "--strict")
OPTIONS = {
    "isbi": (*COMMON, "--split"),
    "luna16": (*OF_VOLUMES, "--label"),
    "msd": (*OF_VOLUMES, "--mirror"),
    "folder": (*OF_VOLUMES, "--label", "--mirror", "--images", "--masks", "--volumes", "--group-by"),
}


@pytest.mark.parametrize(("source", "options"), OPTIONS.items(), ids=OPTIONS)
def test_help_names_every_option(invoke, source, options):
    text = invoke(source, "--help").stdout
    for option in options:
        assert option in text
    assert source in invoke("--help").stdout


def test_pixels_between_the_pieces_of_a_slice_weigh_more(invoke, tmp_path):
    result = invoke("isbi", SAMPLE, "-o", "out", "--weight-map", "--weight-map-sigma", 3)

    assert result.exit_code == 0, result.exception
    assert "weight map    classes balanced, w0 10, sigma 3 px" in result.stdout
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.weight_map.w0, manifest.weight_map.sigma, manifest.has_instances) == (10, 3, False)
    balance = balanced_weights(np.array(manifest.class_shares) * 1e9)
    for case in load_split(tmp_path / "out", manifest, 0)[1]:
        pieces, _ = ndimage.label(case.labels == 1)
        expected = border_weights(case.labels, pieces, balance, sigma=3)
        np.testing.assert_allclose(case.weights, expected, rtol=1e-5)
        assert case.weights[case.labels == 0].max() > 5
