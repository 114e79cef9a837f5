"""Training batches as a pure function of the seed and the step.

Nothing is remembered between steps, so any number of workers, in any order, and a run that was stopped and
resumed, see the same patches.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetcli.config import AugmentationSettings, Config, DataSettings
from unetcli.core.intensity import IntensityRanges, vary_intensity
from unetcli.core.normalization import Normalization, dtype_range, fit_normalization
from unetcli.core.spatial import SpatialRanges, draw_grid, mirrored_crop
from unetcli.data.cases import LabelledImage
from unetcli.errors import ConfigError, DataError

# tell the random streams of one seed apart
ORDER_STREAM = 1
PATCH_STREAM = 2


class PatchSampler:
    """Batches of augmented patches, indexed by the step.

    Every pass over the cases shows each once, in a new order. Images stay as they are stored and are
    normalised patch by patch, so that memory holds them once.

    Args:
        cases: The training cases; equal in channels, of any size.
        config: The settings of the run, with the number of classes known.

    Raises:
        ConfigError: If the number of classes is not set, or 'range' has no bounds for floating-point images.
        DataError: If there is no case, or one is not what it must be; names the case.
    """

    def __init__(self, cases: Sequence[LabelledImage], config: Config) -> None:
        if config.model.num_classes is None:
            raise ConfigError("model.num_classes: not set", hint="take it from the dataset before training")
        if not cases:
            raise DataError("no training cases", hint="choose a fold that leaves cases to train on")
        num_channels = config.model.in_channels or cases[0].image.shape[0]
        for case in cases:
            _check_case(case, num_channels, config.model.num_classes)
        self._cases = tuple(cases)
        self._normalizations = tuple(_normalization(case, config.data) for case in cases)
        self._spatial = spatial_ranges(config.augmentation)
        self._intensity = intensity_ranges(config.augmentation, config.data)
        self._patch_size = config.data.patch_size
        self._margin = config.model.margin
        self._seed = config.train.seed
        self._batch_size = config.train.batch_size
        self._steps_per_epoch = config.train.steps_per_epoch

    @property
    def label_size(self) -> tuple[int, int]:
        """Rows and columns of a patch's labels."""
        rows, columns = self._patch_size
        return rows - 2 * self._margin, columns - 2 * self._margin

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch: as set, or as many as have about as many labelled pixels as all cases together."""
        if self._steps_per_epoch is not None:
            return self._steps_per_epoch
        num_pixels = sum(case.labels.size for case in self._cases)
        return math.ceil(num_pixels / (self._batch_size * math.prod(self.label_size)))

    def __getitem__(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The batch of a step, counted from 0 over the whole training.

        Returns:
            `(N, C, *patch)` normalised images and `(N, *label_size)` labels.

        Raises:
            IndexError: If `step` is negative; there is no last step to count back from.
        """
        if operator.index(step) < 0:
            raise IndexError(f"steps are counted from 0, got {step}")
        first = step * self._batch_size
        patches = [self._patch(number) for number in range(first, first + self._batch_size)]
        images, labels = zip(*patches, strict=True)
        return np.stack(images), np.stack(labels).astype(np.int32)

    def case_index(self, number: int) -> int:
        """Which case the patch of a number, counted over the whole training, is cut from."""
        turn, place = divmod(number, len(self._cases))
        return int(_order(self._seed, turn, len(self._cases))[place])

    def _patch(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """`(C, *patch)` image and `(*label_size)` labels of the patch of a number."""
        index = self.case_index(number)
        case = self._cases[index]
        rng = np.random.default_rng((self._seed, PATCH_STREAM, number))
        height, width = case.labels.shape
        grid = draw_grid(self._spatial, (height, width), self._patch_size, self._margin, rng)
        region = self._normalizations[index](mirrored_crop(case.image, grid.start, grid.size))
        image = vary_intensity(grid.sample_image(region), self._intensity, rng)
        labels = grid.sample_labels(mirrored_crop(case.labels, grid.start, grid.size), self._margin)
        return image, labels


def spatial_ranges(settings: AugmentationSettings) -> SpatialRanges:
    """The spatial part of the settings."""
    return SpatialRanges(
        flip=settings.flip,
        quarter_turns=settings.quarter_turns,
        affine_probability=settings.affine_probability,
        rotation=settings.rotation,
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
        limits=None if data.normalization == "zscore" else data.output_range,
    )


@functools.lru_cache(maxsize=8)
def _order(seed: int, turn: int, num_cases: int) -> NDArray[np.int64]:
    """The order of the cases in one pass over them."""
    order = np.random.default_rng((seed, ORDER_STREAM, turn)).permutation(num_cases)
    order.setflags(write=False)
    return order


def _check_case(case: LabelledImage, num_channels: int, num_classes: int) -> None:
    shape = case.image.shape
    if case.image.ndim != 3 or shape[0] != num_channels:
        raise DataError(
            f"{case.id}: image has shape {shape}, but the network takes (C, H, W) with {num_channels} channels",
            hint="prepare the dataset from images with the same channels",
        )
    if case.labels.shape != shape[1:] or case.labels.size == 0:
        raise DataError(f"{case.id}: labels are {case.labels.shape} px but their image is {shape[1:]} px")
    highest = int(case.labels.max())
    if highest >= num_classes:
        raise DataError(
            f"{case.id}: labels hold the value {highest}, but {num_classes} classes allow 0 to {num_classes - 1}",
            hint="leave model.num_classes to the dataset, or prepare the dataset again",
        )


def _normalization(case: LabelledImage, data: DataSettings) -> Normalization:
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
    if case.image.dtype.kind == "f" and not np.isfinite(case.image).all():
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
