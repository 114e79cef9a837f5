"""Training batches as a pure function of the seed and the step.

Nothing is remembered between steps, so any number of workers, in any order, and a run that was stopped and
resumed, see the same patches.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetcli.config import AugmentationSettings, Config, DataSettings
from unetcli.core.grids import mirrored_crop
from unetcli.core.intensity import IntensityRanges, vary_intensity
from unetcli.core.normalization import Normalization, dtype_range, fit_normalization
from unetcli.core.sampling import foreground_points, pick_point
from unetcli.core.spatial import MirrorRule, PatchShape, SpatialRanges, draw_grid
from unetcli.data.cases import IGNORED, LabelledImage
from unetcli.errors import ConfigError, DataError, counted

# tell the random streams of one seed apart
ORDER_STREAM = 1
PATCH_STREAM = 2

Batch = (
    tuple[NDArray[np.float32], NDArray[np.int32]] | tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]
)
"""Images, labels and, where pixels are weighed, their weights."""


@dataclass(frozen=True, slots=True)
class Share:
    """The part of each step's patches that one of several processes trains on.

    A step may consist of several batches whose gradients are added up; every process has its part of each, so that all
    processes together have the batches of one.

    Args:
        patches_per_step: Of all processes together.
        rank: Number of this process.
        num_ranks: How many there are.
        num_batches: Batches of a step.

    Raises:
        ConfigError: If they cannot all have as many.
    """

    patches_per_step: int
    rank: int = 0
    num_ranks: int = 1
    num_batches: int = 1

    def __post_init__(self) -> None:
        if self._batch_size % self.num_ranks:
            patches = counted(self._batch_size, "patch", "patches")
            raise ConfigError(
                f"{patches} of a batch cannot be shared out to {self.num_ranks} processes",
                hint="take a number of processes that divides them, or change train.batch_size",
            )

    @property
    def _batch_size(self) -> int:
        return self.patches_per_step // self.num_batches

    @property
    def places(self) -> list[int]:
        """Which patches of a step are those of this process, counted from 0."""
        size = self._batch_size // self.num_ranks
        firsts = range(self.rank * size, self.patches_per_step, self._batch_size)
        return [first + place for first in firsts for place in range(size)]


class PatchSampler:
    """Batches of augmented patches, indexed by the step.

    Every pass over the cases shows each once, in a new order, by `data.patches_per_case` patches in a row. Images stay
    as they are stored and are normalised patch by patch, so that memory holds them once; of an image that is the map
    of a file, only what a patch shows is read.

    In every batch, the share `data.foreground_share` of the patches, rounded but at least one, holds a class other
    than background, if its case has any; a batch of one patch does with this probability. They are the last of a
    batch.

    Args:
        cases: The training cases; equal in channels, of any size.
        config: The settings of the run, with the number of classes known.
        mirror: What becomes of the classes when a case is mirrored from side to side: along the axis that its geometry
            tells, or the last. Where any becomes another, quarter turns are left out, since they would lay
            what is left to the front.
        has_ignored: Whether the labels may hold `IGNORED`.
        share: Which patches of a step; all that the settings ask of one process if None.

    Raises:
        ConfigError: If the number of classes is not set, 'range' has no bounds for floating-point images, or pixels
            are to be weighed and a case has no weights.
        DataError: If there is no case, or one is not what it must be; names the case.
    """

    def __init__(
        self,
        cases: Sequence[LabelledImage],
        config: Config,
        *,
        mirror: MirrorRule | None = None,
        has_ignored: bool = False,
        share: Share | None = None,
    ) -> None:
        if config.model.num_classes is None:
            raise ConfigError("model.num_classes: not set", hint="take it from the dataset before training")
        if not cases:
            raise DataError("no training cases", hint="choose a fold that leaves cases to train on")
        num_channels = config.model.in_channels or cases[0].image.shape[0]
        for case in cases:
            _check_shape(case, num_channels, config.model.ndim)
            _check_labels(case, config.model.num_classes, has_ignored)
            if config.loss.weight_map and case.weights is None:
                raise ConfigError(
                    f"loss.weight_map: is set, but {case.id} has no weight map",
                    hint="prepare the dataset again with --weight-map, or leave the setting out",
                )
        self._cases = tuple(cases)
        self._num_channels = num_channels
        self._share = share or Share(config.train.patches_per_step)
        self._config = config
        self._mirror = mirror if mirror is not None and mirror.has_pairs else None
        spatial = spatial_ranges(config.augmentation)
        self._spatial = spatial if self._mirror is None else replace(spatial, quarter_turns=False)
        self._intensity = intensity_ranges(config.augmentation, config.data)
        self._shape = PatchShape(config.data.patch_size, config.model.margin)
        # what would take reading a whole map is found when it is first needed; anew in two threads at worst
        self._normalizations = [_normalization_unless_slow(case, config.data) for case in cases]
        self._points = [case.points for case in cases]

    @property
    def label_size(self) -> tuple[int, ...]:
        """Pixels of a patch's labels along each axis."""
        return self._shape.label_size

    @property
    def patches_per_step(self) -> int:
        """Patches of a step, in all processes together."""
        return self._share.patches_per_step

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch: as set, or as `train.epoch_unit` says.

        They have about as many labelled pixels as all cases together, or `data.patches_per_case` patches of each.
        """
        train = self._config.train
        if train.steps_per_epoch is not None:
            return train.steps_per_epoch
        if train.epoch_unit == "cases":
            return math.ceil(len(self._cases) * self._config.data.patches_per_case / self.patches_per_step)
        num_pixels = sum(case.labels.size for case in self._cases)
        return math.ceil(num_pixels / (self.patches_per_step * math.prod(self.label_size)))

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over the whole training.

        Returns:
            `(N, C, *patch)` normalised images and `(N, *label_size)` labels, and with `loss.weight_map` the weights
            of the same pixels.

        Raises:
            IndexError: If `step` is negative; there is no last step to count back from.
        """
        if operator.index(step) < 0:
            raise IndexError(f"steps are counted from 0, got {step}")
        places = self._share.places
        images = np.empty((len(places), self._num_channels, *self._shape.size), np.float32)
        labels = np.empty((len(places), *self.label_size), np.int32)
        weights = np.empty(labels.shape, np.float32) if self._config.loss.weight_map else None
        for index, place in enumerate(places):
            number = step * self.patches_per_step + place
            self._fill(number, images[index], labels[index], None if weights is None else weights[index])
        return (images, labels) if weights is None else (images, labels, weights)

    def case_index(self, number: int) -> int:
        """Which case the patch of a number, counted over the whole training, is cut from."""
        turn, place = divmod(number // self._config.data.patches_per_case, len(self._cases))
        return int(_order(self._config.train.seed, turn, len(self._cases))[place])

    def _fill(
        self, number: int, image: NDArray[np.float32], labels: NDArray[np.int32], weights: NDArray[np.float32] | None
    ) -> None:
        """Make the patch of a number: its `(C, *patch)` image, and its `(*label_size)` labels and weights."""
        index = self.case_index(number)
        case = self._cases[index]
        rng = np.random.default_rng((self._config.train.seed, PATCH_STREAM, number))
        target = self._target(index, rng) if self._wants_foreground(number, rng) else None
        grid = draw_grid(self._spatial, self._shape, case.size, rng, spacing=case.spacing, target=target)
        grid = grid.inside(case.size)
        normalize, region = self._normalization(index), mirrored_crop(case.image, grid.start, grid.size)
        if grid.coordinates is None:
            normalize(grid.turned(region), out=image)
        else:
            grid.sample_image(normalize(region), out=image)
        vary_intensity(image, self._intensity, rng, in_place=True)
        found = grid.sample_labels(mirrored_crop(case.labels, grid.start, grid.size), self._shape.margin)
        if self._mirror is not None and _lateral_axis(case) in grid.mirrored:
            found = self._mirror(found)
        labels[...] = found
        if weights is not None and case.weights is not None:
            cut = mirrored_crop(case.weights, grid.start, grid.size)
            weights[...] = grid.sample_nearest(cut, self._shape.margin)

    def _wants_foreground(self, number: int, rng: np.random.Generator) -> bool:
        share, num_patches = self._config.data.foreground_share, self.patches_per_step
        if share == 0:
            return False
        if num_patches == 1:
            return rng.random() < share
        return number % num_patches >= num_patches - max(1, round(num_patches * share))

    def _target(self, index: int, rng: np.random.Generator) -> tuple[int, ...] | None:
        """A pixel of the case that is not background, or None if it has none."""
        points = self._points[index]
        if points is None:
            points = foreground_points(self._cases[index].labels, self._config.model.num_classes or 0)
            self._points[index] = points
        return pick_point(points, rng) if len(points) else None

    def _normalization(self, index: int) -> Normalization:
        found = self._normalizations[index]
        if found is None:
            found = _fit(self._cases[index], self._config.data)
            self._normalizations[index] = found
        return found


def spatial_ranges(settings: AugmentationSettings) -> SpatialRanges:
    """The spatial part of the settings."""
    return SpatialRanges(
        flip=settings.flip,
        flip_axes=settings.flip_axes,
        quarter_turns=settings.quarter_turns,
        affine_probability=settings.affine_probability,
        rotation=settings.rotation,
        in_plane=settings.in_plane,
        scale=settings.scale,
        shear=settings.shear,
        shift=settings.shift,
        elastic_probability=settings.elastic_probability,
        elastic_std=settings.elastic_std,
        elastic_grid=settings.elastic_grid,
    )


def intensity_ranges(settings: AugmentationSettings, data: DataSettings) -> IntensityRanges:
    """The intensity part of the settings; results are clipped where the normalisation clips."""
    return IntensityRanges(
        probability=settings.intensity_probability,
        brightness=settings.brightness,
        contrast=settings.contrast,
        gamma=settings.gamma,
        noise=settings.noise,
        stray_light=settings.stray_light,
        limits=None if data.normalization == "zscore" else data.output_range,
    )


@functools.lru_cache(maxsize=8)
def _order(seed: int, turn: int, num_cases: int) -> NDArray[np.int64]:
    """The order of the cases in one pass over them."""
    order = np.random.default_rng((seed, ORDER_STREAM, turn)).permutation(num_cases)
    order.setflags(write=False)
    return order


def _check_shape(case: LabelledImage, num_channels: int, ndim: int) -> None:
    shape = case.image.shape
    if len(shape) != 1 + ndim or shape[0] != num_channels:
        axes = "(C, Y, X)" if ndim == 2 else "(C, Z, Y, X)"
        raise DataError(
            f"{case.id}: image has shape {shape}, but the network takes {axes} with {counted(num_channels, 'channel')}",
            hint="prepare the dataset from images with the same channels"
            if len(shape) == 1 + ndim
            else "set model.ndim to 2 for images and to 3 for volumes, or choose a preset that does",
        )
    if case.labels.size == 0:
        raise DataError(f"{case.id}: image has no pixels, its shape is {shape}", hint="leave it out of the dataset")


def _check_labels(case: LabelledImage, num_classes: int, has_ignored: bool) -> None:
    if _is_map(case.labels):  # looked at when it was prepared
        return
    highest = int(case.labels.max(initial=0, where=case.labels != IGNORED) if has_ignored else case.labels.max())
    if highest >= num_classes:
        raise DataError(
            f"{case.id}: labels hold the value {highest}, but {num_classes} classes allow 0 to {num_classes - 1}",
            hint="leave model.num_classes to the dataset, or prepare the dataset again",
        )


def _is_map(array: NDArray[Any]) -> bool:
    return isinstance(array, np.memmap)


def _lateral_axis(case: LabelledImage) -> int:
    return len(case.size) - 1 if case.geometry is None else case.geometry.lateral_axis


def _normalization_unless_slow(case: LabelledImage, data: DataSettings) -> Normalization | None:
    """The normalisation of a case, or None if the whole map of a file would have to be read."""
    is_slow = _is_map(case.image) and data.normalization != "range" and case.statistics is None
    return None if is_slow else _fit(case, data)


def _fit(case: LabelledImage, data: DataSettings) -> Normalization:
    lower, upper = data.lower, data.upper
    if data.normalization == "range" and (lower is None or upper is None):
        if case.image.dtype.kind == "f":
            raise ConfigError(
                f"data.lower, data.upper: not set, and {case.id} is {case.image.dtype}, which has no natural range",
                hint="set both, or choose data.normalization percentile or zscore",
            )
        least, largest = dtype_range(case.image.dtype)
        lower, upper = least if lower is None else lower, largest if upper is None else upper
        if lower >= upper:
            raise ConfigError(f"data.lower {lower:g}, data.upper {upper:g}: empty range", hint="set both, or neither")
    if case.image.dtype.kind == "f" and not _is_map(case.image) and not np.isfinite(case.image).all():
        raise DataError(f"{case.id}: image has values that are not finite", hint="replace NaN and infinity first")
    try:
        return fit_normalization(
            case.image,
            data.normalization,
            lower,
            upper,
            output_range=data.output_range,
            statistics=case.statistics,
        )
    except (ValueError, TypeError) as error:
        raise DataError(f"{case.id}: {error}") from error
