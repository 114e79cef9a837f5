"""What an exported file is proven on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unetcli.cli.predict.volumes import read_finite
from unetcli.cli.wiring import labelled_cases
from unetcli.data.formats.images import find_images, open_image
from unetcli.data.formats.volumes import find_volumes, open_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.config import Config
    from unetcli.runs import Run


def images_to_check(run: Run, paths: list[Path] | None) -> list[NDArray[Any]]:
    """A few real images `(C, *S)`: given files, or validation cases; of volumes, the middle of two tiles a side."""
    if paths:
        return [image for path in _find(run, paths) for image in _images_of(run, path)]
    cases = labelled_cases(run, None, "validation", otherwise="name images to prove the file on with --check")
    return [_middle(case.image, run.config) for case in cases[:2]]


def _find(run: Run, paths: list[Path]) -> list[Path]:

    return find_images(paths) if run.config.model.ndim == 2 else find_volumes(paths)


def _images_of(run: Run, path: Path) -> list[NDArray[Any]]:

    channels = run.config.model.in_channels
    if run.config.model.ndim == 3:
        return [_middle(read_finite(open_volume(path, num_channels=channels)), run.config)]
    with open_image(path, num_channels=channels) as image:
        return list(image)


def _middle(image: NDArray[Any], config: Config) -> NDArray[Any]:
    """The image, or of a volume at most its middle of two tiles a side: more proves no more, and takes long."""
    return image if config.model.ndim == 2 else crop(image, [2 * length for length in config.tile_size])


def crop(image: NDArray[Any], most: Sequence[int]) -> NDArray[Any]:
    """The middle of an image `(C, *S)`, of at most so many pixels along each axis."""
    sizes = [min(whole, length) for whole, length in zip(image.shape[1:], most, strict=True)]
    starts = [(whole - size) // 2 for whole, size in zip(image.shape[1:], sizes, strict=True)]
    return image[(slice(None), *(slice(start, start + size) for start, size in zip(starts, sizes, strict=True)))]
