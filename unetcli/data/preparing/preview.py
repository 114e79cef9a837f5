"""A picture of a dataset: slices with the outlines of their classes, and the label statistics as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import LabelledImage
from unetcli.data.formats.png import encode_png
from unetcli.data.manifest import Case, IntensityStats, Manifest
from unetcli.errors import counted

SLICES, COLUMNS, SIDE, GAP, LINE = 6, 3, 384, 8, 20
BACKGROUND = (24, 24, 24)
TEXT = (230, 230, 230)
LONGEST_NAME = 24
"""Letters of a case's name beside which there is room for its shares."""
COLOURS = ((60, 180, 255), (255, 190, 60), (90, 220, 90), (220, 110, 240), (90, 90, 250))
"""Outlines of classes 1, 2, ... in BGR, begun anew after the last."""
Picture = NDArray[np.uint8]


def preview_ids(manifest: Manifest) -> tuple[str, ...]:
    """The cases that a preview shows: up to six, evenly spread over the dataset."""
    cases = manifest.cases
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(SLICES, len(cases))).round().astype(int))
    return tuple(cases[i].id for i in chosen)


def draw_preview(manifest: Manifest, cases: Sequence[LabelledImage]) -> Picture:
    """Draw the cases of `preview_ids` under the statistics of all.

    Images are drawn whole. Of a volume there are three slices at right angles, which meet in the middle of its
    foreground; their voxels have the proportions of the spacing, and the patient's head is up.

    Returns:
        `(rows, columns, 3)` uint8, BGR.
    """
    shown = set(preview_ids(manifest))
    known = {case.id: case for case in manifest.cases}
    panels = [panel for case in cases if case.id in shown for panel in _panels(case, known[case.id], manifest)]
    panels += [_canvas(1, SIDE + 2 * GAP)] * (-len(panels) % COLUMNS)
    rows = [_row(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    return np.vstack([_header(manifest, rows[0].shape[1]), *rows])


def write_png(path: Path, picture: Picture) -> None:
    """Write a BGR picture; the name may have letters of any script, which OpenCV's own writer fails on."""
    path.write_bytes(encode_png(picture[..., ::-1]))


def to_grey(image: NDArray[Any], stats: IntensityStats) -> Picture:
    """Map 0.5 % to 99.5 % of the dataset's intensities to black to white."""
    return _scaled(image, stats.percentiles[0.5], stats.percentiles[99.5])


def _scaled(image: NDArray[Any], low: float, high: float) -> Picture:
    scaled = (image.astype(np.float32) - low) / max(high - low, 1e-6)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)


def outline(picture: Picture, labels: NDArray[np.uint8], num_classes: int) -> Picture:
    """A copy of a `(H, W, 3)` picture with the border of each class but 0 drawn one pixel wide."""
    drawn = picture.copy()
    for index in range(1, num_classes):
        mask = (labels == index).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, COLOURS[(index - 1) % len(COLOURS)], 1)
    return drawn


def _row(panels: Sequence[Picture]) -> Picture:
    """Panels side by side, each made as high as the highest."""
    height = max(len(panel) for panel in panels)
    return np.hstack([np.vstack([panel, _canvas(height - len(panel), panel.shape[1])]) for panel in panels])


def _panels(case: LabelledImage, known: Case, manifest: Manifest) -> Iterator[Picture]:
    name = known.id if len(known.id) <= LONGEST_NAME else f"{known.id[: LONGEST_NAME - 3]}..."
    texts = (name, _shares(known.class_shares, manifest), "")
    if case.geometry is None:
        scale = SIDE / max(case.size)
        grey = to_grey(case.image[0], manifest.intensity)
        yield _panel(grey, case.labels, _pixels(case.size, (scale, scale)), "  ".join(texts), manifest)
        return
    channel, centre = case.image[0], _middle(case)
    own = case.statistics[0] if case.statistics else None
    is_head_up = case.geometry.direction[0][2] < 0
    scale = SIDE / max(n * step for n, step in zip(case.size, case.geometry.spacing, strict=True))
    for axis, text in enumerate(texts):
        grey = np.take(channel, centre[axis], axis)
        # scanners of other make have other scales, so each volume is drawn on its own
        grey = _scaled(grey, own.low, own.high) if own else to_grey(grey, manifest.intensity)
        labels: NDArray[np.uint8] = np.take(case.labels, centre[axis], axis)
        if axis > 0 and not is_head_up:
            grey, labels = grey[::-1], labels[::-1]
        row, column = (step * scale for other, step in enumerate(case.geometry.spacing) if other != axis)
        yield _panel(grey, labels, _pixels(grey.shape, (row, column)), text, manifest)


