from __future__ import annotations

import numpy as np
import pytest

from unetcli.deployment import TileWriter, read_scores, replay
from unetcli.errors import DataError

SHAPE = (1, 3, 2, 4)


@pytest.fixture
def scores(rng):
    raw = rng.random(SHAPE, dtype=np.float32) + 0.1
    return raw / raw.sum(axis=1, keepdims=True)


def test_a_tile_is_a_file_of_floats_in_c_order_and_nothing_else(tmp_path, rng):
    tiles = rng.normal(size=(2, 1, 3, 5))[..., ::-1]
    writer = TileWriter(tmp_path, "scan", (3, 1, 3))

    zeros = writer(tiles)
    writer(tiles[:1])

    assert writer.names == ["scan-00000", "scan-00001", "scan-00002"]
    assert zeros.shape == (2, 3, 1, 3)
    assert not zeros.any()
    written = (tmp_path / "scan-00001.bin").read_bytes()
    assert written == tiles[1].astype("<f4").tobytes(order="C")


def test_what_was_written_of_a_bad_image_can_be_taken_back(tmp_path):
    (tmp_path / "other-00000.bin").touch()
    writer = TileWriter(tmp_path, "scan", (2, 4))
    writer(np.zeros((3, 1, 4)))

    writer.discard()

    assert [path.name for path in tmp_path.iterdir()] == ["other-00000.bin"]
    assert writer.names == []


@pytest.mark.parametrize("end", ["_0", ""])
def test_outputs_have_the_name_of_the_zoo_or_that_of_their_input(tmp_path, scores, end):
    scores.tofile(tmp_path / f"scan-00007{end}.bin")
    np.testing.assert_array_equal(read_scores(tmp_path, "scan-00007", SHAPE), scores)


def test_outputs_are_replayed_in_the_order_of_their_tiles(tmp_path, scores):
    for name, one in (("a-00000", scores), ("a-00001", scores[..., ::-1])):
        one.astype("<f4").tofile(tmp_path / f"{name}_0.bin")
    predict = replay(tmp_path, ["a-00001", "a-00000"], SHAPE)

    tiles = np.zeros((1, 1, 2, 4), np.float32)

    np.testing.assert_array_equal(predict(tiles), scores[..., ::-1])
    np.testing.assert_array_equal(predict(tiles), scores)


def test_a_file_holds_one_tile(tmp_path):
    with pytest.raises(ValueError, match="files hold one tile each, got 2 at once"):
        replay(tmp_path, ["a"], SHAPE)(np.zeros((2, 1, 2, 4)))


def test_a_missing_output_is_named_with_both_names_that_it_may_have(tmp_path):
    with pytest.raises(DataError, match=r"scan-00000_0.bin: no such file, nor scan-00000.bin$") as caught:
        read_scores(tmp_path / "outputs", "scan-00000", SHAPE)
    assert f"over every file in {tmp_path / 'inputs'}, and let it write to {tmp_path / 'outputs'}" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "count", "says"),
    [
        ("<f4", 23, "scan_0.bin: has 92 bytes, but scores of 1 x 3 x 2 x 4 have 96$"),
        ("<f4", 25, "scan_0.bin: has 100 bytes, but scores of 1 x 3 x 2 x 4 have 96$"),
        ("<f2", 24, "scan_0.bin: has 48 bytes, as 16-bit floats would have, but scores of 1 x 3 x 2 x 4 have 96$"),
        ("<f4", 0, "scan_0.bin: has 0 bytes, but"),
    ],
)
def test_an_output_of_another_size_is_refused_with_both_sizes(tmp_path, dtype, count, says):
    np.full(count, 1 / 3, dtype).tofile(tmp_path / "scan_0.bin")
    with pytest.raises(DataError, match=says):
        read_scores(tmp_path, "scan", SHAPE)


def test_an_output_with_holes_is_refused(tmp_path, scores):
    scores[0, 1, 0, :2] = np.nan, np.inf
    scores.tofile(tmp_path / "scan_0.bin")
    with pytest.raises(DataError, match=r"scan_0.bin: 2 of 24 scores are NaN or infinite$"):
        read_scores(tmp_path, "scan", SHAPE)


def test_an_output_that_no_softmax_gives_is_refused(tmp_path, scores):
    np.moveaxis(scores, 1, -1).tofile(tmp_path / "scan_0.bin")  # classes last, as the zoo's export has them
    with pytest.raises(DataError, match=r"scan_0.bin: the scores of a pixel must sum to 1, but they sum to .* to "):
        read_scores(tmp_path, "scan", SHAPE)


def test_an_output_that_was_rounded_to_16_bits_is_taken(tmp_path, scores):
    rounded = scores.astype(np.float16).astype(np.float32)
    rounded.tofile(tmp_path / "scan_0.bin")
    np.testing.assert_array_equal(read_scores(tmp_path, "scan", SHAPE), rounded)
