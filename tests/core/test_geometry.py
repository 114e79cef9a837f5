from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.core.geometry import Geometry, geometry_from_affine

TILTED = ((0.0, -0.28, 0.96), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))


def test_the_affine_takes_indices_to_mm():
    geometry = Geometry((3, 4, 5), (2.0, 1.0, 0.5), origin=(10.0, 20.0, 30.0))

    np.testing.assert_allclose(geometry.affine @ [2, 1, 4, 1], [10 + 4 * 0.5, 20 + 1, 30 + 2 * 2, 1])


def test_directions_are_those_of_steps_along_z_y_x():
    geometry = Geometry((3, 4, 5), (2.0, 1.0, 0.5), direction=TILTED)

    np.testing.assert_allclose(geometry.affine @ [1, 0, 0, 0], [0, -0.56, 1.92, 0])
    np.testing.assert_allclose(geometry.affine @ [0, 0, 2, 0], [-1, 0, 0, 0])
    assert geometry.is_sheared
    assert geometry.lateral_axis == 2
    assert geometry.voxel_volume == pytest.approx(0.96)


numbers = st.floats(-500, 500)


@given(st.lists(numbers, min_size=12, max_size=12))
def test_an_affine_goes_through_a_geometry_unharmed(values):
    affine = np.eye(4)
    affine[:3] = np.reshape(values, (3, 4))
    vectors = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-9)
    if np.linalg.norm(affine[:3, :3], axis=0).min() < 1e-3 or abs(np.linalg.det(vectors)) < 1e-2:
        with pytest.raises(ValueError, match=r"must|plane"):
            geometry_from_affine(np.zeros((4, 4)), (1, 1, 1))
        return

    geometry = geometry_from_affine(affine, (3, 4, 5))

    np.testing.assert_allclose(geometry.affine, affine, atol=1e-9)
    assert geometry.difference(geometry_from_affine(geometry.affine, (3, 4, 5))) == ""


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Geometry((3, 4, 6), (1.0, 1.0, 1.0)), "size 3 x 4 x 5 against 3 x 4 x 6 voxels"),
        (Geometry((3, 4, 5), (1.0, 1.0, 1.1)), "spacing 1 x 1 x 1 against 1 x 1 x 1.1 mm"),
        (Geometry((3, 4, 5), (1.0, 1.0, 1.0), origin=(0.0, 2.0, 0.0)), "origin 0 x 0 x 0 against 0 x 2 x 0 mm"),
        (Geometry((3, 4, 5), (1.0, 1.0, 1.0), direction=TILTED), "direction"),
        (Geometry((3, 4, 5), (1.0, 1.0, 1.00001)), ""),
    ],
)
def test_a_difference_is_named(other, words):
    found = Geometry((3, 4, 5), (1.0, 1.0, 1.0)).difference(other)

    assert found.startswith(words)
    assert bool(found) == bool(words)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": (0, 1, 1)},
        {"spacing": (1.0, 0.0, 1.0)},
        {"spacing": (1.0, float("nan"), 1.0)},
        {"direction": ((0.0, 0.0, 2.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))},
        {"direction": ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))},
    ],
)
def test_what_is_no_grid_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must|finite"):
        Geometry(**({"size": (3, 4, 5), "spacing": (1.0, 1.0, 1.0)} | wrong))
