"""Pictures of what was found in a case beside what is true.

NumPy and OpenCV are imported where something is drawn, as in the whole room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.files import replacing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.evaluation import LabelledCase, Prediction

FALSE_POSITIVE, FALSE_NEGATIVE = (60, 60, 255), (255, 140, 40)
"""Colours of an overlay, in BGR: predicted but not true, and true but not predicted."""

TRUE_OUTLINE, FOUND_OUTLINE = (80, 255, 80), (255, 80, 255)
"""Colours of the outlines of objects, in BGR; where both are it is white."""


def write_overlay(case: LabelledCase, prediction: Prediction, folder: Path, *, ignored: int | None = None) -> None:
    """Write a PNG of a case: its first channel, and beside it the same with wrong pixels coloured.

    Red pixels were given a class of higher index than the true one, blue ones a lower; for two classes these
    are false positives and false negatives of the second. Where objects were compared there is a third picture with
    their outlines: the true ones green, the found ones magenta, and white where they are the same.

    Of a volume it shows the slice of the first axis with the most wrong voxels, and below it the planes of the other
    two axes that hold most of these. Voxels are shown in true proportion, and the last slice is on top.

    Args:
        case: The image with its labels.
        prediction: What was found in it.
        folder: Where the picture goes, under the name of the case.
        ignored: Label of pixels that are never wrong.
    """
    import numpy as np

    error = np.subtract(prediction.labels > case.labels, prediction.labels < case.labels, dtype=np.int8)
    if ignored is not None:
        error[case.labels == ignored] = 0
    if error.ndim == 2:
        picture = _marked(case.image[0], error)
        if prediction.instances is not None and case.instances is not None:
            plain = picture[:, : error.shape[1]]
            picture = np.hstack([picture, _outlined(plain, case.instances, prediction.instances.numbers)])
    else:
        spacing = case.geometry.spacing if case.geometry else (1.0, 1.0, 1.0)
        picture = _marked_planes(case.image[0], error, _most(error if error.any() else case.labels), spacing)
    import cv2

    with replacing(folder / f"{case.id}.png") as temporary:
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _marked(channel: NDArray[Any], error: NDArray[np.int8]) -> NDArray[np.uint8]:
    """`(H, 2 W, 3)`: a plane in grey, and beside it the same with colours where the sign of the error is not 0."""
    import numpy as np

    values = channel.astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    grey = ((values - low) / max(float(high - low), 1e-6)).clip(0, 1) * 255
    plain = np.repeat(grey.astype(np.uint8)[..., np.newaxis], 3, axis=2)
    marked = plain.copy()
    marked[error > 0] = FALSE_POSITIVE
    marked[error < 0] = FALSE_NEGATIVE
    return np.hstack([plain, marked])


def _outlined(plain: NDArray[np.uint8], true: NDArray[np.int32], found: NDArray[np.int32]) -> NDArray[np.uint8]:
    """A picture `(H, W, 3)` with the outlines of objects, each within its object."""
    import numpy as np

    picture = plain.copy()
    is_true, is_found = _outline(true), _outline(found)
    picture[is_true] = TRUE_OUTLINE
    picture[is_found] = FOUND_OUTLINE
    picture[is_true & is_found] = np.maximum(TRUE_OUTLINE, FOUND_OUTLINE)
    return picture


def _outline(numbers: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels of objects whose neighbour in a row or a column is another."""
    import numpy as np

    is_edge = np.zeros(numbers.shape, bool)
    rows = numbers[1:] != numbers[:-1]
    columns = numbers[:, 1:] != numbers[:, :-1]
    is_edge[1:] |= rows
    is_edge[:-1] |= rows
    is_edge[:, 1:] |= columns
    is_edge[:, :-1] |= columns
    return is_edge & (numbers > 0)


def _most(values: NDArray[Any]) -> tuple[int, int, int]:
    """The slice of a volume with the most voxels that are not 0, and the row and the column with the most in it."""
    plane = int((values != 0).sum(axis=(1, 2)).argmax())
    inside = values[plane] != 0
    return plane, int(inside.sum(axis=1).argmax()), int(inside.sum(axis=0).argmax())


def _marked_planes(
    channel: NDArray[Any], error: NDArray[np.int8], place: tuple[int, int, int], spacing: Sequence[float]
) -> NDArray[np.uint8]:
    """The three planes of a volume through a place, one below the other."""
    import cv2
    import numpy as np

    pictures: list[NDArray[np.uint8]] = []
    for axis, index in enumerate(place):
        upright = slice(None, None, -1 if axis else 1)  # the first axis grows to the head
        shown = _marked(*(np.take(volume, index, axis)[upright] for volume in (channel, error)))
        down, right = (size / min(spacing) for other, size in enumerate(spacing) if other != axis)
        pictures.append(
            np.asarray(cv2.resize(shown, None, fx=right, fy=down, interpolation=cv2.INTER_NEAREST), np.uint8)
        )
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack([np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0))) for picture in pictures])
