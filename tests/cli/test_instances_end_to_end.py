"""Objects from training to masks: measured by `unet eval`, and written by `unet predict`."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
import tifffile
from processes import Unet, contents, page_values

from unetcli.core.matching import average_precision, count_objects
from unetcli.evaluation.objects import object_measures

SETTINGS = """
model: {base_channels: 4, depth: 3}
data: {patch_size: [64, 64]}
train: {steps_per_epoch: 25, epochs: 2, batch_size: 4, select_by: instances.mean_average_precision}
optimizer: {learning_rate: 0.02}
"""


def draw(rng, number=10, size=64):
    """Bright discs that touch but do not overlap, and their numbers."""
    places, numbers = np.indices((size, size)), np.zeros((size, size), np.uint16)
    for index in range(1, number + 1):
        y, x = rng.integers(4, size - 4, 2)
        disc = np.hypot(places[0] - y, places[1] - x) <= rng.integers(5, 8)
        numbers[disc & (numbers == 0)] = index
    image = (numbers > 0) * 120 + rng.integers(0, 60, numbers.shape)
    return image.astype(np.uint8), np.unique(numbers, return_inverse=True)[1].reshape(numbers.shape).astype(np.uint16)


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """A folder with a run on made-up nuclei."""
    rng = np.random.default_rng(4)
    unet = Unet(tmp_path_factory.mktemp("nuclei"))
    images, numbers = zip(*(draw(rng) for _ in range(8)), strict=True)
    (unet.folder / "published").mkdir()
    tifffile.imwrite(unet.folder / "published" / "volume.tif", np.stack(images), photometric="minisblack")
    tifffile.imwrite(unet.folder / "published" / "labels-instances.tif", np.stack(numbers), photometric="minisblack")
    unet("prepare", "nuclei", "published", "--validation", 3)
    (unet.folder / "small.yaml").write_text(SETTINGS)
    unet("train", "--config", "small.yaml", "-o", "runs/nuclei")
    return unet


@pytest.fixture(scope="module")
def report(unet):
    return json.loads(unet("eval", "--json").out)


@pytest.fixture(scope="module")
def predicted(unet):
    """What a call made of the stack that the dataset was made from."""
    return json.loads(unet("predict", "published/volume.tif", "-o", "masks", "--instances", "--json").out)["done"][0]


def test_weights_are_selected_by_objects_and_eval_measures_the_same(unet, report):
    events = [json.loads(line) for line in (unet.folder / "runs/nuclei/metrics.jsonl").read_text().splitlines()]
    scores = [event["score"] for event in events if event["event"] == "epoch"]
    assert report["instances"]["mean_average_precision"] == max(scores)


def test_the_objects_that_are_written_have_the_measures_of_eval(unet, report, predicted):
    validation = json.loads((unet.folder / "runs/nuclei/run.json").read_text())["validation"]
    found = page_values(unet.folder / "masks" / "volume_instances.tif")
    true = page_values(unet.folder / "published" / "labels-instances.tif")
    counts = {number: count_objects(true[number], found[number]) for number in map(int, validation)}
    assert object_measures(sum(counts.values(), count_objects(true[0][:0], true[0][:0]))) == report["instances"]
    with (unet.folder / "runs/nuclei/evaluation/validation-best/cases.csv").open() as file:
        rows = {int(row["case"]): float(row["average_precision_50"]) for row in csv.DictReader(file)}
    assert rows == {number: average_precision(each)[0] for number, each in counts.items()}
    assert predicted["num_objects"] == sum(int(page.max()) for page in found)


def test_the_objects_are_of_the_mask_and_numbered_from_1_in_each_page(unet, predicted):
    masks = page_values(unet.folder / predicted["mask"])
    for mask, page in zip(masks, page_values(unet.folder / predicted["instances"]), strict=True):
        assert page.dtype == np.uint16
        assert not page[mask == 0].any()
        assert np.unique(page[page > 0]).tolist() == list(range(1, page.max() + 1))


def test_two_processes_measure_as_one(unet, report):
    shared = json.loads(unet("eval", "--distribute", 2, "--json").out)
    assert shared == report


def test_a_picture_shows_the_outlines_beside_the_faults(unet, report):
    pictures = sorted((unet.folder / report["folder"]).glob("*.png"))
    assert [cv2.imread(str(picture)).shape for picture in pictures] == [(64, 3 * 64, 3)] * 3


def test_another_method_can_be_asked_for(unet, report):
    (unet.folder / "one.png").write_bytes(cv2.imencode(".png", page_values(unet.folder / "published/volume.tif")[0])[1])
    pieces = json.loads(unet("eval", "--instances", "components", "--json").out)
    assert pieces["classes"] == report["classes"]
    assert pieces["instances"]["num_predicted_objects"] < report["instances"]["num_predicted_objects"]
    made = json.loads(unet("predict", "--instances", "components", "one.png", "-o", "pieces", "--json").out)["done"][0]
    mask = cv2.imread(str(unet.folder / made["mask"]), cv2.IMREAD_UNCHANGED)
    numbers, pieces, sizes, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    assert made["num_objects"] == sum(size >= 15 for size in sizes[1:, cv2.CC_STAT_AREA])
    assert numbers - 1 == pieces.max()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("predict one.png --instances=nearest", 2, "'nearest' is no way to tell objects apart; write --instances"),
        ("predict published/volume.tif --instances --export-inputs tiles", 2, "--instances: cannot be with --export"),
        ("predict published/volume.tif -o masks --instances", 2, "already exists"),
    ],
)
@pytest.mark.usefixtures("predicted")
def test_a_call_that_cannot_be_is_refused_and_writes_nothing(unet, arguments, code, says):
    before = contents(unet.folder)
    assert says in " ".join(unet.refuses(*arguments.split(), code=code).replace("│", "").split())
    assert contents(unet.folder) == before


def test_without_true_objects_there_is_nothing_to_measure(workshop, evaluated):
    assert "objects" not in evaluated.out
    err = workshop.unet.refuses("eval", "--instances", code=2)
    assert "--instances: the labels of dataset 'isbi' do not tell objects apart" in err
