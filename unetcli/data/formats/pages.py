"""The pages of one file as a stack of grey images, as training data must be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.images import ImageFile, grey_of, open_image
from unetcli.data.formats.tif import page_name
from unetcli.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """The pages of one file.

    Args:
        path: Where they come from.
        pixels: `(N, H, W)` in the file's own type.
        spacing: Height and width of a pixel in um, if the file says so.
    """

    path: Path
    pixels: NDArray[Any]
    spacing: tuple[float, float] | None = None


def read_pages(path: Path) -> Pages:
    """Read every page of a grey TIF, PNG or JPEG file.

    A page that stores grey as three equal channels is read as grey, and the images along the one axis of a stack
    are pages even if the file calls that axis channels.

    Raises:
        DataError: If `open_image` refuses the file, it is coloured, has more axes than pages, or its pages differ
            in size or type.
    """
    with open_image(path) as image:
        outer = [axis for axis, size in image.layout if axis not in "YXS" and size > 1]
        if len(outer) > 1:
            axes, shape = "".join(axis for axis, _ in image.layout), tuple(size for _, size in image.layout)
            raise DataError(
                f"{path}: has axes {axes} of size {shape}, but only one axis beside rows and columns can be pages",
                hint="save one channel and one time point as a stack of pages",
            )
        if outer == ["C"] and not image.has_palette:
            pages = list(image.read(0))
        else:
            pages = [_grey(image, index) for index in range(image.num_pages)]
    for index, page in enumerate(pages):
        if page.shape != pages[0].shape or page.dtype != pages[0].dtype:
            raise DataError(
                f"{page_name(path, index, len(pages))}: is {_form(page)}, but page 1 is {_form(pages[0])}",
                hint="all pages of a stack must have one size and type",
            )
    return Pages(path, np.stack(pages), image.pixel_size.micrometres)


def _grey(image: ImageFile, index: int) -> NDArray[Any]:
    """The page `(H, W)` of an index; alpha, which some files do not declare as such, is left out."""
    pixels = image.read(index)
    grey = grey_of(pixels[:-1] if len(pixels) in {2, 4} else pixels)
    if grey is None:
        where = page_name(image.path, index, image.num_pages)
        raise DataError(
            f"{where}: has a colour palette, so its values are not intensities"
            if image.has_palette
            else f"{where}: has {len(pixels)} channels that differ, as a colour image does, but must be grey",
            hint="micrographs and their labels have one channel; save the file as grey",
        )
    return grey[0]


def _form(page: NDArray[Any]) -> str:
    return f"{page.shape[0]} x {page.shape[1]} px {page.dtype}"
