"""Masks of images as they are drawn: grey values, indices of a palette, or colours that stand for classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.data.formats.images import ImageFile, grey_of
from unetcli.data.formats.tif import page_name
from unetcli.data.preparing.volume_labels import whole_numbers
from unetcli.data.sources.label_map import Colour, colour_text
from unetcli.errors import DataError, counted

SHOWN_COLOURS = 8
Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMask:
    """The values of a mask.

    Args:
        values: `(H, W)` integers.
        palette: The colour of each value that occurs, where it is an index of a palette.
    """

    values: Array
    palette: Mapping[int, Colour]


def read_mask(mask: ImageFile, index: int, colours: Mapping[Colour, int]) -> DrawnMask:
    """Read a page of a mask.

    Three equal channels are grey, and so is a palette of nothing but greys, whose indices are in any order. Of a
    palette of colours the indices are the values, even where a mask uses only its greys. Other colours need to be told.

    Args:
        mask: The open file.
        index: Of the page.
        colours: What colours mean; if not empty, all masks are taken for coloured.

    Raises:
        DataError: If the mask is damaged, has values that are no whole numbers, or colours that are not told.
    """
    where = page_name(mask.path, index, mask.num_pages)
    pixels = mask.read(index)
    if colours:
        return DrawnMask(_by_colours(pixels, colours, where), {})
    if (indexed := mask.read_palette(index)) is not None and any(len(set(colour)) > 1 for colour in indexed[1]):
        indices, table = indexed
        return DrawnMask(indices, {value: table[value] for value in np.unique(indices).tolist()})
    grey = grey_of(pixels)
    if grey is None:
        raise DataError(
            f"{where}: the mask has colours, {_found(pixels)}",
            hint="say what they mean, such as --label-map '#ff0000=1', or save it with one value a pixel",
        )
    try:
        return DrawnMask(whole_numbers(grey[0]), {})
    except DataError as error:
        raise DataError(f"{where}: {error}", hint=error.hint) from error


def palette_warnings(masks: Iterable[DrawnMask]) -> list[str]:
    """What is told of masks with a palette: the colours of the values, and whether they differ between masks.

    And whether values of one mask have the same colour, so that to the eye they are one class.
    """
    found: dict[int, list[Colour]] = {}
    same: dict[tuple[int, ...], Colour] = {}
    for mask in masks:
        values: dict[Colour, list[int]] = {}
        for value, colour in sorted(mask.palette.items()):
            if colour not in found.setdefault(value, []):
                found[value].append(colour)
            values.setdefault(colour, []).append(value)
        same |= {tuple(alike): colour for colour, alike in values.items() if len(alike) > 1}
    if not found:
        return []
    told = ", ".join(f"{value} {' or '.join(map(colour_text, colours))}" for value, colours in sorted(found.items()))
    differ = any(len(colours) > 1 for colours in found.values())
    named = [(" and ".join(map(str, alike)), colour_text(colour)) for alike, colour in sorted(same.items())]
    return [
        f"masks have a palette, whose indices are taken for values: {told}"
        + ("; not all have the same colours, so look whether their indices mean the same" if differ else ""),
        *(f"{alike} have one colour, {colour}, so look whether they are one class" for alike, colour in named),
    ]


def _by_colours(pixels: Array, colours: Mapping[Colour, int], where: str) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8 or len(pixels) not in {1, 3}:
        raise DataError(f"{where}: is {pixels.dtype} of {counted(len(pixels), 'channel')}, but colours are three bytes")
    codes = _codes(pixels)
    known = {red << 16 | green << 8 | blue: value for (red, green, blue), value in colours.items()}
    found, places = np.unique(codes, return_inverse=True)
    if unknown := [code for code in found.tolist() if code not in known]:
        raise DataError(
            f"{where}: the mask has {_found(pixels, set(unknown))}, which --label-map does not tell",
            hint="say what they mean too, or of grey masks the values, such as --label-map 255=1"
            if len(pixels) == 1
            else "say what they mean too; colours in between come from resampling or JPEG",
        )
    return np.array([known[code] for code in found.tolist()], np.uint8)[places].reshape(codes.shape)


def _codes(pixels: Array) -> NDArray[np.int32]:
    red, green, blue = np.broadcast_to(pixels, (3, *pixels.shape[1:])).astype(np.int32)
    return red << 16 | green << 8 | blue


def _found(pixels: Array, only: set[int] | None = None) -> str:
    """The most frequent colours of a mask with their counts."""
    if pixels.dtype != np.uint8 or len(pixels) not in {1, 3}:
        return f"{counted(len(pixels), 'channel')} of {pixels.dtype}"
    counts = Counter(dict(zip(*(a.tolist() for a in np.unique(_codes(pixels), return_counts=True)), strict=True)))
    chosen = [(code, count) for code, count in counts.most_common() if only is None or code in only]
    shown = [f"#{code:06x} ({count} px)" for code, count in chosen[:SHOWN_COLOURS]]
    return ", ".join(shown) + (f" and {len(chosen) - len(shown)} more" if len(chosen) > len(shown) else "")
