from __future__ import annotations

import json
from pathlib import Path

import pytest

from unetcli.deployment import INDEX, ImageTiles, Index, PageTiles, Tensor, Tiling, read_index
from unetcli.errors import DataError
from unetcli.files import write_json
from unetcli.inference import TilePlan

PAGE = PageTiles(size=(5, 6), starts=((0, 1), (0, 2)), inputs=("a-00000", "a-00001", "a-00002", "a-00003"))
INDEXED = Index(
    unet_version="0.3.0",
    run="runs/a",
    checkpoint_sha256="c0ffee",
    input=Tensor(shape=(1, 1, 4, 4)),
    output=Tensor(shape=(1, 2, 4, 4)),
    tta=False,
    tiling=Tiling(tile_size=(4, 4), overlap=(2, 2), blending="gaussian", border_pixels_eaten=0, forms_per_tile=1),
    images=(
        ImageTiles(path=Path("a.tif"), sha256="a" * 64, pages=(PAGE, PAGE)),
        ImageTiles(path=Path("b.tif"), sha256="b" * 64, pages=(PAGE,)),
    ),
)


@pytest.fixture
def folder(tmp_path):
    write_json(tmp_path / INDEX, INDEXED.model_dump(mode="json"))
    return tmp_path


def test_an_index_reads_back_as_it_was(folder):
    assert read_index(folder) == INDEXED


def test_the_plan_of_tiles_is_that_of_the_index(folder):
    assert read_index(folder).tiling.plan == TilePlan((4, 4), (2, 2), "gaussian", 1)


def test_an_image_is_known_by_its_content_wherever_it_is(folder):
    found = read_index(folder).tiles_of(Path("elsewhere/c.tif"), "b" * 64)
    assert (found.path, found.num_inputs) == (Path("b.tif"), 4)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "new/a.tif",
            r"new/a.tif: has changed since its tiles were written \(sha256 dddddddddddd..., expected aaaaaaaaaaaa...\)",
        ),
        ("new/d.tif", r"new/d.tif: is not one of the images in index.json \(sha256 dddddddddddd"),
    ],
)
def test_an_image_of_other_content_is_refused(name, says):
    with pytest.raises(DataError, match=says):
        INDEXED.tiles_of(Path(name), "d" * 64)


def test_a_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(DataError, match=r": no index\.json in it") as caught:
        read_index(tmp_path)
    assert "--export-inputs" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema_version": 2}, "index.json: schema_version: Input should be 1"),
        ({"output": {"shape": [1, 2], "dtype": "float16"}}, "index.json: output.dtype: Input should be 'float32'"),
        ({"images": []}, "index.json: images: Tuple should have at least 1 item"),
        ({"tta": None}, "index.json: tta: "),
        ({"more": 1}, "index.json: more: Extra inputs are not permitted"),
    ],
)
def test_an_index_that_was_changed_is_refused(folder, change, says):
    path = folder / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=says):
        read_index(folder)


def test_an_index_that_was_cut_off_is_refused(folder):
    path = folder / INDEX
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"index\.json: Invalid JSON"):
        read_index(folder)
