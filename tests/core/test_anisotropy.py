from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.core.anisotropy import plan_levels


def test_thick_slices_are_left_alone_until_the_others_are_as_thick():
    strides, kernels = plan_levels((5.0, 1.0, 1.0), 5)

    assert strides == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert kernels == ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))


@given(st.floats(0.1, 5), st.integers(2, 3), st.integers(2, 6))
def test_axes_of_one_spacing_are_treated_alike(spacing, ndim, depth):
    assert plan_levels((spacing,) * ndim, depth) == (((2,) * ndim,) * (depth - 1), ((3,) * ndim,) * depth)


@given(st.lists(st.floats(0.1, 20), min_size=3, max_size=3))
def test_no_axis_ends_more_than_twice_as_long_as_it_began_relative_to_the_shortest(spacing):
    strides, _ = plan_levels(spacing, 8)

    last = list(spacing)
    for level in strides:
        last = [length * stride for length, stride in zip(last, level, strict=True)]
    assert max(last) / min(last) <= max(2.0, max(spacing) / min(spacing))


def test_a_spacing_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        plan_levels((1.0, 0.0, 1.0), 3)
