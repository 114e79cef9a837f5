"""A picture of a dataset: slices with the outlines of their classes, and the label statistics as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unetcli.data.cases import LabelledImage
from unetcli.data.manifest import Case, IntensityStats, Manifest
from unetcli.data.png import encode_png

SLICES, COLUMNS, SIDE, GAP, LINE = 6, 3, 384, 8, 20
BACKGROUND = (24, 24, 24)
TEXT = (230, 230, 230)
COLOURS = ((60, 180, 255), (255, 190, 60), (90, 220, 90), (220, 110, 240), (90, 90, 250))
"""Outlines of classes 1, 2, ... in BGR, begun anew after the last."""
Picture = NDArray[np.uint8]


def draw_preview(manifest: Manifest, cases: Sequence[LabelledImage]) -> Picture:
    """Draw up to six slices, evenly spread over the dataset, under the statistics of all.

    Returns:
        `(rows, columns, 3)` uint8, BGR.
    """
    chosen = np.unique(np.linspace(0, len(cases) - 1, min(SLICES, len(cases))).round().astype(int))
    panels = [_panel(cases[i], manifest.cases[i], manifest) for i in chosen]
    height, width = panels[0].shape[:2]
    empty = _canvas(height, width)
    panels += [empty] * (-len(panels) % COLUMNS)
    rows = [np.hstack(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    return np.vstack([_header(manifest, rows[0].shape[1]), *rows])


def write_png(path: Path, picture: Picture) -> None:
    """Write a BGR picture; the name may have letters of any script, which OpenCV's own writer fails on."""
    path.write_bytes(encode_png(picture[..., ::-1]))


def to_grey(image: NDArray[Any], stats: IntensityStats) -> Picture:
    """Map 0.5 % to 99.5 % of the dataset's intensities to black to white."""
    low, high = stats.percentiles[0.5], stats.percentiles[99.5]
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


def _panel(case: LabelledImage, known: Case, manifest: Manifest) -> Picture:
    """One slice of at most `SIDE` pixels a side, with its name and label shares below."""
    height, width = case.labels.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = to_grey(case.image[0], manifest.intensity)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    labels = cv2.resize(case.labels, size, interpolation=cv2.INTER_NEAREST)
    picture = outline(np.dstack([grey.astype(np.uint8)] * 3), labels.astype(np.uint8), manifest.num_classes)
    panel = _canvas(size[1] + LINE + 2 * GAP, SIDE + 2 * GAP)
    panel[GAP : GAP + size[1], GAP : GAP + size[0]] = picture
    _write(panel, f"{known.id}  {_shares(known.class_shares, manifest)}", GAP, GAP + size[1] + LINE - 5)
    return panel


def _header(manifest: Manifest, width: int) -> Picture:
    stats = manifest.intensity
    rows, columns = manifest.cases[0].shape[-2:]
    lines = [
        f"{manifest.name}: {len(manifest.cases)} slices of {rows} x {columns} px, {stats.dtype}",
        f"labels  {_shares(manifest.class_shares, manifest)}",
        *(_range(manifest, info.index) for info in manifest.classes),
        f"intensity  {stats.minimum:g} to {stats.maximum:g}, mean {stats.mean:.1f}, deviation {stats.std:.1f}",
        f"split  {manifest.split_method}, {len(manifest.splits)} folds",
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
    return f"    {name}  {min(shares):.1%} to {max(shares):.1%} of a slice, absent from {shares.count(0.0)}"


def _shares(shares: Sequence[float], manifest: Manifest) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(manifest.class_names, shares, strict=True))


def _canvas(height: int, width: int) -> Picture:
    return np.full((height, width, 3), BACKGROUND, np.uint8)


def _write(picture: Picture, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    cv2.putText(picture, plain, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, TEXT, 1, cv2.LINE_AA)
