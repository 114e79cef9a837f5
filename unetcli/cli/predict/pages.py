"""Pages of TIF, PNG and JPEG files to masks of the same form, but PNG for JPEG."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from unetcli import report
from unetcli.cli.predict.wishes import is_off_scale, say_doubts, within_memory
from unetcli.data.formats.images import find_images, image_format, open_image
from unetcli.data.formats.masks import plan_outputs, writing
from unetcli.errors import counted
from unetcli.inference import ahead, behind, clean, labels_of, separate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.cli.predict.wishes import Wishes
    from unetcli.cli.segmenting import Segmenter
    from unetcli.data.formats.masks import Outputs
    from unetcli.inference import Scores
    from unetcli.runs import RunFacts

AT_ONCE = 3
"""Pages of a file in memory, if it has as many: one that is read, one that is segmented, and one that is written."""

find = find_images
plan = plan_outputs


def check(path: Path) -> None:
    """Raise `DataError` for a file that is neither TIF nor PNG nor JPEG."""
    image_format(path)


def images(path: Path, facts: RunFacts) -> Iterator[tuple[NDArray[Any], None]]:
    """The pages of a file."""
    with open_image(path, num_channels=len(facts.channels)) as image:
        for page in image:
            yield page, None


def segment(outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
    """Segment a file page by page; the next is read, and the last one written, while the network is at one."""
    facts = wishes.facts
    pixels, off_scale, num_objects = np.zeros(len(facts.classes), np.int64), 0, 0
    started = time.perf_counter()

    @functools.cache  # the plan for pages of one size is said once
    def segmenter_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Segmenter:
        num_pages = min(AT_ONCE, image.num_pages)
        return within_memory(wishes, wishes.work(shape, dtype, keeps_scores=True, num_pages=num_pages))

    def scored(pages: Iterable[NDArray[Any]]) -> Iterator[Scores]:
        nonlocal off_scale
        for page in ahead(pages):
            off_scale += is_off_scale(page, wishes)
            yield segmenter_of(page.shape, page.dtype).scores(page)

    def finish(scores: Scores) -> None:
        nonlocal pixels, num_objects
        labels = labels_of(scores)
        if wishes.cleaning:
            labels, _ = clean(labels, wishes.cleaning)
        instances = separate(labels, scores, wishes.separation) if wishes.separation else None
        write(labels, scores, instances.numbers if instances else None)
        num_objects += instances.num_objects if instances else 0
        pixels += np.bincount(labels.ravel(), minlength=len(facts.classes))
        count()

    with (
        open_image(outputs.image, num_channels=len(facts.channels)) as image,
        writing(outputs, image, wishes.values) as write,
        report.counting(outputs.image.name, image.num_pages) as count,
    ):
        behind(finish, scored(image))
    shares = {info.name: float(share) for info, share in zip(facts.classes, pixels / pixels.sum(), strict=True)}
    say_doubts(outputs, wishes, shares, f"intensities of {counted(off_scale, 'page')} are" if off_scale else "")
    return {
        "image": str(outputs.image),
        "mask": str(outputs.mask),
        "scores": str(outputs.scores) if outputs.scores else None,
        **({"instances": str(outputs.instances), "num_objects": num_objects} if outputs.instances else {}),
        "pages": image.num_pages,
        "class_shares": shares,
        "seconds": time.perf_counter() - started,
    }
