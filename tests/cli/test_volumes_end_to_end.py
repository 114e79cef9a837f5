"""Volumes from published files to masks, through the real command in real processes."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from processes import Unet

from unetcli.runs import read_metrics

SAMPLE = Path(__file__).parents[2] / "sample_data"
SCAN = SAMPLE / "volume.nii.gz"
SETTINGS = """
model: {ndim: 3, base_channels: 4, depth: 3}
data: {patch_size: [16, 32, 32], patches_per_case: 2, foreground_share: 0.5, lower: -1000.0, upper: 400.0}
augmentation: {quarter_turns: false, affine_probability: 0.3, rotation: 10.0}
loss: {dice: 1.0, dice_background: false, dice_per: batch}
optimizer: {learning_rate: 0.01}
train: {steps_per_epoch: 15, epochs: 2, batch_size: 2}
inference: {overlap: 0.25, batch_size: 1}
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Unet:
    """A folder with a dataset of the sample scans and two runs on it."""
    unet = Unet(tmp_path_factory.mktemp("volumes"))
    unet("prepare", "luna16", SAMPLE / "luna16")
    (unet.folder / "small.yaml").write_text(SETTINGS)
    for seed in (1, 2):
        unet("train", "--config", "small.yaml", "--seed", seed, "--output", f"runs/seed{seed}")
    return unet


@pytest.fixture(scope="module")
def masks(workshop) -> Path:
    """The scan segmented by the first run, as NIfTI and as MetaImage."""
    sitk.WriteImage(sitk.ReadImage(str(SCAN)), str(workshop.folder / "scan.mhd"))
    workshop("predict", SCAN, "scan.mhd", "--run", "runs/seed1", "--output", "masks")
    return workshop.folder / "masks"


def test_a_tree_of_luna16_becomes_nifti_by_part(workshop):
    dataset = workshop.folder / "datasets" / "luna16"

    assert sorted(path.name for path in (dataset / "val" / "images").iterdir()) == ["1.3.6.1.4.1.99999.007.nii"]
    assert len(list((dataset / "train" / "seg").iterdir())) == 6
    labels = nib.load(dataset / "val" / "seg" / "1.3.6.1.4.1.99999.007.nii")
    assert set(np.unique(np.asarray(labels.dataobj))) == {0, 1, 2, 3}


def test_a_network_learns_the_lungs_in_a_few_steps(workshop):
    result = json.loads(workshop("eval", "--run", "runs/seed1", "--json").out)

    lungs = [result["statistics"][name] for name in ("left_lung", "right_lung")]
    best = max(lungs, key=lambda lung: lung["dice"]["mean"])
    assert best["dice"]["mean"] > 0.3
    assert 0 < best["assd_mm"]["mean"] <= best["hd95_mm"]["mean"]


def test_a_mask_has_the_grid_of_its_scan_and_the_values_of_the_published_masks(masks):
    scan, mask = nib.load(SCAN), nib.load(masks / "volume.nii.gz")

    np.testing.assert_array_equal(mask.affine, scan.affine)
    assert mask.header["sform_code"] == scan.header["sform_code"]
    assert mask.header["qform_code"] == scan.header["qform_code"]
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 3, 4, 5}


def test_one_scan_in_two_formats_gets_one_mask(masks):
    nifti, metaimage = (sitk.ReadImage(str(masks / name)) for name in ("volume.nii.gz", "scan.mhd"))

    np.testing.assert_array_equal(sitk.GetArrayFromImage(nifti), sitk.GetArrayFromImage(metaimage))
    original = sitk.ReadImage(str(masks.parent / "scan.mhd"))
    assert metaimage.GetOrigin() == original.GetOrigin()
    assert metaimage.GetSpacing() == original.GetSpacing()
    assert metaimage.GetDirection() == original.GetDirection()


def test_runs_are_averaged(workshop):
    def scores_of(*runs: int) -> np.ndarray:
        options = [argument for run in runs for argument in ("--run", f"runs/seed{run}")]
        name = "-".join(map(str, runs))
        workshop("predict", SCAN, *options, "--scores", "--output", f"scores-{name}")
        return nib.load(workshop.folder / f"scores-{name}" / "volume_scores.nii.gz").get_fdata()

    both = scores_of(1, 2)

    np.testing.assert_allclose(both, (scores_of(1) + scores_of(2)) / 2, atol=1e-6)
    np.testing.assert_allclose(both.sum(axis=-1), 1, atol=1e-5)


