"""The runner of a bundle computes what unet computes, bit for bit; it shares no line with it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unetcli.core.normalization import fit_normalization
from unetcli.core.tiling import axis_weights, mirrored_indices, tile_starts
from unetcli.data.formats.images import open_image
from unetcli.deployment import runner
from unetcli.errors import DataError
from unetcli.inference import TilePlan, predict_image, symmetries_of

METHODS = ("range", "percentile", "zscore")


def facts_of(plan, symmetries=None, num_channels=1):
    forms = [[turns, list(axes)] for turns, axes in symmetries.forms] if symmetries else [[0, []]]
    return {
        "input": {"shape": [1, num_channels, *plan.tile_size]},
        "output": {"shape": [1, 3, *plan.output_size]},
        "tiling": {
            "overlap_pixels": list(plan.overlap),
            "blending": plan.blending,
            "border_pixels_eaten": plan.margin,
        },
        "symmetries": {"forms": forms, "pairs": list(symmetries.pairs) if symmetries else []},
        "classes": [{"value": value} for value in (0, 3, 255)],
    }


def network(margin):
    """Three scores that differ from place to place in a tile."""

    def score(tiles):
        inside = tiles[(slice(None), slice(None), *[slice(margin, n - margin) for n in tiles.shape[2:]])].mean(axis=1)
        place = np.linspace(0, 1, inside[0].size, dtype=np.float32).reshape(inside.shape[1:])
        return np.stack([inside, np.cos(inside + place), inside * place], axis=1).astype(np.float32)

    return score


@given(st.data())
def test_tiles_are_cut_and_blended_as_in_a_prediction_bit_for_bit(data):
    ndim = data.draw(st.integers(2, 3), "axes")
    margin = data.draw(st.integers(0, 2), "margin")
    tile = tuple(data.draw(st.integers(2 * margin + 1, 8), "tile") for _ in range(ndim))
    share = data.draw(st.sampled_from([0, 0.25, 0.5]), "share")
    blending = data.draw(st.sampled_from(["gaussian", "constant"]), "blending")
    size = tuple(data.draw(st.integers(1, 13), "size") for _ in range(ndim))
    plan = TilePlan.with_share(tile, share, blending, 1, margin)
    image = np.random.default_rng(len(size)).normal(size=(2, *size)).astype(np.float32)

    expected = predict_image(image, network(margin), plan)

    np.testing.assert_array_equal(runner.score_image(image, network(margin), facts_of(plan, None, 2), 0), expected)


@pytest.mark.parametrize("lateral_axis", [None, 0, 1, 2])
def test_forms_of_a_tile_are_averaged_as_in_a_prediction_bit_for_bit(rng, lateral_axis):
    pairs = None if lateral_axis is None else (0, 2, 1)
    symmetries = symmetries_of(3, lateral_axis=lateral_axis, pairs=pairs)
    plan = TilePlan.with_share((4, 6, 5), 0.5, "gaussian", 1)
    image = rng.normal(size=(1, 6, 9, 7)).astype(np.float32)

    expected = predict_image(image, network(0), plan, tta=symmetries)

    scores = runner.score_image(image, network(0), facts_of(plan, symmetries), lateral_axis or 0)
    np.testing.assert_array_equal(scores, expected)


def test_quarter_turns_are_averaged_as_in_a_prediction_bit_for_bit(rng):
    plan = TilePlan.with_share((6, 6), 0.25, "constant", 1)
    image = rng.normal(size=(1, 9, 14)).astype(np.float32)

    expected = predict_image(image, network(0), plan, tta=True)

    np.testing.assert_array_equal(runner.score_image(image, network(0), facts_of(plan, symmetries_of(2)), 1), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_intensities_are_normalised_as_in_training_bit_for_bit(rng, method, dtype):
    image = (rng.random((3, 9, 31)) * 250).astype(dtype)
    image[1] = 7  # a channel of one value
    image[2, :, 1:] = 3  # one that is nearly so
    expected = fit_normalization(image, method, 20.0, 200.0, output_range=(-1.0, 2.0))(image)
    how = {"method": method, "lower": 20.0, "upper": 200.0, "percentiles": [1.0, 99.0], "output_range": [-1.0, 2.0]}

    values = runner.normalise(image, {"normalization": how})

    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, expected)


@given(st.integers(1, 40), st.integers(0, 90), st.integers(0, 90))
def test_borders_are_mirrored_as_in_a_prediction(length, before, after):
    np.testing.assert_array_equal(runner.mirrored(length, before, after), mirrored_indices(length, before, after))


@given(st.data())
def test_tiles_begin_as_in_a_prediction(data):
    tile = data.draw(st.integers(1, 64))
    overlap = data.draw(st.integers(0, tile - 1))
    length = data.draw(st.integers(tile, 2000))
    assert tuple(runner.tile_starts(length, tile, overlap)) == tile_starts(length, tile, overlap)


@pytest.mark.parametrize("blending", ["gaussian", "constant"])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_tiles_weigh_as_in_a_prediction(length, blending):
    np.testing.assert_array_equal(runner.axis_weights(length, blending), axis_weights(length, blending))


def test_a_mask_has_the_values_of_its_classes_in_the_smallest_type():
    values = runner.mask_values({"classes": [{"value": 0}, {"value": 3}, {"value": 256}]})
    np.testing.assert_array_equal(values, [0, 3, 256])
    assert values.dtype == np.uint16


COLOURS = np.arange(6 * 2 * 5 * 4 * 3, dtype=np.uint8).reshape(12, 5, 4, 3)
LAYOUTS = {
    "a page": (COLOURS[0, ..., 0], {}),
    "pages": (COLOURS[..., 0], {}),
    "a colour image": (COLOURS[0], {"photometric": "rgb"}),
    "pages of colours": (COLOURS, {"photometric": "rgb"}),
    "planes of colours": (COLOURS[0].transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
    "a hyperstack": (COLOURS.reshape(2, 3, 2, 5, 12)[..., 0, :, :], {"imagej": True, "metadata": {"axes": "ZCYX"}}),
    "a stack of 16 bits": (COLOURS[..., 0].astype(np.uint16), {"imagej": True}),
    "a palette": (COLOURS[0, ..., 0], {"photometric": "palette", "colormap": np.arange(768).reshape(3, 256) * 85}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pages_of_a_tif_are_those_of_a_prediction(tmp_path, layout):
    pixels, options = LAYOUTS[layout]
    options = {name: np.asarray(value, np.uint16) if name == "colormap" else value for name, value in options.items()}
    tifffile.imwrite(tmp_path / "image.tif", pixels, **({"photometric": "minisblack"} | options))

    with tifffile.TiffFile(tmp_path / "image.tif") as source, open_image(tmp_path / "image.tif") as image:
        pages = list(runner.tif_pages(source))
        expected = list(image)

    assert len(pages) == len(expected)
    for page, wanted in zip(pages, expected, strict=True):
        np.testing.assert_array_equal(page, wanted)


@pytest.fixture(params=[{}, {"progressive": True}, {"exif": b"Exif\0\0\xff\xda" + b"\xff\xd9" * 9}])
def photograph(request, tmp_path, rng):
    """Write a JPEG of a mode, and give its path."""

    def photograph(mode):
        pixels = rng.integers(0, 256, (21, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(tmp_path / "a.jpg", **request.param)
        return tmp_path / "a.jpg"

    return photograph


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_is_grey_or_rgb_has_no_fault_until_it_is_cut_off(photograph, mode):
    content = photograph(mode).read_bytes()
    assert runner.jpeg_fault(content) == ""
    assert {runner.jpeg_fault(content[:size]) for size in range(2, len(content))} == {"cut off"}


def test_a_jpeg_of_four_inks_is_refused_as_in_a_prediction(photograph):
    path = photograph("CMYK")
    facts = {"channels": ["grey"], "classes": [{"value": 0}]}
    with pytest.raises(DataError) as expected, open_image(path):
        pass
    with pytest.raises(SystemExit) as caught:
        runner.segment_pages(path, path.with_name("mask.png"), network(0), facts)
    assert str(caught.value) == f"error: {expected.value}"
