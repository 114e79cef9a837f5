"""Tiles in which there is nothing to see: computed once."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from unetcli.inference.tiles import Predictor, Scores


def once_for_uniform(predictor: Predictor) -> Predictor:
    """A predictor that computes batches of one value only once, such as the air around a patient that is clipped.

    A batch is of one value if each channel is, in all tiles and bit for bit. Its scores are kept until a batch of
    another value or shape comes, and given again, so that they are the same by any predictor that is a function of its
    tiles. They cannot be written to.

    Args:
        predictor: Of normalised tiles, since intensities that differ may be clipped to the same value.
    """
    kept: dict[tuple[object, ...], Scores] = {}

    def predict(tiles: NDArray[Any]) -> Scores:
        values = _values(tiles)
        if values is None:
            return predictor(tiles)
        key = (tiles.shape, tiles.dtype.str, values)
        if key not in kept:
            kept.clear()  # before the next are made
            scores = predictor(tiles).view()
            scores.flags.writeable = False
            kept[key] = scores
        return kept[key]

    return predict


def _values(tiles: NDArray[Any]) -> bytes | None:
    """The value of each channel of `(N, C, *S)`, or None if some pixels differ."""
    bits = tiles.view(f"u{tiles.dtype.itemsize}")  # 0 and -0 are not the same, and NaN is the same as itself
    first = bits[(slice(1), slice(None), *[slice(1)] * (tiles.ndim - 2))]
    if (bits[:, :, :1] == first).all() and (bits == first).all():  # one row tells most of the others
        return first.tobytes()
    return None
