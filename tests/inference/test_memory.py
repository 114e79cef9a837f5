from __future__ import annotations

import json
import math
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.errors import ConfigError
from unetcli.inference import (
    MemoryPlan,
    PredictorCost,
    Separation,
    TilePlan,
    Work,
    bytes_as_text,
    fit_memory,
    plan_memory,
    predict_image,
    predict_labels,
    symmetries_of,
)
from unetcli.inference.blending import piece_bytes

TILES = TilePlan.with_share((96, 256, 256), 0.5, "gaussian", 4)
IMAGE_TILES = TilePlan.with_share((256, 256), 0.5, "gaussian", 4)
VOLUME = Work((1, 400, 512, 512), np.dtype(np.int16), 4)
COST = PredictorCost(resident_bytes=300_000_000, tile_bytes=50_000_000, seconds_per_tile=2.0)
VOXELS, TILE, ROW = 400 * 512 * 512, 96 * 256 * 256, 512 * 512

SEGMENT_A_VOLUME = """
import json, resource, sys
from pathlib import Path
import numpy as np
from unetcli.inference import PredictorCost, TilePlan, Work, fit_memory, predict_labels

def peak():
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says begins with the peak of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def predictor(tiles):
    # the largest of these four lines changes at 100, 200 and 300
    scores = np.empty((len(tiles), 4, *tiles.shape[2:]), np.float32)
    for index in range(4):
        np.multiply(tiles[:, 0], np.float32(index), out=scores[:, index])
        scores[:, index] -= 50 * index * (index + 1)
    return scores

size = (400, 512, 512)
work = Work((1, *size), np.dtype(np.int16), 4)
tiles = TilePlan.with_share((96, 256, 256), 0.5, "gaussian", 4)
plan = fit_memory(work, tiles, PredictorCost(peak()), 2_000_000_000)
image = np.memmap(Path(sys.argv[1]), np.int16, "w+", shape=work.shape)
y, x = np.arange(512)[:, None], np.arange(512)
for z in range(400):
    image[0, z] = (3 * z + y + 2 * x) % 400
labels = predict_labels(image, predictor, plan.tiles)
held = peak()
rng = np.random.default_rng(0)
z, y, x = (rng.integers(0, length, 100_000) for length in size)
found = labels[z, y, x]
expected = np.searchsorted([100, 200, 300], (3 * z + y + 2 * x) % 400)
print(json.dumps({
    "planned": plan.peak_bytes, "held": held, "wrong": int((found != expected).sum()), "shape": labels.shape,
    "dtype": str(labels.dtype), "classes": np.bincount(found).tolist(), "tiles": plan.num_tiles,
}))
"""

SEPARATE_AN_IMAGE = """
import json, resource
from pathlib import Path
import numpy as np
from unetcli.inference import Separation, separate

def peak():
    status = Path("/proc/self/status")
    if status.is_file():  # as above
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

y, x = np.indices((2048, 2048), np.int16)
labels = (np.hypot(y % 24 - 12, x % 22 - 11) < 12).astype(np.uint8)  # discs that touch
del y, x
scores = np.zeros((3, *labels.shape), np.float32)
before = peak()
hows = [Separation((1,), method="components"), Separation((1,), distance=5), Separation((1,), 2)]
for how in hows:  # the one that takes least comes first
    if how.border:
        labels[:, ::11] *= 2
    separate(labels, scores, how)
    print(json.dumps([peak() - before, how.bytes_per_pixel * labels.size]))
"""


def test_a_volume_of_512_x_512_x_400_with_4_classes_keeps_within_2_gb(tmp_path):
    command = [sys.executable, "-c", SEGMENT_A_VOLUME, str(tmp_path / "volume")]
    output = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    facts = json.loads(output)

    assert facts["held"] <= facts["planned"] <= 2_000_000_000
    assert facts["held"] > 0.6 * facts["planned"]
    assert facts["wrong"] == 0
    assert min(facts["classes"]) > 20_000
    assert (facts["shape"], facts["dtype"], facts["tiles"]) == ([400, 512, 512], "uint8", 72)


def test_a_plan_by_hand():
    plan = plan_memory(VOLUME, TILES, COST)

    assert plan == MemoryPlan(
        tiles=TILES,
        num_tiles=8 * 3 * 3,
        num_batches=18,
        num_slabs=8,
        slab_rows=96,
        resident_bytes=300_000_000,
        image_bytes=2 * VOXELS,
        labels_bytes=VOXELS,
        sums_bytes=4 * 4 * 96 * ROW + 8 * ROW + 17 * ROW,
        batch_bytes=4 * ((2 * 2 + 4 + 3 * 4 * 4) * TILE + 50_000_000),
        scratch_bytes=0,
        writing_bytes=0,
        seconds=72 * 2.0,
    )
    assert plan.peak_bytes == 300_000_000 + 3 * VOXELS + plan.sums_bytes + plan.batch_bytes


