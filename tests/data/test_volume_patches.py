"""Patches of volumes: foreground in a share of them, sides exchanged where they are mirrored, maps read in part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from unetcli.config import Config, with_values
from unetcli.core.geometry import Geometry
from unetcli.core.normalization import measure_channels
from unetcli.core.sampling import foreground_points
from unetcli.core.spatial import MirrorRule
from unetcli.data.cases import LabelledImage
from unetcli.data.patches import PatchSampler
from unetcli.errors import DataError


def make_volumes(rng, sizes, spacing=(2.0, 1.0, 1.0)):
    return [
        LabelledImage(
            f"volume {index}",
            rng.integers(-1000, 1000, (2, *size), dtype=np.int16),
            rng.integers(0, 3, size, dtype=np.uint8),
            geometry=Geometry(size, spacing),
        )
        for index, size in enumerate(sizes)
    ]


VOLUMES = {
    "model.num_classes": 3,
    "model.ndim": 3,
    "model.depth": 2,
    "data.patch_size": [8, 12, 16],
    "data.lower": -1000,
    "data.upper": 1000,
    "train.batch_size": 3,
}
EVERYTHING = {
    "augmentation__affine_probability": 0.7,
    "augmentation__elastic_probability": 0.7,
    "augmentation__intensity_probability": 0.5,
}
PLAIN = {"augmentation__flip": False, "augmentation__quarter_turns": False}


def make_config(**values):
    return with_values(Config(), VOLUMES | {name.replace("__", "."): value for name, value in values.items()})


def test_batches_of_volumes_do_not_depend_on_order_or_workers(rng):
    cases = make_volumes(rng, [(20, 24, 18), (9, 30, 30), (4, 12, 40)])
    config = make_config(data__foreground_share=0.5, data__patches_per_case=2, **EVERYTHING)
    expected = [PatchSampler(cases, config)[step] for step in range(6)]
    images, labels = expected[0]
    assert (images.shape, images.dtype) == ((3, 2, 8, 12, 16), np.float32)
    assert (labels.shape, labels.dtype) == ((3, 8, 12, 16), np.int32)
    assert np.abs(images).max() <= 1

    sampler = PatchSampler(cases, config)
    steps = list(reversed(range(6)))
    with ThreadPoolExecutor(4) as pool:
        for step, (images, labels) in zip(steps, pool.map(sampler.__getitem__, steps), strict=True):
            np.testing.assert_array_equal(images, expected[step][0])
            np.testing.assert_array_equal(labels, expected[step][1])


def test_a_volume_smaller_than_the_patch_is_mirrored(rng):
    case = make_volumes(rng, [(5, 12, 16)])[0]
    images, labels = PatchSampler([case], make_config(**PLAIN))[0]
    padded = np.pad(case.labels, ((4, 4), (0, 0), (0, 0)), mode="reflect")
    for image, label in zip(images, labels, strict=True):
        assert any(np.array_equal(label, padded[first : first + 8]) for first in range(5))
        assert np.abs(image).max() <= 1


def sparse_case(index, has_foreground=True):
    """A volume whose only foreground is one voxel in a corner."""
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[0, 39, 0] = has_foreground
    return LabelledImage(f"sparse {index}", np.zeros((1, 40, 40, 40), np.int16), labels)


def holding_foreground(sampler, num_steps):
    return [[bool(labels.any()) for labels in sampler[step][1]] for step in range(num_steps)]


@pytest.mark.parametrize(
    ("share", "batch_size", "expected"),
    [
        (1 / 3, 2, [False, True]),
        (1 / 3, 3, [False, False, True]),
        (1 / 3, 6, [False] * 4 + [True] * 2),
        (0.01, 4, [False, False, False, True]),
        (1.0, 3, [True] * 3),
        (0.0, 3, [False] * 3),
    ],
)
def test_the_last_patches_of_every_batch_hold_foreground(share, batch_size, expected):
    values = {"data__foreground_share": share, "train__batch_size": batch_size}
    sampler = PatchSampler([sparse_case(index) for index in range(3)], make_config(**values))
    # plain patches find that corner once in 25 thousand draws
    assert holding_foreground(sampler, 5) == [expected] * 5


def test_a_single_patch_holds_foreground_with_the_probability_asked_for():
    sampler = PatchSampler([sparse_case(0)], make_config(data__foreground_share=0.25, train__batch_size=1))
    assert np.mean(holding_foreground(sampler, 600)) == pytest.approx(0.25, abs=0.05)


def test_a_case_without_foreground_gives_plain_patches():
    cases = [sparse_case(0, has_foreground=False), sparse_case(1)]
    sampler = PatchSampler(cases, make_config(data__foreground_share=1.0, train__batch_size=2))
    for step in range(5):
        shown = [sampler.case_index(2 * step + place) == 1 for place in range(2)]
        assert [bool(labels.any()) for labels in sampler[step][1]] == shown


def test_known_points_give_the_same_patches_as_points_that_are_found(rng):
    case = make_volumes(rng, [(20, 30, 30)])[0]
    known = replace(case, points=foreground_points(case.labels, 3))
    config = make_config(data__foreground_share=1.0)
    np.testing.assert_array_equal(PatchSampler([known], config)[3][0], PatchSampler([case], config)[3][0])


@pytest.mark.parametrize(
    ("direction", "lateral"),
    [
        (((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)), 2),
        (((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 0),
    ],
)
def test_sides_are_exchanged_where_the_lateral_axis_is_mirrored(direction, lateral):
    size = (4, 6, 6)
    labels = np.zeros(size, np.uint8)
    left, right = [[slice(None)] * 3 for _ in range(2)]
    left[lateral], right[lateral] = slice(0, 1), slice(-1, None)
    labels[tuple(left)], labels[tuple(right)] = 1, 2
    labels[1:3, 2:4, 2:4] = 255
    case = LabelledImage(
        "sides", np.zeros((1, *size), np.uint8), labels, Geometry(size, (1, 1, 1), direction=direction)
    )
    config = make_config(data__patch_size=[4, 6, 6])

    sampler = PatchSampler([case], config, mirror=MirrorRule((0, 2, 1)), has_ignored=True)
    images = np.concatenate([sampler[step][1] for step in range(20)])

    for patch in images:  # so low indices are left in every patch, mirrored or not
        np.testing.assert_array_equal(patch[tuple(left)], 1)
        np.testing.assert_array_equal(patch[tuple(right)], 2)
        np.testing.assert_array_equal(patch == 255, labels == 255)
    plain = PatchSampler([case], config, mirror=MirrorRule((0, 1, 2)), has_ignored=True)
    assert len({patch.tobytes() for step in range(20) for patch in plain[step][1]}) > 1


class Watched(np.memmap):
    """A mapped file that lets itself be cut but not read whole."""

    def __getitem__(self, index):
        part = np.asarray(super().__getitem__(index))
        assert part.size < self.size / 4
        return part

    def __array_ufunc__(self, *args, **kwargs):
        raise AssertionError("the whole map is read")


@pytest.mark.parametrize("method", ["range", "zscore"])
def test_of_mapped_volumes_only_what_a_patch_shows_is_read(tmp_path, rng, method):
    case = make_volumes(rng, [(40, 50, 60)])[0]
    config = make_config(data__normalization=method, data__foreground_share=0.5)
    known = replace(case, statistics=measure_channels(case.image), points=foreground_points(case.labels, 3))
    mapped = {}
    for name in ("image", "labels"):
        array = getattr(case, name)
        array.tofile(tmp_path / name)
        mapped[name] = Watched(tmp_path / name, array.dtype, "r", shape=array.shape)

    sampler = PatchSampler([replace(known, **mapped)], config)

    for step in range(3):
        for found, expected in zip(sampler[step], PatchSampler([case], config)[step], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_map_whose_statistics_are_not_known_is_measured_when_a_patch_is_cut(tmp_path, rng):
    case = make_volumes(rng, [(10, 14, 18)])[0]
    case.image.tofile(tmp_path / "image")
    image = np.memmap(tmp_path / "image", case.image.dtype, "r", shape=case.image.shape)
    config = make_config(data__normalization="percentile")
    np.testing.assert_array_equal(
        PatchSampler([replace(case, image=image)], config)[0][0], PatchSampler([case], config)[0][0]
    )


def test_volumes_and_images_are_not_mixed_up(rng):
    volume = make_volumes(rng, [(12, 12, 12)])[0]
    image = LabelledImage("slice 0", volume.image[:, 0], volume.labels[0])
    with pytest.raises(DataError, match=r"slice 0: image has shape \(2, 12, 12\).*takes \(C, Z, Y, X\)") as caught:
        PatchSampler([image], make_config())
    assert "model.ndim" in caught.value.hint
    with pytest.raises(DataError, match=r"volume 0: .*takes \(C, Y, X\)"):
        PatchSampler([volume], make_config(model__ndim=2, data__patch_size=[8, 8]))
