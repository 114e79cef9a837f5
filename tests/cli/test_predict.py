"""`unet predict`: masks in the form of their images, whatever their size; one bad file spoils no batch."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from processes import SAMPLE, contents, page_values

from unetcli.cli.predict.pages import segment
from unetcli.config import Config, with_values
from unetcli.data.formats.masks import Outputs

VOLUME = tifffile.imread(SAMPLE / "test-volume.tif")
RESOLUTION = {"resolution": (254000, 127000), "resolutionunit": "CENTIMETER"}


@pytest.fixture(scope="module")
def batch(workshop, tmp_path_factory):
    """What a call made of a folder of a small PNG and two bad files, and of a stack of odd size beside it."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "small.png"), VOLUME[0, :41, :30])
    (folder / "images" / "bad.png").write_bytes(b"no image")
    whole = (SAMPLE / "test-volume.tif").read_bytes()
    (folder / "images" / "cut.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(folder / "stack.tif", VOLUME[:3, :71, :133], photometric="minisblack", **RESOLUTION)
    images = (folder / "images", folder / "stack.tif")
    done = workshop.unet("predict", *images, "-o", folder / "masks", "--scores", "--json", code=6)
    return folder, done


def test_the_good_images_are_done_and_whole_and_the_bad_ones_are_named(batch):
    folder, done = batch
    report = json.loads(done.out)
    assert {entry["image"]: entry["pages"] for entry in report["done"]} == {
        str(folder / "images" / "small.png"): 1,
        str(folder / "stack.tif"): 3,
    }
    bad, cut = (str(folder / "images" / name) for name in ("bad.png", "cut.tif"))
    assert report["failed"][bad] == f"{bad}: must be TIF, PNG or JPEG, but begins with 'no image'"
    assert report["failed"][cut].startswith(f"{cut}: damaged or cut off")
    for reason in report["failed"].values():
        assert f"error: {reason}\n" in done.err
    assert done.err.endswith(f"error: 2 of 4 images failed: {bad}, {cut}\n")
    made = {path.name for path in (folder / "masks").iterdir()}
    assert made == {"small.png", "small_scores.tif", "stack.tif", "stack_scores.tif"}


def test_within_memory_the_plan_for_pages_of_one_size_is_said_once(workshop, batch):
    stack = batch[0] / "stack.tif"
    done = workshop.unet("predict", stack, "-o", batch[0] / "planned", "--max-memory", "2GB")
    assert done.err.count("memory: at most") == 1
    assert tifffile.imread(batch[0] / "planned" / "stack.tif").shape == (3, 71, 133)


@pytest.mark.parametrize(("num_pages", "planned"), [(1, 1), (2, 2), (5, 3)])
def test_so_many_pages_are_planned_for_as_a_file_has_but_no_more_than_meet(tmp_path, num_pages, planned):
    class PlannedError(Exception):
        """Ends the prediction as soon as its plan is asked for."""

    def work(*_, num_pages, **__):
        raise PlannedError(num_pages)

    tifffile.imwrite(tmp_path / "a.tif", VOLUME[:num_pages, :8, :8], photometric="minisblack")
    segmenter = SimpleNamespace(config=with_values(Config(), {"data.normalization": "zscore"}))
    facts = SimpleNamespace(channels=("grey",), classes=("a", "b"))
    wishes = SimpleNamespace(facts=facts, values=[0, 255], segmenter=segmenter, work=work)

    with pytest.raises(PlannedError) as caught:
        segment(Outputs(tmp_path / "a.tif", tmp_path / "mask.tif"), wishes)
    assert caught.value.args == (planned,)


def test_a_tif_becomes_a_tif_with_its_pages_its_size_and_its_resolution(batch):
    folder, _ = batch
    with tifffile.TiffFile(folder / "stack.tif") as image, tifffile.TiffFile(folder / "masks" / "stack.tif") as mask:
        assert len(mask.pages) == 3
        for page, made in zip(image.pages, mask.pages, strict=True):
            assert made.shape == page.shape == (71, 133)
            assert made.dtype == np.uint8
            for tag in ("XResolution", "YResolution", "ResolutionUnit"):
                assert made.tags[tag].value == page.tags[tag].value
    assert set(np.unique(page_values(folder / "masks" / "stack.tif"))) <= {0, 255}


def test_a_png_smaller_than_a_tile_becomes_a_png_of_its_size(batch):
    mask = cv2.imread(str(batch[0] / "masks" / "small.png"), cv2.IMREAD_UNCHANGED)
    assert (mask.shape, mask.dtype) == ((41, 30), np.uint8)
    assert set(np.unique(mask)) <= {0, 255}


def test_a_mask_is_where_the_score_of_its_class_is_the_higher_one(batch):
    folder, _ = batch
    masks = page_values(folder / "masks" / "stack.tif")
    masks.append(cv2.imread(str(folder / "masks" / "small.png"), cv2.IMREAD_UNCHANGED))
    scores = page_values(folder / "masks" / "stack_scores.tif") + page_values(folder / "masks" / "small_scores.tif")
    assert {page.dtype for page in scores} == {np.dtype(np.float32)}
    for mask, score in zip(masks, scores, strict=True):
        assert 0 <= score.min() < score.max() <= 1
        is_told = np.abs(score - 0.5) > 1e-6
        np.testing.assert_array_equal((mask == 255)[is_told], (score > 0.5)[is_told])


def test_the_shares_that_are_told_are_those_of_the_masks(batch):
    folder, done = batch
    entry = next(entry for entry in json.loads(done.out)["done"] if entry["image"].endswith("stack.tif"))
    assert entry["class_shares"]["cell"] == np.mean(np.stack(page_values(folder / "masks" / "stack.tif")) == 255)


def test_flips_and_turns_are_averaged_when_asked_for(workshop, batch, tmp_path):
    folder, _ = batch
    workshop.unet("predict", folder / "images" / "small.png", "--tta", "--scores", "-o", tmp_path)
    (plain,), (averaged,) = (page_values(path / "small_scores.tif") for path in (folder / "masks", tmp_path))
    assert averaged.shape == plain.shape
    assert 0 < np.abs(averaged - plain).max() < 1


# what it refuses


@pytest.mark.usefixtures("predicted")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("nowhere.tif", 3, "nowhere.tif: no such file or folder"),
        ("runs", 3, "runs: no images in this folder"),
        ("validation.tif", 2, "masks/validation.tif: already exists\nhint:  name another place, or add --overwrite"),
        ("validation.tif -o .", 2, "validation.tif: is an image to segment, and would be replaced"),
        ("validation.tif -o small.yaml", 2, "--output small.yaml: is a file, not a folder for masks"),
        ("validation.tif -o new --run nowhere", 4, "nowhere: not a run folder"),
        ("validation.tif -o new --run small.yaml", 4, "small.yaml: not a run folder"),
        ("validation.tif -o new --checkpoint nowhere.ckpt", 4, "nowhere.ckpt: no such checkpoint"),
    ],
)
def test_a_call_that_cannot_be_is_refused_and_writes_nothing(workshop, arguments, code, says):
    before = contents(workshop.folder / "masks")
    assert says in workshop.unet.refuses("predict", *arguments.split(), code=code)
    assert contents(workshop.folder / "masks") == before
    assert not (workshop.folder / "new").exists()


def test_a_single_image_that_is_none_is_bad_data(workshop):
    err = workshop.unet.refuses("predict", "small.yaml", "-o", "new", code=3)
    assert "small.yaml: must be TIF, PNG or JPEG, but begins with '\\nmodel: '" in err
    assert not (workshop.folder / "new").exists()


def test_a_checkpoint_that_is_cut_off_is_refused(workshop, tmp_path):
    run = shutil.copytree(workshop.run, tmp_path / "run")
    whole = (run / "best.ckpt").read_bytes()
    (run / "best.ckpt").write_bytes(whole[: len(whole) // 2])
    err = workshop.unet.refuses("predict", "validation.tif", "-r", run, "-o", tmp_path / "masks", code=4)
    assert f"{run}/best.ckpt: cannot be read as a checkpoint" in err
    assert not (tmp_path / "masks").exists()
