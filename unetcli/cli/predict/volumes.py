"""Volumes to masks on the same grid."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli import report
from unetcli.cli.predict.wishes import is_off_scale, say_doubts, within_memory
from unetcli.data.formats.volume_masks import plan_volume_outputs, write_labels, write_scores
from unetcli.data.formats.volumes import find_volumes, open_volume
from unetcli.data.resampling import resample_image, resample_labels, resampled_geometry
from unetcli.errors import DataError
from unetcli.inference import clean, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.cli.predict.wishes import Wishes
    from unetcli.core.geometry import Geometry
    from unetcli.data.formats.masks import Outputs
    from unetcli.data.formats.volume_file import VolumeFile
    from unetcli.runs import RunFacts

find = find_volumes
LOOKED_AT = 4_000_000
"""Voxels that tell the scale of a volume's intensities."""


def check(path: Path) -> None:
    """Raise `DataError` for a file that is no volume."""
    open_volume(path)


def plan(
    images: Sequence[Path],
    folder: Path,
    *,
    with_scores: bool = False,
    with_instances: bool = False,  # noqa: ARG001 of volumes there are none, which has been said by now
    overwrite: bool = False,
) -> list[Outputs]:
    """Where the masks go."""
    opened = [open_volume(path) for path in images]
    return plan_volume_outputs(opened, folder, with_scores=with_scores, overwrite=overwrite)


def images(path: Path, facts: RunFacts) -> Iterator[tuple[NDArray[Any], Geometry]]:
    """The voxels of a volume on the grid that the network sees, which is then alone."""
    volume = open_volume(path, num_channels=len(facts.channels))
    for note in (*volume.notes, *_unlike_spacing(volume, facts)):
        report.say(f"warning: {path}: {note}")
    grid = _network_grid(volume, facts)
    yield _on_grid(read_finite(volume), volume, grid), grid


def segment(outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
    """Segment one volume."""
    started = time.perf_counter()
    classes = wishes.facts.classes
    volume = open_volume(outputs.image, num_channels=len(wishes.facts.channels))
    for note in (*volume.notes, *_unlike_spacing(volume, wishes.facts)):
        report.say(f"warning: {outputs.image}: {note}")
    labels, off_scale = _labels(volume, outputs, wishes)
    changes: dict[str, int] = {}
    if wishes.cleaning:
        labels, changed = clean(labels, wishes.cleaning, volume.geometry.voxel_volume)
        changes = asdict(changed)
    write_labels(outputs.mask, labels, wishes.values, volume)
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    shares = {info.name: float(count) / labels.size for info, count in zip(classes, counts, strict=True)}
    say_doubts(outputs, wishes, shares, "its intensities are" if off_scale else "")
    millilitres = counts * (volume.geometry.voxel_volume / 1000)
    return {
        "image": str(outputs.image),
        "mask": str(outputs.mask),
        "scores": str(outputs.scores) if outputs.scores else None,
        "size": list(volume.geometry.size),
        "class_shares": shares,
        "volumes_ml": {
            info.name: float(millilitres[info.index]) if volume.has_spacing else None for info in classes[1:]
        },
        "cleaned_voxels": changes,
        "seconds": time.perf_counter() - started,
    }


def _labels(volume: VolumeFile, outputs: Outputs, wishes: Wishes) -> tuple[NDArray[np.uint8], bool]:
    """The labels on the volume's own grid, and whether its intensities are off the scale; writes the scores."""
    grid = _network_grid(volume, wishes.facts)
    work = wishes.work((volume.num_channels, *grid.size), volume.dtype, keeps_scores=bool(outputs.scores))
    segmenter = within_memory(wishes, work)
    image = read_finite(volume)
    off_scale = is_off_scale(_thinned(image), wishes)
    image = _on_grid(image, volume, grid)
    with report.progressing(outputs.image.name) as on_tile:
        if outputs.scores:
            scores = segmenter.scores(image, grid, on_tile)
            labels = labels_of(scores)
            whole = scores if grid == volume.geometry else resample_image(scores, grid, volume.geometry)
            write_scores(outputs.scores, whole, volume)
        else:
            labels = segmenter.labels(image, grid, on_tile)
    if grid != volume.geometry:
        labels = resample_labels(labels, grid, volume.geometry, smooth=True)
    return labels, off_scale


def read_finite(volume: VolumeFile) -> NDArray[Any]:
    """The voxels of a volume, all of which must be numbers.

    Raises:
        DataError: If some are not, or the file is damaged.
    """
    image = volume.read()
    if image.dtype.kind == "f":
        wrong = sum(int(np.count_nonzero(~np.isfinite(plane))) for channel in image for plane in channel)
        if wrong:
            raise DataError(
                f"{volume.path}: {wrong} of {image.size} voxels {'is' if wrong == 1 else 'are'} NaN or infinite",
                hint="give them a number, such as the value of air, before it is segmented",
            )
    return image


def _network_grid(volume: VolumeFile, facts: RunFacts) -> Geometry:
    """The grid that the network sees the volume on: its own, or that of the spacing the dataset was brought to."""
    if not facts.is_resampled or facts.spacing is None:
        return volume.geometry
    depth, height, width = facts.spacing
    return resampled_geometry(volume.geometry, (depth, height, width))


def _on_grid(image: NDArray[Any], volume: VolumeFile, grid: Geometry) -> NDArray[Any]:
    """The image on the grid of the network."""
    return image if grid == volume.geometry else resample_image(image, volume.geometry, grid)


def _thinned(image: NDArray[Any]) -> NDArray[Any]:
    """Every so many voxels, which tell as much and take less."""
    step = max(1, math.ceil((image.size / LOOKED_AT) ** (1 / 3)))
    return image[:, ::step, ::step, ::step]


def _unlike_spacing(volume: VolumeFile, facts: RunFacts) -> list[str]:
    """A sentence if voxels are twice as large, or half as large, as those that the network knows."""
    known = facts.spacing
    found = volume.geometry.spacing
    if known is None or facts.is_resampled or not volume.has_spacing:
        return []
    if all(0.5 < one / other < 2 for one, other in zip(found, known, strict=True)):
        return []
    texts = [" x ".join(f"{length:.3g}" for length in spacing) for spacing in (found, known)]
    return [f"voxels of {texts[0]} mm, but the network was trained on {texts[1]} mm; its masks may be wrong"]
