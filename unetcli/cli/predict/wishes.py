"""What a prediction is to be, and what the two kinds of images have in common."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import psutil

from unetcli.cli.networks import open_ensemble
from unetcli.cli.segmenting import FixedTiles, segmenter
from unetcli.core.normalization import is_off_range
from unetcli.inference import Cleaning, PredictorCost, Work
from unetcli.report import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from unetcli.cli.segmenting import Segmenter, Tile
    from unetcli.core.geometry import Geometry
    from unetcli.data.formats.masks import Outputs
    from unetcli.inference import Separation
    from unetcli.runs import Run, RunFacts

GROWTH = 1.25
"""MindSpore's own memory grows by up to a fifth over its first hundred tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a call asks for, beside the images and the places of what is written.

    Args:
        runs: The runs; several are averaged.
        checkpoint: Which weights of theirs.
        cleaning: What is done to the labels.
        separation: How objects are told apart; None where they are not wanted.
        device: Where the networks are computed, or "auto".
        runtime: What computes them, or "auto".
        tta: Whether to average over symmetries; as the settings of the first run say if None.
        tile: Size of the tiles; the same.
        overlap: Least share of a tile that its neighbour repeats; the same.
        max_memory: Bytes that the process may hold; None for as many as it takes.
        is_shared: Whether several processes share out the images.
    """

    runs: Sequence[Run]
    checkpoint: str
    cleaning: Cleaning
    separation: Separation | None = None
    device: str = "auto"
    runtime: str = "auto"
    tta: bool | None = None
    tile: Tile | None = None
    overlap: float | None = None
    max_memory: int | None = None
    is_shared: bool = False

    @property
    def run(self) -> Run:
        """The first run, whose settings count."""
        return self.runs[0]

    @property
    def weights(self) -> Path:
        """The checkpoint of the first run."""
        return self.run.checkpoint(self.checkpoint)


@dataclass(frozen=True, slots=True)
class Wishes:
    """How every image of a call is segmented.

    Args:
        segmenter: The networks.
        facts: Of the first run.
        cleaning: What is done to the labels.
        max_memory: Bytes that the process may hold; None for as many as it takes.
        cost: What the networks take, where memory is limited.
        separation: How objects are told apart; None where they are not wanted.
    """

    segmenter: Segmenter
    facts: RunFacts
    cleaning: Cleaning
    max_memory: int | None = None
    cost: PredictorCost | None = None
    separation: Separation | None = None

    @property
    def values(self) -> list[int]:
        """What stands for each class in a mask."""
        return [info.value for info in self.facts.classes]

    def work(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, keeps_scores: bool, num_pages: int = 1) -> Work:
        """What an image `(C, *S)` asks for, for the plan of memory."""
        work = self.segmenter.work(shape, dtype, cleans=bool(self.cleaning), keeps_scores=keeps_scores, writes=True)
        return replace(work, num_pages=num_pages, separation=self.separation)


class Kind(Protocol):
    """Images or volumes: a module that can do these five things."""

    def find(self, places: Iterable[Path | str]) -> list[Path]:
        """The files that arguments mean."""
        ...

    def check(self, path: Path) -> None:
        """Raise `DataError` for a file that is of no known format."""
        ...

    def plan(
        self,
        images: Sequence[Path],
        folder: Path,
        *,
        with_scores: bool = False,
        with_instances: bool = False,
        overwrite: bool = False,
    ) -> list[Outputs]:
        """Where the masks go."""
        ...

    def images(self, path: Path, facts: RunFacts) -> Iterator[tuple[NDArray[Any], Geometry | None]]:
        """What the network is shown of a file, one after another: `(C, *S)`, and of a volume the grid that it is on."""
        ...

    def segment(self, outputs: Outputs, wishes: Wishes) -> dict[str, Any]:
        """Segment one file and say what was done."""
        ...


def computed(asked: Asked) -> Callable[[Outputs], Wishes]:
    """From an image to how it is segmented: by the networks of the runs, which are loaded now.

    Raises:
        UnetError: If they cannot be, do not fit each other, or do not take such tiles.
    """
    facts = asked.run.facts
    members = open_ensemble(asked.runs, asked.checkpoint, asked.device, asked.runtime)
    segment = segmenter(members, tta=asked.tta, tile=asked.tile, overlap=asked.overlap, pairs=facts.mirror_pairs)
    cost = try_out(segment, len(facts.channels)) if asked.max_memory else None
    wishes = Wishes(segment, facts, asked.cleaning, asked.max_memory, cost, asked.separation)
    return lambda _: wishes


def try_out(segmenter: Segmenter, num_channels: int) -> PredictorCost:
    """What the networks take of memory and time, from two tiles of nothing; the first also compiles."""
    tile = np.zeros((1, num_channels, *segmenter.tiling.trial_size), np.float32)
    predictor = segmenter.predictor(tile[0])
    num_scores = predictor(tile).nbytes
    started = time.perf_counter()
    predictor(tile)
    return PredictorCost(
        resident_bytes=int(peak_bytes() * GROWTH),
        tile_bytes=num_scores * (len(segmenter.members) > 1),
        seconds_per_tile=time.perf_counter() - started,
    )


def within_memory(wishes: Wishes, work: Work) -> Segmenter:
    """The segmenter with tiles that keep within the memory that is allowed; the plan is said first.

    Raises:
        ConfigError: If the memory does not do.
    """
    segmenter = wishes.segmenter
    if wishes.max_memory is None or wishes.cost is None:
        return segmenter
    plan = segmenter.tiling.within(work, wishes.cost, wishes.max_memory)
    for line in plan.describe():
        say(line)
    return replace(segmenter, tiling=FixedTiles(plan.tiles))


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    status = Path("/proc/self/status")
    if status.is_file():  # what getrusage says begins with the peak of the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text("utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_off_scale(image: NDArray[Any], wishes: Wishes) -> bool:
    """Whether an image has intensities that the run's range would ruin."""
    data = wishes.segmenter.config.data
    if data.normalization != "range" or data.lower is None or data.upper is None:
        return False
    return is_off_range(image, data.lower, data.upper)


def say_doubts(outputs: Outputs, wishes: Wishes, shares: dict[str, float], off_scale: str) -> None:
    """Warn where the intensities do not fit (`off_scale` says which), and where a mask has one class only."""
    data = wishes.segmenter.config.data
    if off_scale:
        say(
            f"warning: {outputs.image}: {off_scale} on another scale than the {data.lower:g} to {data.upper:g} of the "
            "run; convert the image to that scale"
        )
    if max(shares.values()) == 1:
        say(f"warning: {outputs.mask}: every pixel is '{max(shares, key=shares.__getitem__)}'; is it such an image?")
