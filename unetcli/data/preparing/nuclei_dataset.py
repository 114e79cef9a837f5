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
from unetcli.errors import ConfigError, UnetError, counted

Target = Literal["semantic", "separated", "border"]
SEMANTIC = (
    ClassInfo(index=0, name="background", source_values=(0,)),
    ClassInfo(index=1, name="nucleus", source_values=(255,)),
)
WITH_BORDER = (*SEMANTIC, ClassInfo(index=2, name="border", source_values=(128,)))
BORDER_WIDTHS: dict[Target, float] = {"semantic": 0.0, "separated": 1.0, "border": 2.0}


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
    return WITH_BORDER if target == "border" else SEMANTIC


def nuclei_labels(instances: NDArray[np.int32], target: Target, border_width: float | None = None) -> NDArray[np.uint8]:
    """The classes of numbered nuclei.

    Where nuclei touch, 'separated' puts background between them: the original U-Net is to learn "the small separation
    borders that we introduce between touching cells" (Ronneberger et al. 2015, section 3).

    Borders are between nuclei alone, as the winners of the Data Science Bowl 2018 drew them, and not around each: a
    rim all around costs small nuclei much of their area and says nothing that the edge of the nucleus does not, while
    the pixels between two are what decides whether they are counted as two. They win over nuclei.

    Args:
        instances: `(H, W)` number of the nucleus of every pixel, 0 for none.
        target: What becomes of the pixels between nuclei that touch: 'semantic' leaves them to the nuclei.
        border_width: How wide they are; see `unetcli.core.weight_map.narrow_borders`. As `BORDER_WIDTHS` if None.
    """
    labels = (instances > 0).astype(np.uint8)
    if target != "semantic":
        width = _width(target, border_width)
        labels[narrow_borders(instances, width)] = 2 if target == "border" else 0
    return labels


def read_all_nuclei(
    files: Sequence[NucleiFiles],
    target: Target,
    border_width: float | None = None,
    *,
    is_strict: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> NucleiImages:
    """Read all images; those that cannot be used are left out and named.

    Raises:
        DataError: If none can be used, or one cannot under `is_strict`.
        ConfigError: If borders leave no pixel of any nucleus.
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
    lost = _lost_to_borders(images, _width(target, border_width))
    return NucleiImages(tuple(images), tuple(skipped), (*shortened(warnings), *lost))


def _width(target: Target, border_width: float | None) -> float:
    return BORDER_WIDTHS[target] if border_width is None else border_width


def _lost_to_borders(images: Sequence[ObjectImage], width: float) -> list[str]:
    """What is told of nuclei of which borders leave no pixel; an error if that is all of them."""
    whole = [len(np.unique(image.instances[image.instances > 0])) for image in images]
    kept = [len(np.unique(image.instances[(image.instances > 0) & (image.labels == 1)])) for image in images]
    if whole == kept:
        return []
    nuclei = counted(sum(whole), "nucleus", "nuclei")
    if not any(kept):
        raise ConfigError(
            f"--border-width {width:g}: leaves no pixel of any of {nuclei}",
            hint="choose one that is much less than nuclei are wide, such as 2",
        )
    first = next(image.id for image, before, after in zip(images, whole, kept, strict=True) if after < before)
    return [f"borders of {width:g} px leave no pixel of {sum(whole) - sum(kept)} of {nuclei}, first in {first}"]
