"""Tiles to files, and files to scores, as the model zoo's route to Ascend 310 has them.

`inputs/NAME.bin` holds one tile, 32-bit floats in C order. The zoo's C++ program and Huawei's `ais_bench` write what a
network makes of it as `NAME_0.bin`, 0 being the first output of the network; `NAME.bin` is understood, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.deployment.index import INDEX
from unetcli.errors import DataError, counted
from unetcli.inference import Predictor, Scores

SUM_TOLERANCE = 0.05
"""By how much the scores of a pixel may miss a sum of 1; a softmax in 16-bit floats misses it by 0.001 a class."""


class TileWriter:
    """A predictor that writes the tiles it is given to files, and scores them 0.

    Args:
        folder: Where to; it must be there.
        stem: How the names of the files begin.
        scores_shape: `(K, *S')` of one tile.
    """

    def __init__(self, folder: Path, stem: str, scores_shape: tuple[int, ...]) -> None:
        self.names: list[str] = []
        self._folder = folder
        self._stem = stem
        self._scores_shape = scores_shape

    def __call__(self, tiles: NDArray[Any]) -> Scores:
        """Write `(N, C, *S)` as N files, whose names without `.bin` are then the last of `names`."""
        for tile in tiles:
            name = f"{self._stem}-{len(self.names):05d}"
            self.names.append(name)
            np.ascontiguousarray(tile, "<f4").tofile(self._folder / f"{name}.bin")
        return np.broadcast_to(np.float32(0), (len(tiles), *self._scores_shape))

    def discard(self) -> None:
        """Remove the files written so far."""
        for name in self.names:
            (self._folder / f"{name}.bin").unlink(missing_ok=True)
        self.names.clear()


def replay(folder: Path, names: Sequence[str], shape: tuple[int, ...]) -> Predictor:
    """A predictor that reads scores from files, one tile after another, whatever tiles it is given.

    Args:
        folder: Where the files are.
        names: Of the inputs, without `.bin`, in the order in which their tiles will come.
        shape: `(1, K, *S')` of the scores in a file.
    """
    remaining = iter(names)

    def predict(tiles: NDArray[Any]) -> Scores:
        if len(tiles) != 1:
            raise ValueError(f"files hold one tile each, got {len(tiles)} at once")
        name = next(remaining, None)
        if name is None:
            raise DataError(
                f"{folder.parent / INDEX}: has {counted(len(names), 'file')} for an image of more tiles",
                hint="the file was changed; write it again with --export-inputs",
            )
        return read_scores(folder, name, shape)

    return predict


def read_scores(folder: Path, name: str, shape: tuple[int, ...]) -> Scores:
    """The scores `(1, K, *S')` that a device made of the tile `name`.

    Args:
        folder: Where its outputs are.
        name: Of the input, without `.bin`.
        shape: Of the scores.

    Raises:
        DataError: If the file is missing, of another size, or holds what no softmax gives.
    """
    places = [folder / f"{name}{end}.bin" for end in ("_0", "")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"{places[0]}: no such file, nor {places[1].name}",
            hint=f"run the device over every file in {folder.parent / 'inputs'}, and let it write to {folder}",
        )
    scores = np.fromfile(path, np.uint8)
    wanted = 4 * math.prod(shape)
    if scores.size != wanted:
        half = ", as 16-bit floats would have" if 2 * scores.size == wanted else ""
        raise DataError(
            f"{path}: has {scores.size} bytes{half}, but scores of {' x '.join(map(str, shape))} have {wanted}",
            hint="let the device write 32-bit floats (atc --output_type=FP32) of the shape in index.json",
        )
    return _checked(path, scores.view("<f4").reshape(shape))


def _checked(path: Path, scores: Scores) -> Scores:
    num_wrong = int(np.count_nonzero(~np.isfinite(scores)))
    if num_wrong:
        raise DataError(
            f"{path}: {num_wrong} of {scores.size} scores are NaN or infinite",
            hint="the device may compute in 16-bit floats, which overflow; let it compute in 32 bits",
        )
    sums = scores.sum(axis=1)
    if np.abs(sums - 1).max() > SUM_TOLERANCE:
        raise DataError(
            f"{path}: the scores of a pixel must sum to 1, but they sum to {sums.min():.3g} to {sums.max():.3g}",
            hint="they must be those of the exported file, classes before the axes of the image, as 32-bit floats",
        )
    return scores
