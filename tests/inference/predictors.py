"""Predictors that are known exactly, in place of a network."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unetcli.inference import TilePlan


def whole_image_plan(shape, margin=0):
    """One tile that is just the image."""
    return TilePlan.with_share(tuple(n + 2 * margin for n in shape), 0, "constant", 1, margin)


def blur(radius, mode):
    """A convolution with a 2D Gaussian cut off at `radius`; `mode` is what it sees beyond a tile's border."""

    def predictor(tiles):
        return ndimage.gaussian_filter(tiles, (0, 0, 2, 2), mode=mode, radius=(0, 0, radius, radius))

    return predictor


def valid_box(margin):
    """The sum over a square of side 2 * margin + 1, without padding; exact for small integers."""

    def predictor(tiles):
        windows = np.lib.stride_tricks.sliding_window_view(tiles, (2 * margin + 1,) * 2, axis=(2, 3))
        return windows.sum(axis=(-1, -2))

    return predictor