def test_cleaning_takes_the_place_of_the_slab_and_the_batch():
    plan = plan_memory(replace(VOLUME, cleans=True), replace(TILES, batch_size=1), replace(COST, tile_bytes=0))

    assert plan.scratch_bytes > plan.sums_bytes + plan.batch_bytes
    assert plan.peak_bytes == 300_000_000 + 3 * VOXELS + plan.scratch_bytes


def test_objects_are_told_apart_beside_all_else():
    work = Work((1, 3000, 4000), np.dtype(np.uint8), 2, keeps_scores=True)
    without, within = (
        plan_memory(each, IMAGE_TILES, COST) for each in (work, replace(work, separation=Separation((1,))))
    )

    assert within.objects_bytes == 75 * 3000 * 4000
    assert within.peak_bytes == without.peak_bytes + within.objects_bytes
    assert within.seconds == without.seconds + 3000 * 4000 * Separation((1,)).seconds_per_pixel
    assert "objects 900 MB" in within.describe()[1]


@pytest.mark.parametrize(
    ("how", "num_bytes"),
    [
        (Separation((1,), method="components"), 35),
        (Separation((1,), method="watershed"), 75),
        (Separation((1,), 2, "components"), 75),
        (Separation((1,), 2, "watershed"), 75),
    ],
)
def test_pieces_that_are_only_numbered_take_less_than_those_that_are_parted_or_grown(how, num_bytes):
    plan = plan_memory(Work((1, 64, 64), np.dtype(np.uint8), 3, separation=how), IMAGE_TILES, COST)
    assert plan.objects_bytes == num_bytes * 64 * 64


def test_where_objects_do_not_fit_the_hint_says_what_they_take():
    work = Work((1, 3000, 4000), np.dtype(np.uint8), 2, keeps_scores=True)
    least = plan_memory(work, replace(IMAGE_TILES, batch_size=1), COST).peak_bytes

    assert fit_memory(work, IMAGE_TILES, COST, least).peak_bytes == least
    with pytest.raises(ConfigError) as caught:
        fit_memory(replace(work, separation=Separation((1,))), IMAGE_TILES, COST, least)

    assert caught.value.hint.endswith(", or leave out --instances, which takes 900 MB")


def test_what_telling_objects_apart_takes_is_within_the_plan(tmp_path):
    (tmp_path / "separate.py").write_text(SEPARATE_AN_IMAGE)
    done = subprocess.run([sys.executable, tmp_path / "separate.py"], capture_output=True, text=True, check=True)
    for taken, planned in map(json.loads, done.stdout.splitlines()):
        assert taken <= planned


def test_writing_takes_the_place_of_the_slab_where_its_copies_are_more():
    plan = plan_memory(replace(VOLUME, writes=True), replace(TILES, batch_size=1), replace(COST, tile_bytes=0))

    assert plan.writing_bytes == 5 * VOXELS
    assert plan.peak_bytes == 300_000_000 + 3 * VOXELS + max(plan.sums_bytes + plan.batch_bytes, 5 * VOXELS)


def test_forms_take_time_and_one_batch_more():
    once, eight = plan_memory(VOLUME, TILES, COST), plan_memory(replace(VOLUME, num_forms=8), TILES, COST)

    assert eight.seconds == 8 * once.seconds
    assert eight.batch_bytes - once.batch_bytes == 4 * (2 + 4 * 4) * TILE


def test_the_last_batch_is_filled_up_and_takes_as_long():
    work, tiles = Work((1, 70, 30), np.dtype(np.float32), 2), TilePlan.with_share((16, 16), 0, "constant", 4)

    plan = plan_memory(work, tiles, replace(COST, seconds_per_tile=1.0))

    assert (plan.num_tiles, plan.num_batches, plan.seconds) == (10, 3, 12.0)


def test_a_single_tile_needs_no_sums():
    assert plan_memory(
        Work((1, 16, 16), np.dtype(np.uint8), 2), TilePlan.with_share((16, 16), 0, "constant", 4), COST
    ) == (
        MemoryPlan(
            TilePlan.with_share((16, 16), 0, "constant", 4),
            1,
            1,
            1,
            16,
            300_000_000,
            256,
            256,
            0,
            50_005_376,
            0,
            0,
            2.0,
        )
    )


def test_batches_shrink_until_they_fit():
    least = plan_memory(VOLUME, replace(TILES, batch_size=1), COST).peak_bytes
    of_two = plan_memory(VOLUME, replace(TILES, batch_size=2), COST).peak_bytes

    assert fit_memory(VOLUME, TILES, COST, 10**10).tiles == TILES
    assert fit_memory(VOLUME, TILES, COST, of_two).tiles.batch_size == 2
    assert fit_memory(VOLUME, TILES, COST, of_two - 1).tiles.batch_size == 1
    assert fit_memory(VOLUME, TILES, COST, least).peak_bytes == least


