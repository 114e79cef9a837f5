from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unetcli.config import ModelSettings
from unetcli.errors import ConfigError
from unetcli.inference import (
    PredictorCost,
    TileRules,
    Work,
    common_tiles,
    effective_halo,
    fit_memory,
    largest_tiles,
    plan_memory,
    predict_image,
    tile_cost,
)
from unetcli.inference.automatic import BATCH_BYTES
from unetcli.inference.tiles import lay_out

VOLUMES = TileRules((8, 8, 8), (8, 8, 8), (64, 64, 64), bytes_per_pixel=448)
IMAGES = TileRules((16, 16), (16, 16), (256, 256), bytes_per_pixel=448)


def work(size, dtype=np.int16, num_classes=4):
    return Work((1, *size), np.dtype(dtype), num_classes)


def num_pixels(size, plan):
    return lay_out(size, plan).num_tiles * math.prod(plan.tile_size)


@pytest.mark.parametrize(
    ("size", "rules", "tile", "num_tiles"),
    [
        ((36, 50, 35), VOLUMES, (40, 56, 40), 1),
        ((64, 88, 90), VOLUMES, (64, 88, 96), 1),
        ((160, 256, 256), VOLUMES, (64, 96, 96), 27),
        ((512, 512), IMAGES, (512, 512), 1),
        ((520, 696), IMAGES, (528, 704), 1),
        ((100, 30), IMAGES, (112, 32), 1),
        ((1024, 1024), IMAGES, (528, 1024), 2),
        ((1, 1), IMAGES, (16, 16), 1),
    ],
)
def test_largest_tiles_by_hand(size, rules, tile, num_tiles):
    plan = largest_tiles(work(size), rules)

    assert plan.tile_size == tile
    assert plan.batch_size == 1
    assert lay_out(size, plan).num_tiles == num_tiles


@st.composite
def images_and_rules(draw):
    ndim = draw(st.sampled_from([2, 3]))
    axes = st.tuples(*[st.sampled_from([1, 2, 4])] * ndim)
    rules = TileRules(
        stride=draw(axes),
        halo=draw(st.tuples(*[st.integers(0, 5)] * ndim)),
        least=draw(st.tuples(*[st.integers(1, 20)] * ndim)),
        bytes_per_pixel=draw(st.sampled_from([10, 100, 1000])),
        margin=draw(st.sampled_from([0, 0, 3])),
        remainder=draw(st.sampled_from([0, 0, 1])),
    )
    size = draw(st.tuples(*[st.integers(1, 60 if ndim == 2 else 30)] * ndim))
    return work(size, num_classes=2), rules


@given(images_and_rules(), st.integers(1, 2000))
def test_tiles_fit_the_memory_the_network_and_the_halo(case, thousands):
    image, rules = case
    budget = PredictorCost(1000, tile_bytes=500)
    try:
        plan = largest_tiles(image, rules, budget, 1000 * thousands)
    except ConfigError:
        assume(False)

    cost = tile_cost(budget, plan, rules)
    assert cost.tile_bytes == 500 + rules.bytes_per_pixel * math.prod(plan.tile_size)
    assert plan_memory(image, plan, cost).peak_bytes <= 1000 * thousands
    layout = lay_out(image.shape[1:], plan)
    axes = zip(layout.axis_starts, plan.tile_size, plan.output_size, rules.stride, rules.halo, strict=True)
    for starts, length, output, stride, halo in axes:
        assert (length - rules.remainder) % stride == 0
        assert all(second - first <= output - 2 * halo for first, second in itertools.pairwise(starts))
        assert len(starts) == 1 or not any(plan.step) or all(start % stride == 0 for start in starts)


@given(images_and_rules(), st.integers(20, 1000))
def test_no_other_tiles_that_fit_compute_fewer_pixels(case, thousands):
    image, rules = case
    size = image.shape[1:]
    assume(len(size) == 2)
    try:
        plan = largest_tiles(image, rules, budget=1000 * thousands)
    except ConfigError:
        assume(False)
    assume(any(plan.step))  # or it is a small image that is cut into patches
    assume(all(a >= b or a >= c for a, b, c in zip(plan.tile_size, rules.least, size, strict=True)))

    fewest = num_pixels(size, plan)
    eaten = 2 * rules.margin
    ranges = [
        range(rules.remainder, length + eaten + 2 * stride, stride)
        for length, stride in zip(size, rules.stride, strict=True)
    ]
    for tile in itertools.product(*ranges):
        outputs = [length - eaten for length in tile]
        repeated = [
            0 if length <= output else 2 * halo for length, output, halo in zip(size, outputs, rules.halo, strict=True)
        ]
        is_legal = all(
            output - overlap >= stride and (length >= least or output >= whole)
            for length, output, overlap, stride, least, whole in zip(
                tile, outputs, repeated, rules.stride, rules.least, size, strict=True
            )
        )
        if not is_legal:
            continue
        other = type(plan)(tile, tuple(repeated), "gaussian", 1, rules.margin, rules.stride)
        fits = plan_memory(image, other, tile_cost(PredictorCost(0), other, rules)).peak_bytes <= 1000 * thousands
        assert not fits or num_pixels(size, other) >= fewest


def test_equal_images_have_equal_plans():
    assert largest_tiles(work((200, 300, 310)), VOLUMES) == largest_tiles(work((200, 300, 310)), VOLUMES)