def test_less_memory_than_it_takes_is_refused_with_the_least_that_does(workshop):
    talk = workshop.refuses("predict", SCAN, "--run", "runs/seed1", "--output", "none", "--max-memory", "50MB", code=2)

    assert "--max-memory 50 MB" in talk
    assert "hint:  allow" in talk
    assert not (workshop.folder / "none").exists()


def test_within_enough_memory_the_plan_is_said_and_the_mask_is_the_same(workshop, masks):
    done = workshop("predict", SCAN, "--run", "runs/seed1", "--output", "planned", "--max-memory", "3GB")

    assert "memory: at most" in done.err
    assert "1 tile of 32 x 48 x 48" in done.err
    planned, free = (nib.load(folder / "volume.nii.gz").get_fdata() for folder in (workshop.folder / "planned", masks))
    np.testing.assert_array_equal(planned, free)


def test_stray_pieces_are_removed_on_demand(workshop):
    done = workshop(
        "predict",
        SCAN,
        "--run",
        "runs/seed1",
        "-o",
        "clean",
        "--keep-largest",
        "--fill-holes",
        "--min-size",
        5000,
        "--json",
    )

    mask = sitk.ReadImage(str(workshop.folder / "clean" / "volume.nii.gz"))
    for value in set(np.unique(sitk.GetArrayFromImage(mask))) - {0}:
        pieces = sitk.ConnectedComponent(mask == int(value), True)
        assert sitk.GetArrayFromImage(pieces).max() == 1
    assert set(json.loads(done.out)["done"][0]["cleaned_voxels"]) == {"keep_largest", "fill_holes", "min_size"}


def test_a_model_file_of_volumes_equals_its_run(workshop):
    for file_format, options in (("MINDIR", []), ("ONNX", ["--dynamic"])):
        done = workshop("export", "--run", "runs/seed1", "--format", file_format, *options, "--json")

        facts = json.loads(done.out)
        assert facts["agreement"]["equal_labels"] == 1
        assert facts["input"]["layout"] == ["batch", "channels", "depth", "height", "width"]


def test_training_on_volumes_goes_on_bit_for_bit(workshop):
    half = workshop.folder / "runs" / "half"
    call = ("train", "--config", "small.yaml", "--seed", 1, "--output", half)
    workshop.signalled(*call, metrics=half / "metrics.jsonl", line=7, number=signal.SIGINT)

    workshop("train", "--resume", half)

    losses = [
        [event["loss"] for event in read_metrics(run / "metrics.jsonl") if event["event"] == "step"]
        for run in (half, workshop.folder / "runs" / "seed1")
    ]
    assert len(losses[0]) == 30
    assert losses[0] == losses[1]


def test_images_for_a_run_on_volumes_are_told_apart(workshop):
    shutil.copy(SAMPLE / "isbi" / "test-volume.tif", workshop.folder / "flat.png")
    (workshop.folder / "flat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))

    talk = workshop.refuses("predict", "flat.png", "--run", "runs/seed1", code=3)

    assert "flat.png: must be NIfTI, MetaImage, NRRD, DICOM or TIF, but is PNG" in talk


def test_a_volume_with_holes_of_nan_is_named_and_the_others_are_done(workshop):
    scan = nib.load(SCAN)
    holed = scan.get_fdata(dtype=np.float32)
    holed[0, 0, :3] = np.nan
    nib.save(nib.Nifti1Image(holed, scan.affine), workshop.folder / "holed.nii.gz")

    done = workshop("predict", "holed.nii.gz", SCAN, "--run", "runs/seed1", "-o", "some", code=6)

    assert "holed.nii.gz: 3 of 73728 voxels are NaN or infinite" in done.err
    assert sorted(path.name for path in (workshop.folder / "some").iterdir()) == ["volume.nii.gz"]


def test_where_no_volume_can_be_segmented_the_data_are_wrong(workshop):
    shutil.copy(workshop.folder / "holed.nii.gz", workshop.folder / "again.nii.gz")

    done = workshop("predict", "holed.nii.gz", "again.nii.gz", "--run", "runs/seed1", "-o", "none", code=3)

    assert "none of the 2 images could be segmented" in done.err


def test_settings_of_volumes_are_checked_against_the_preset_that_the_data_choose(workshop):
    small = ("data.patch_size=[32,48,48]", "model.base_channels=2", "model.depth=2", "model.strides=[[2,2,2]]")
    small += ("model.kernels=[[3,3,3],[3,3,3]]", "train.batch_size=1", "train.steps_per_epoch=1")
    settings = [part for text in small for part in ("--set", text)]

    done = workshop("train", *settings, "--epochs", 1, "--output", "runs/chosen")

    assert "preset: luna16 (named like the data; see --preset)" in done.err
