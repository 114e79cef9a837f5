"""From images to labels as a run's settings say: normalised, tiled, through every network, averaged, blended."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from unetcli.core.normalization import fit_normalization
from unetcli.errors import ConfigError
from unetcli.inference import (
    MemoryPlan,
    PredictorCost,
    TilePlan,
    TileRules,
    Work,
    average,
    common_tiles,
    effective_halo,
    fit_memory,
    labels_of,
    largest_tiles,
    once_for_uniform,
    plan_memory,
    predict_image,
    predict_labels,
    symmetries_of,
    tile_cost,
)
from unetcli.runtimes import tile_bytes_per_pixel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from unetcli.cli.networks import Member
    from unetcli.config import Config
    from unetcli.core.geometry import Geometry
    from unetcli.evaluation import LabelledCase, Prediction
    from unetcli.inference import OnTile, Predictor, Scores, Symmetries

Tile = tuple[int, ...] | str
"""The size of a tile, 'patch' or 'auto'."""


class Tiling(Protocol):
    """How images are cut into tiles."""

    @property
    def trial_size(self) -> tuple[int, ...]:
        """A size of tile to try the predictor with."""
        ...

    def plan(self, work: Work) -> TilePlan:
        """The tiles of an image."""
        ...

    def within(self, work: Work, cost: PredictorCost, budget: int) -> MemoryPlan:
        """The tiles of an image with which the process keeps within a budget of bytes; a ConfigError if none do."""
        ...


@dataclass(frozen=True, slots=True)
class FixedTiles:
    """Tiles of one size.

    Args:
        tiles: How every image is cut.
    """

    tiles: TilePlan

    @property
    def trial_size(self) -> tuple[int, ...]:
        """That size."""
        return self.tiles.tile_size

    def plan(self, work: Work) -> TilePlan:  # noqa: ARG002 of whatever image
        """The same for every image."""
        return self.tiles

    def within(self, work: Work, cost: PredictorCost, budget: int) -> MemoryPlan:
        """Tiles one by one, since a trial with one does not tell what more would take; on CPU batches gain nothing."""
        return fit_memory(work, replace(self.tiles, batch_size=1), cost, budget)


@dataclass(frozen=True, slots=True)
class Segmenter:
    """From an image as stored to its scores or labels.

    Args:
        members: The networks.
        tiling: How images are cut into tiles.
        tta: Whether to average over the symmetries of an image.
        pairs: For each class, the one that it becomes in a mirror; none if empty.
    """

    members: tuple[Member, ...]
    tiling: Tiling
    tta: bool = False
    pairs: tuple[int, ...] = ()

    @property
    def config(self) -> Config:
        """The settings of the first network, which are those that count."""
        return self.members[0].config

    def predictor(self, image: NDArray[Any]) -> Predictor:
        """The function from tiles of this image, as stored, to scores."""
        return average([_normalizing(member, image) for member in self.members])

    def symmetries(self, geometry: Geometry | None) -> Symmetries | None:
        """What is averaged over; None for the image as it is."""
        if not self.tta:
            return None
        ndim = self.config.model.ndim
        lateral = geometry.lateral_axis if geometry else ndim - 1
        axes = self.config.augmentation.flip_axes
        return symmetries_of(ndim, axes=axes, lateral_axis=lateral if self.pairs else None, pairs=self.pairs or None)

    def work(self, shape: tuple[int, ...], dtype: np.dtype[Any], **more: Any) -> Work:
        """What an image `(C, *S)` asks for; `more` are fields of `Work`."""
        forms = self.symmetries(None)
        return Work(shape, dtype, self.config.model.num_classes or 0, num_forms=len(forms) if forms else 1, **more)

    def scores(self, image: NDArray[Any], geometry: Geometry | None = None, on_tile: OnTile | None = None) -> Scores:
        """`(K, *S)` of an image `(C, *S)`."""
        plan = self.tiling.plan(self.work(image.shape, image.dtype, keeps_scores=True))
        tta = self.symmetries(geometry) or False
        return predict_image(image, self.predictor(image), plan, tta=tta, on_tile=on_tile)

    def labels(
        self, image: NDArray[Any], geometry: Geometry | None = None, on_tile: OnTile | None = None
    ) -> NDArray[np.uint8]:
        """`(*S)` of an image `(C, *S)`; scores live for a slab only."""
        plan = self.tiling.plan(self.work(image.shape, image.dtype))
        symmetries = self.symmetries(geometry)
        return predict_labels(image, self.predictor(image), plan, symmetries=symmetries, on_tile=on_tile)

    def case(self, case: LabelledCase) -> Prediction:
        """Scores and labels of a case; of a volume, whose scores may not fit into memory, the labels alone."""
        from unetcli.evaluation import Prediction  # with the libraries of all measures

        if self.config.model.ndim == 3:
            return Prediction(self.labels(case.image, case.geometry))
        scores = self.scores(case.image)
        return Prediction(labels_of(scores), scores)


@dataclass(frozen=True, slots=True)
class LargestTiles:
    """Tiles as large as the memory allows.

    Args:
        rules: What tiles the networks take.
    """

    rules: TileRules

    @property
    def trial_size(self) -> tuple[int, ...]:
        """The smallest."""
        return self.rules.least

    def plan(self, work: Work) -> TilePlan:
        """The tiles of an image."""
        return largest_tiles(work, self.rules)

    def within(self, work: Work, cost: PredictorCost, budget: int) -> MemoryPlan:
        """The largest tiles within the budget."""
        tiles = largest_tiles(work, self.rules, cost, budget)
        return plan_memory(work, tiles, tile_cost(cost, tiles, self.rules))


def segmenter(
    members: Sequence[Member],
    *,
    tta: bool | None = None,
    tile: Tile | None = None,
    overlap: float | None = None,
    pairs: tuple[int, ...] = (),
    cases: Sequence[LabelledCase] = (),
) -> Segmenter:
    """One or several networks that segment as the settings of the first say.

    Args:
        members: The networks.
        tta: Average over symmetries; as the settings say if None.
        tile: Size of the tiles; as the settings say if None.
        overlap: Least share of a tile that its neighbour repeats; as the settings say if None.
        pairs: See `Segmenter`.
        cases: All that will be segmented, where they are known. With MindSpore 'auto' is then one size that suits them
            all, and otherwise the size of a patch.

    Raises:
        ConfigError: If a network cannot take tiles of that size, or tiles whose overlap is chosen are given one.
    """
    config = members[0].config
    size = _tile(config, tile, overlap)
    if size == "auto" and all(member.runtime != "mindspore" for member in members):
        tiling = LargestTiles(_rules(members))
    elif size == "auto" and cases:  # MindSpore takes seconds to compile each size of tile
        works = [Work(case.image.shape, case.image.dtype, config.model.num_classes or 0) for case in cases]
        tiling = FixedTiles(common_tiles(works, _rules(members)))
    else:
        tiling = FixedTiles(_classic(members, config.data.patch_size if isinstance(size, str) else size, overlap))
    return Segmenter(tuple(members), tiling, config.inference.tta if tta is None else tta, pairs)


def _tile(config: Config, tile: Tile | None, overlap: float | None) -> Tile:
    """What the tiles are to be; an overlap that is asked for means tiles of a given size."""
    if tile == "auto" and overlap is not None:
        raise ConfigError(
            f"--overlap {overlap:g}: with --tile auto the overlap is chosen", hint="name a size, or use --tile patch"
        )
    found = config.inference.tile_size if tile is None else tile
    return "patch" if found == "auto" and overlap is not None else found


def _classic(members: Sequence[Member], size: tuple[int, ...], overlap: float | None) -> TilePlan:
    """Tiles of a given size, which every network must take, that overlap by a share of it."""
    for member in members:
        try:
            member.config.model.check_size("--tile", size)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    config = members[0].config
    share = config.inference.overlap if overlap is None else overlap
    return TilePlan.with_share(size, share, config.inference.blending, config.inference.batch_size, config.model.margin)


def _rules(members: Sequence[Member]) -> TileRules:
    """What tiles the networks take, which all have the margin of the first."""
    model, data = members[0].config.model, members[0].config.data
    reach = [max(axis) for axis in zip(*(member.config.model.reach for member in members), strict=True)]
    stride = [math.lcm(*axis) for axis in zip(*(member.config.model.stride for member in members), strict=True)]
    return TileRules(
        stride=tuple(stride),
        halo=effective_halo(reach) if model.margin == 0 else (0,) * model.ndim,
        least=tuple(
            model.remainder + step * math.ceil((length - model.remainder) / step)
            for length, step in zip(data.patch_size, stride, strict=True)
        ),
        bytes_per_pixel=sum(map(_bytes_per_pixel, members)),
        margin=model.margin,
        remainder=model.remainder,
        blending=members[0].config.inference.blending,
    )


def _bytes_per_pixel(member: Member) -> float:
    model = member.config.model
    return tile_bytes_per_pixel(member.runtime, _widening(member) * model.channels[0], model.ndim)


def _widening(member: Member) -> float:
    """How many times the features of a unet the network holds, as `tile_bytes_per_pixel` says."""
    model = member.config.model
    if model.architecture == "unet_cicek":
        return 3
    if model.architecture == "unet_nested":
        return 0.7 * model.depth if model.ndim == 2 else 1.3 * (model.depth - 1)
    if model.attention:
        return 2.1 if member.runtime == "mindspore" else 1.25
    return 1


def _normalizing(member: Member, image: NDArray[Any]) -> Predictor:
    data = member.config.data
    normalization = fit_normalization(image, data.normalization, data.lower, data.upper, output_range=data.output_range)

    known = once_for_uniform(member.predict)  # such as the air around a body

    def predict(tiles: NDArray[Any]) -> Scores:
        return known(normalization.along(tiles, 1))

    return predict
