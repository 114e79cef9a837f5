"""From nuclei as they are published to classes: nuclei alone, or with the borders between those that touch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unetcli.core.weight_map import narrow_borders
from unetcli.data.manifest import ClassInfo
from unetcli.data.preparing.object_dataset import ObjectImage, refuse_all_skipped, shortened
from unetcli.data.preparing.volume_records import Skipped
from unetcli.data.sources.nuclei import NucleiFiles, read_nuclei
from unetcli.errors import UnetError

Target = Literal["semantic", "border"]
SEMANTIC = (
    ClassInfo(index=0, name="background", source_values=(0,)),
    ClassInfo(index=1, name="nucleus", source_values=(255,)),
)
WITH_BORDER = (*SEMANTIC, ClassInfo(index=2, name="border", source_values=(128,)))
BORDER_WIDTH = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class NucleiImages:
    """Images of nuclei that could be read.

    Args:
        images: With their labels.
        skipped: What is left out, and why.
        warnings: What may be wrong, as sentences.
    """

    images: tuple[ObjectImage, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]


def classes_of_target(target: Target) -> tuple[ClassInfo, ...]:
    """The classes that a network learns to tell apart."""
    return SEMANTIC if target == "semantic" else WITH_BORDER


def nuclei_labels(
    instances: NDArray[np.int32], target: Target, border_width: float = BORDER_WIDTH
) -> NDArray[np.uint8]:
    """The classes of numbered nuclei.

    Borders are between nuclei alone, as the winners of the Data Science Bowl 2018 drew them, and not around each: a
    rim all around costs small nuclei much of their area and says nothing that the edge of the nucleus does not, while
    the pixels between two are what decides whether they are counted as two. They win over nuclei.

    Args:
        instances: `(H, W)` number of the nucleus of every pixel, 0 for none.
        target: Whether there is a class of borders.
        border_width: How wide they are; see `unetcli.core.weight_map.narrow_borders`.
    """
    labels = (instances > 0).astype(np.uint8)
    if target == "border":
        labels[narrow_borders(instances, border_width)] = 2
    return labels


def read_all_nuclei(
    files: Sequence[NucleiFiles],
    target: Target,
    border_width: float = BORDER_WIDTH,
    *,
    is_strict: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> NucleiImages:
    """Read all images; those that cannot be used are left out and named.

    Raises:
        DataError: If none can be used, or one cannot under `is_strict`.
    """
    images: list[ObjectImage] = []
    skipped: list[Skipped] = []
    warnings: list[str] = []
    for each in files:
        try:
            nuclei = read_nuclei(each)
        except UnetError as error:
            skipped.append(Skipped(each.id, str(error)))
        else:
            labels = nuclei_labels(nuclei.instances, target, border_width)
            images.append(ObjectImage(each.id, nuclei.image, labels, nuclei.instances, nuclei.spacing))
            warnings += nuclei.warnings
        advance()
    refuse_all_skipped(skipped, len(images), is_strict=is_strict)
    return NucleiImages(tuple(images), tuple(skipped), shortened(warnings))