def test_without_a_budget_a_tile_takes_what_is_usual_but_for_the_least_one():
    plan = largest_tiles(work((400, 512, 512)), VOLUMES)
    memory = plan_memory(work((400, 512, 512)), plan, tile_cost(PredictorCost(0), plan, VOLUMES))
    assert 0.9 * BATCH_BYTES < memory.batch_bytes <= BATCH_BYTES

    wide = TileRules((8, 8, 8), (8, 8, 8), (128, 128, 128), bytes_per_pixel=1000)
    assert largest_tiles(work((400, 512, 512)), wide).tile_size == (128, 128, 128)


def test_tiles_become_smaller_than_the_least_where_the_budget_demands_it():
    image = work((400, 512, 512))
    resident = plan_memory(image, largest_tiles(image, VOLUMES), PredictorCost(0)).image_bytes * 3 // 2

    plan = largest_tiles(image, VOLUMES, PredictorCost(0), resident + 200_000_000)

    assert min(plan.tile_size) < 64
    assert plan_memory(image, plan, tile_cost(PredictorCost(0), plan, VOLUMES)).peak_bytes <= resident + 200_000_000


def test_a_budget_that_is_too_small_for_any_tile_is_told_the_least_that_would_do():
    image = work((160, 256, 256))

    with pytest.raises(ConfigError) as caught:
        largest_tiles(image, VOLUMES, PredictorCost(0), 10_000_000)

    number, unit = caught.value.hint.split()[1:3]
    budget = int(number) * {"MB,": 10**6}[unit]
    plan = largest_tiles(image, VOLUMES, PredictorCost(0), budget)
    assert plan.tile_size == (24, 24, 24)  # an overlap of 16 and one stride
    assert fit_memory(image, plan, tile_cost(PredictorCost(0), plan, VOLUMES), budget).tiles == plan


@pytest.mark.parametrize(
    "model",
    [
        ModelSettings(architecture="unet_valid", depth=5),
        ModelSettings(architecture="unet_valid", depth=3),
        ModelSettings(depth=4),
        ModelSettings(ndim=3, depth=3, strides=((1, 2, 2), (2, 2, 2))),
    ],
)
@pytest.mark.parametrize("side", [1, 50, 300, 1111])
def test_networks_take_the_tiles(model, side):
    halo = (0,) * model.ndim if model.margin else effective_halo(model.reach)
    rules = TileRules(model.stride, halo, (188,) * model.ndim, 1000, model.margin, model.remainder)

    plan = largest_tiles(work((side, 200, 180)[-model.ndim :]), rules)

    model.check_size("tile", plan.tile_size)


def test_tiles_that_begin_at_multiples_of_the_stride_pool_the_same_pixels_as_the_whole(rng):
    image = rng.integers(0, 100, (1, 60, 52)).astype(np.float32)
    rules = TileRules((4, 4), (2, 2), (8, 8), bytes_per_pixel=4000)

    def pooled(tiles):
        rows, columns = tiles.shape[2:]
        largest = tiles.reshape(1, 1, rows // 4, 4, columns // 4, 4).max(axis=(3, 5))
        return largest.repeat(4, axis=2).repeat(4, axis=3)

    plan = largest_tiles(work((60, 52)), rules, budget=2_000_000)
    scores = predict_image(image, pooled, plan)

    assert lay_out((60, 52), plan).num_tiles > 8
    np.testing.assert_allclose(scores, pooled(image[None])[0], rtol=1e-6)


def test_an_image_of_other_axes_than_the_rules_is_named():
    with pytest.raises(ValueError, match=r"got \(1, 20, 20\)"):
        largest_tiles(work((20, 20)), VOLUMES)


def test_the_halo_is_a_seventh_of_the_reach():
    assert effective_halo(ModelSettings(depth=5).reach) == (16, 16)
    assert effective_halo(ModelSettings(ndim=3, depth=4).reach) == (8, 8, 8)


def test_common_tiles_are_those_with_which_all_images_together_take_the_fewest_pixels():
    sizes = [(40, 56, 40), (40, 56, 80), (40, 60, 70)]
    rules = TileRules((8, 8, 8), (4, 4, 4), (32, 32, 32), bytes_per_pixel=1500)

    plan = common_tiles([work(size) for size in sizes], rules)

    assert plan.tile_size == (40, 56, 40)
    assert [lay_out(size, plan).num_tiles for size in sizes] == [1, 3, 4]


def test_common_tiles_are_no_longer_than_the_shortest_image_needs():
    sizes = [(36, 50, 35), (33, 60, 40), (43, 49, 30)]

    assert common_tiles([work(size) for size in sizes], VOLUMES).tile_size == (40, 56, 32)
    with pytest.raises(ValueError, match="no images"):
        common_tiles([], VOLUMES)


def test_a_small_volume_that_would_be_mirrored_much_is_cut_into_overlapping_patches():
    rules = TileRules(stride=(8, 8, 8), halo=(8, 8, 8), least=(32, 48, 32), bytes_per_pixel=300)

    plan = largest_tiles(Work((1, 36, 50, 35), np.dtype(np.float32), 3), rules)

    assert plan.tile_size == (32, 48, 32)
    assert plan.overlap == (16, 24, 16)


@pytest.mark.parametrize("size", [(40, 56, 40), (32, 48, 30), (20, 20, 20), (36, 100, 35)])
def test_a_volume_that_is_mirrored_little_or_no_larger_than_a_patch_or_long_is_not(size):
    rules = TileRules(stride=(8, 8, 8), halo=(8, 8, 8), least=(32, 48, 32), bytes_per_pixel=300)

    plan = largest_tiles(Work((1, *size), np.dtype(np.float32), 3), rules)

    assert plan.tile_size == tuple(-(-length // 8) * 8 for length in size)