def test_a_budget_that_is_too_small_is_told_the_least_that_would_do():
    least = plan_memory(VOLUME, replace(TILES, batch_size=1), COST).peak_bytes

    with pytest.raises(ConfigError) as caught:
        fit_memory(VOLUME, TILES, COST, least - 1)

    needed = bytes_as_text(least, up=True)
    assert f"needs {needed} even with tiles one by one" in str(caught.value)
    assert "400 x 512 x 512 with 4 classes" in str(caught.value)
    assert caught.value.hint.startswith(f"allow {needed}")


def test_a_budget_of_a_few_bytes_is_told_as_such():
    with pytest.raises(ConfigError, match="--max-memory 2 bytes: an image of"):
        fit_memory(VOLUME, TILES, COST, 2)


def test_objects_are_named_as_what_could_be_left_out_where_that_would_do():
    work = Work((1, 3000, 4000), np.dtype(np.uint8), 2, separation=Separation((1,)))
    least = plan_memory(work, replace(IMAGE_TILES, batch_size=1), COST)
    for budget, helps in ((least.peak_bytes - 900_000_000, True), (least.peak_bytes - 900_000_001, False)):
        with pytest.raises(ConfigError) as caught:
            fit_memory(work, IMAGE_TILES, COST, budget)
        assert ("leave out --instances, which takes 900 MB" in caught.value.hint) == helps


def test_the_budget_named_in_the_hint_does():
    with pytest.raises(ConfigError) as caught:
        fit_memory(VOLUME, TILES, COST, 10**9)

    number = float(caught.value.hint.split()[1])
    assert fit_memory(VOLUME, TILES, COST, round(number * 1e9)).tiles.batch_size == 1


def test_a_plan_is_told_in_three_lines():
    plan = plan_memory(replace(VOLUME, cleans=True), TILES, COST)

    assert plan.describe() == (
        "72 tiles of 96 x 256 x 256 in 18 batches, 8 slabs of at most 96 rows",
        "memory: at most 2.63 GB (process 300 MB, image 210 MB, labels 105 MB, slab 409 MB, batch 1.61 GB, "
        "cleaning 864 MB)",
        "time: about 3 min",
    )


def test_a_plan_without_a_clock_says_nothing_of_time():
    tiles = TilePlan.with_share((16, 16), 0, "constant", 4)

    lines = plan_memory(Work((1, 16, 16), np.dtype(np.uint8), 2), tiles, PredictorCost(50_000_000)).describe()

    assert lines == (
        "1 tile of 16 x 16 in 1 batch, 1 slab of at most 16 rows",
        "memory: at most 50 MB (process 50 MB, image 0 MB, labels 0 MB, batch 0 MB)",
    )


@pytest.mark.parametrize(
    ("number", "up", "expected"),
    [
        (0, False, "0 MB"),
        (1_400_000, False, "1 MB"),
        (1_400_000, True, "2 MB"),
        (999_999_999, True, "1000 MB"),
        (1_234_000_000, False, "1.23 GB"),
        (1_231_000_000, True, "1.24 GB"),
        (2_000_000_000, True, "2 GB"),
    ],
)
def test_bytes_are_told_in_thousands(number, up, expected):
    assert bytes_as_text(number, up=up) == expected


def test_an_image_of_other_axes_than_the_tile_is_named():
    with pytest.raises(ValueError, match=r"got \(1, 16, 16\)"):
        plan_memory(Work((1, 16, 16), np.dtype(np.uint8), 2), TILES, COST)


@given(st.data())
def test_the_peak_of_arrays_is_what_was_planned_or_less(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    side = {2: 128, 3: 24}[ndim]
    size = data.draw(st.tuples(*[st.integers(side, 4 * side)] * ndim))
    tiles = TilePlan.with_share(
        (side,) * ndim, data.draw(st.sampled_from([0.0, 0.25, 0.5])), "gaussian", data.draw(st.integers(1, 4))
    )
    symmetries = data.draw(st.sampled_from([None, symmetries_of(ndim, axes=(0,))]))
    keeps_scores = data.draw(st.booleans())
    image = np.zeros((2, *size), dtype=np.int16)
    num_forms = len(symmetries) if symmetries else 1
    work = Work(image.shape, image.dtype, 3, num_forms=num_forms, keeps_scores=keeps_scores)
    plan = plan_memory(work, tiles, PredictorCost(0))

    tracemalloc.start()
    if keeps_scores:
        predict_image(image, _three_scores, tiles, tta=symmetries or False)
    else:
        predict_labels(image, _three_scores, tiles, symmetries=symmetries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    scores_or_labels = plan.labels_bytes - keeps_scores * image[0].size  # which `predict_image` does not make
    sums = plan.sums_bytes - piece_bytes(side, math.prod(size[1:])) * (plan.num_tiles > 1)
    assert scores_or_labels + sums < peak + 50_000
    assert peak < plan.peak_bytes - plan.image_bytes + 100_000  # Python's own, and its threads


def _three_scores(tiles):
    return np.repeat(tiles[:, :1].astype(np.float32), 3, axis=1)
