"""What happens before and behind the network, in words, for whoever writes it in another language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def steps_in_words(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """The steps from an image to tiles, and from scores to a mask.

    Args:
        facts: What `model.json` says, with `normalization`, `tiling`, `symmetries`, `spacing` and `classes`.
    """
    return {"preprocessing": _before(facts), "postprocessing": _behind(facts)}


def _before(facts: Mapping[str, Any]) -> list[str]:
    tiling, spacing = facts["tiling"], facts["spacing"]
    tile, margin = tiling["tile_size"], tiling["border_pixels_eaten"]
    outputs = [length - 2 * margin for length in tile]
    steps = [f"an image has the channels {', '.join(facts['channels'])}, then {'Z Y X' if len(tile) == 3 else 'Y X'}"]
    if spacing["resample_to_it"]:
        steps.append(
            f"it is resampled linearly to voxels of {_by(spacing['voxel'])} mm from the same border on, the outermost "
            "voxels going on, and rounded if it is of integers"
        )
    steps.append(_normalization(facts["normalization"]))
    further = f", and then by {margin} px more at every side" if margin else ""
    steps += [
        f"an axis shorter than {_by(outputs)} px is mirrored at both ends (half of what lacks, rounded down, before) "
        f"to that length, the border pixel not repeated{further}",
        f"along an axis of n px there is a tile at i * (n - {_by(outputs)}) // m px for i = 0 to m, m the least number "
        f"with which neighbours overlap by {_by(tiling['overlap_pixels'])} px; tiles are {_by(tile)} px",
        "a tile is given to the network as float32 in C order, with 1 before its channels",
    ]
    return steps


def _normalization(how: Mapping[str, Any]) -> str:
    if how["method"] == "zscore":
        return (
            "of each channel its mean over the image is subtracted, and it is divided by its standard deviation; a "
            "channel of one value becomes 0"
        )
    begin, end = how["output_range"]
    if how["method"] == "range":
        bounds, low, high = "", f"{how['lower']:g}", f"{how['upper']:g}"
    else:
        first, last = how["percentiles"]
        bounds, low, high = (
            f"of each channel, low and high are the percentiles {first:g} and {last:g} of the image; ",
            "low",
            "high",
        )
    return f"{bounds}values {low} to {high} become {begin:g} to {end:g} linearly, and are clipped there"


def _behind(facts: Mapping[str, Any]) -> list[str]:
    tiling, forms = facts["tiling"], facts["symmetries"]["forms"]
    steps = ["the network gives scores of each class and pixel, which sum to 1 over the classes"]
    if len(forms) > 1:
        pairs = facts["symmetries"]["pairs"]
        swapped = (
            f", classes exchanged as {pairs} where it is mirrored along the axis from side to side" if pairs else ""
        )
        steps.append(
            f"a tile is scored in {len(forms)} forms, by quarter turns of the last two axes and then mirrored axes: "
            f"{forms}; scores are turned back{swapped} and averaged"
        )
    weight = "1"
    if tiling["blending"] == "gaussian":
        weight = "the product over the axes of max(exp(-((i - (n - 1) / 2) / (n / 8))^2 / 2), 0.001) at place i of n"
    steps += [
        f"where tiles overlap, scores are averaged with the weight {weight}; a single tile is taken as it is",
        "what was mirrored is cut off, and a pixel has the class of the largest score, the first of equal ones",
    ]
    if facts["spacing"]["resample_to_it"]:
        steps.append("labels are brought back to the image's own grid by the class that linear weights favour")
    values = ", ".join(f"{known['name']} {known['value']}" for known in facts["classes"])
    return [*steps, f"a mask has the values {values}"]


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