def _middle(case: LabelledImage) -> tuple[int, ...]:
    """The voxel where the slices meet: amid the foreground, or the volume if there is none."""
    if case.points is None or not len(case.points):
        return tuple(n // 2 for n in case.size)
    return tuple(int(np.median(indices)) for indices in case.points[:, 1:].T)


def _pixels(size: tuple[int, ...], scale: tuple[float, float]) -> tuple[int, int]:
    """How many rows and columns a slice is drawn with."""
    rows, columns = (min(SIDE, max(1, round(n * factor))) for n, factor in zip(size, scale, strict=True))
    return rows, columns


def _panel(grey: Picture, labels: NDArray[np.uint8], size: tuple[int, int], text: str, manifest: Manifest) -> Picture:
    """One slice as `size` (rows, columns) pixels, with a line of text below."""
    height, width = size
    is_smaller = height * width < grey.size
    method = cv2.INTER_AREA if is_smaller else cv2.INTER_NEAREST
    drawn = cv2.resize(np.ascontiguousarray(grey), (width, height), interpolation=method)
    nearest = cv2.resize(np.ascontiguousarray(labels), (width, height), interpolation=cv2.INTER_NEAREST)
    picture = outline(np.dstack([drawn.astype(np.uint8)] * 3), nearest.astype(np.uint8), manifest.num_classes)
    panel = _canvas(height + LINE + 2 * GAP, SIDE + 2 * GAP)
    panel[GAP : GAP + height, GAP : GAP + width] = picture
    _write(panel, text, GAP, GAP + height + LINE - 5)
    return panel


def _header(manifest: Manifest, width: int) -> Picture:
    stats = manifest.intensity
    lines = [
        f"{manifest.name}: {len(manifest.cases)} {_kind(manifest)} of {_sizes(manifest)}, {stats.dtype}",
        f"labels  {_shares(manifest.class_shares, manifest)}",
        *(_range(manifest, info.index) for info in manifest.classes),
        f"intensity  {stats.minimum:g} to {stats.maximum:g}, mean {stats.mean:.1f}, deviation {stats.std:.1f}",
        f"split  {manifest.split_method}, {counted(len(manifest.splits), 'fold')}",
    ]
    header = _canvas(LINE * len(lines) + 2 * GAP, width)
    for number, line in enumerate(lines, start=1):
        _write(header, line, GAP, GAP + LINE * number - 5)
    x = width - 160
    for info in manifest.classes[1:]:
        y = GAP + LINE * info.index - 9
        cv2.line(header, (x, y), (x + 24, y), COLOURS[(info.index - 1) % len(COLOURS)], 2)
        _write(header, info.name, x + 32, y + 5)
    return header


def _range(manifest: Manifest, index: int) -> str:
    shares = [case.class_shares[index] for case in manifest.cases]
    name = manifest.classes[index].name
    kind = _kind(manifest).removesuffix("s")
    return f"    {name}  {min(shares):.1%} to {max(shares):.1%} of a {kind}, absent from {shares.count(0.0)}"


def _kind(manifest: Manifest) -> str:
    return "volumes" if manifest.num_axes == 3 else "slices"


def _sizes(manifest: Manifest) -> str:
    """The size of all cases, or from the least to the largest along each axis."""
    sizes = np.array([case.shape[1:] for case in manifest.cases])
    spans = (f"{low}" if low == high else f"{low}-{high}" for low, high in zip(sizes.min(0), sizes.max(0), strict=True))
    return f"{' x '.join(spans)} {'px' if manifest.num_axes == 2 else 'voxels'}"


def _shares(shares: Sequence[float], manifest: Manifest) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(manifest.class_names, shares, strict=True))


def _canvas(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _write(picture: Picture, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    cv2.putText(picture, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, TEXT, 1, cv2.LINE_AA)
