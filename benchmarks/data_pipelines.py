"""The four pipelines that `benchmarks/data.py` times, each as a function that makes patches and returns how many."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
Make = Callable[[], int]

DEGREES, SCALE = 20.0, (0.8, 1.25)
BRIGHTNESS, CONTRAST, GAMMA, NOISE = 0.2, (0.8, 1.2), (0.8, 1.25), 0.1
BOUNDS = {2: (0.0, 255.0), 3: (-1000.0, 1000.0)}
"""Intensities that become -1 and 1."""
WARM = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """A workload: the patch, and how likely what is."""

    patch: tuple[int, ...]
    affine: float
    elastic: float
    intensity: float
    quarter_turns: bool = False

    @property
    def axes(self) -> range:
        """Every spatial axis."""
        return range(len(self.patch))

    @property
    def initial(self) -> tuple[int, ...]:
        """Pixels that a peer crops so that a turned and scaled patch finds them; the patch where none is turned."""
        if self.affine == 0:
            return self.patch
        cosine, sine = math.cos(math.radians(DEGREES)), math.sin(math.radians(DEGREES))
        largest = list(self.patch)
        for first, second in itertools.permutations(self.axes, 2):
            largest[first] = max(largest[first], math.ceil(cosine * self.patch[first] + sine * self.patch[second]))
        return tuple(math.ceil(length / SCALE[0]) for length in largest)


RECIPES = {
    "2D": Recipe((256, 256), 0.0, 0.5, 0.3, quarter_turns=True),
    "2D all": Recipe((256, 256), 1.0, 1.0, 1.0),
    "3D": Recipe((64, 96, 96), 0.3, 0.0, 0.15),
    "3D all": Recipe((64, 96, 96), 1.0, 1.0, 1.0),
}


def per_second(make: Make, seconds: float) -> float:
    """Patches in a second of the processor, after some to warm up."""
    warm = 0
    while warm < WARM:
        warm += make()
    started, made = time.process_time(), 0
    while time.process_time() < started + seconds:
        made += make()
    return made / (time.process_time() - started)


def unet(pairs: Sequence[Pair], recipe: Recipe) -> Make:
    """Ours, in batches of two."""
    import cv2

    from unetcli.config import load_config
    from unetcli.data.cases import LabelledImage
    from unetcli.data.patches import PatchSampler

    cv2.setNumThreads(1)
    lower, upper = BOUNDS[len(recipe.patch)]
    values = {
        "model.in_channels": 1,
        "model.num_classes": 3,
        "data.patch_size": list(recipe.patch),
        "data.foreground_share": 0.0,
        "data.normalization": "range",
        "data.lower": lower,
        "data.upper": upper,
        "train.batch_size": 2,
        "augmentation.quarter_turns": str(recipe.quarter_turns).lower(),
        "augmentation.affine_probability": recipe.affine,
        "augmentation.rotation": DEGREES,
        "augmentation.scale": list(SCALE),
        "augmentation.elastic_probability": recipe.elastic,
        "augmentation.elastic_std": 4.0,
        "augmentation.elastic_grid": 5 if len(recipe.patch) == 2 else 3,
        "augmentation.intensity_probability": recipe.intensity,
    }
    config = load_config(
        "isbi" if len(recipe.patch) == 2 else "volume", None, [f"{name}={value}" for name, value in values.items()]
    )
    cases = [LabelledImage(str(number), image, labels) for number, (image, labels) in enumerate(pairs)]
    sampler, steps = PatchSampler(cases, config), itertools.count()
    return lambda: len(sampler[next(steps)][0])


def monai(pairs: Sequence[Pair], recipe: Recipe) -> Make:
    """MONAI's dictionary transforms."""
    import torch
    from monai import transforms
    from monai.data.meta_obj import set_track_meta

    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    torch.set_num_threads(1)
    set_track_meta(False)
    keys, modes = ["image", "labels"], ("bilinear", "nearest")
    ndim, radians = len(recipe.patch), math.radians(DEGREES)
    turned = {"rotate_range": [radians] * (1 if ndim == 2 else 3), "scale_range": [(SCALE[0] - 1, SCALE[1] - 1)] * ndim}
    moved = {"prob": 1.0, "spatial_size": recipe.patch, "mode": modes, "padding_mode": "reflection"}
    if recipe.affine:
        moved |= turned
    if not recipe.elastic:
        resampling = transforms.RandAffined(keys, cache_grid=True, **moved)
    elif ndim == 2:
        resampling = transforms.Rand2DElasticd(keys, spacing=64, magnitude_range=(0, 8), **moved)
    else:
        resampling = transforms.Rand3DElasticd(keys, sigma_range=(5, 8), magnitude_range=(50, 150), **moved)
    crop = transforms.RandSpatialCropd(keys, recipe.patch, random_size=False)
    larger = transforms.RandSpatialCropd(keys, recipe.initial, random_size=False)
    lower, upper = BOUNDS[ndim]
    share = max(recipe.affine, recipe.elastic)
    steps = [
        transforms.OneOf([transforms.Compose([larger, resampling]), crop], weights=[share, 1 - share]),
        *(transforms.RandFlipd(keys, 0.5, axis) for axis in recipe.axes),
        transforms.ScaleIntensityRanged(["image"], lower, upper, -1, 1, clip=True),
        transforms.RandShiftIntensityd(["image"], BRIGHTNESS, prob=recipe.intensity),
        transforms.RandScaleIntensityFixedMeand(
            ["image"], [factor - 1 for factor in CONTRAST], prob=recipe.intensity, preserve_range=False
        ),
        transforms.RandAdjustContrastd(["image"], recipe.intensity, GAMMA),
        transforms.RandGaussianNoised(["image"], recipe.intensity, std=NOISE),
    ]
    if recipe.quarter_turns:
        steps.insert(1, transforms.RandRotate90d(keys, 0.75))
    pipeline = transforms.Compose(steps)
    pipeline.set_random_state(1)
    cases = itertools.cycle(
        {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)[None]} for image, labels in pairs
    )

    def make() -> int:
        patch = pipeline(next(cases))
        _check(patch["image"].shape, patch["labels"].shape, recipe)
        return 1

    return make


def batchgenerators(pairs: Sequence[Pair], recipe: Recipe) -> Make:
    """The transforms of nnU-Net 1, on arrays."""
    from batchgenerators.transforms import color_transforms as color
    from batchgenerators.transforms import spatial_transforms as spatial
    from batchgenerators.transforms.abstract_transforms import Compose
    from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform

    np.random.seed(1)  # noqa: NPY002 - the library draws from the global state
    radians, likely = math.radians(DEGREES), {"p_per_sample": recipe.intensity}
    steps = [
        spatial.SpatialTransform(
            recipe.patch,
            do_elastic_deform=recipe.elastic > 0,
            alpha=(0.0, 900.0),
            sigma=(9.0, 13.0),
            do_rotation=recipe.affine > 0,
            angle_x=(-radians, radians),
            angle_y=(-radians, radians),
            angle_z=(-radians, radians),
            do_scale=recipe.affine > 0,
            scale=SCALE,
            order_data=1,
            order_seg=0,
            border_mode_seg="nearest",
            random_crop=False,
            p_el_per_sample=recipe.elastic,
            p_rot_per_sample=recipe.affine,
            p_scale_per_sample=recipe.affine,
        ),
        spatial.MirrorTransform(tuple(recipe.axes)),
        color.BrightnessTransform(0.0, BRIGHTNESS / 2, per_channel=False, **likely),
        color.ContrastAugmentationTransform(CONTRAST, preserve_range=False, **likely),
        color.GammaTransform(GAMMA, **likely),
        GaussianNoiseTransform((0, NOISE), **likely),
    ]
    if recipe.quarter_turns:
        steps.insert(1, spatial.Rot90Transform(axes=(0, 1), p_per_sample=0.75))
    pipeline, crops = Compose(steps), _crops(pairs, recipe)

    def make() -> int:
        image, labels = next(crops)
        patch = pipeline(data=image[None], seg=labels[None, None].astype(np.float32))
        _check(patch["data"].shape[1:], patch["seg"].astype(np.int16).shape[1:], recipe)
        return 1

    return make


def batchgeneratorsv2(pairs: Sequence[Pair], recipe: Recipe) -> Make:
    """The transforms of nnU-Net 2, on tensors."""
    import torch
    from batchgeneratorsv2.transforms.intensity.brightness import BrightnessAdditiveTransform
    from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.rot90 import Rot90Transform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the library draws from the global state
    radians = math.radians(DEGREES)
    intensity = [
        BrightnessAdditiveTransform(0.0, BRIGHTNESS / 2),
        ContrastTransform(BGContrast(CONTRAST), preserve_range=False, synchronize_channels=True),
        GammaTransform(
            BGContrast(GAMMA), p_invert_image=0, synchronize_channels=True, p_per_channel=1, p_retain_stats=0
        ),
        GaussianNoiseTransform((0, NOISE), synchronize_channels=True),
    ]
    steps = [
        SpatialTransform(
            recipe.patch,
            0,
            random_crop=False,
            p_elastic_deform=recipe.elastic,
            elastic_deform_magnitude=(0, 8),
            p_rotation=recipe.affine,
            rotation=(-radians, radians),
            p_scaling=recipe.affine,
            scaling=SCALE,
            p_synchronize_scaling_across_axes=1,
            mode_seg="nearest",
            border_mode_seg="reflection",
            padding_mode_image="reflection",
        ),
        MirrorTransform(tuple(recipe.axes)),
        *(RandomTransform(transform, recipe.intensity) for transform in intensity),
    ]
    if recipe.quarter_turns:
        steps.insert(1, RandomTransform(Rot90Transform(1, allowed_axes={0, 1}), 0.75))
    pipeline, crops = ComposeTransforms(steps), _crops(pairs, recipe)

    def make() -> int:
        image, labels = next(crops)
        patch = pipeline(image=torch.from_numpy(image), segmentation=torch.from_numpy(labels[None].astype(np.int16)))
        _check(patch["image"].shape, patch["segmentation"].shape, recipe)
        return 1

    return make


def _crops(pairs: Sequence[Pair], recipe: Recipe) -> itertools.cycle[Pair]:
    """What nnU-Net's loader hands to the transforms: a random part of each case in turn, normalised to float32."""
    rng = np.random.default_rng(1)
    lower, upper = BOUNDS[len(recipe.patch)]
    scale = np.float32(2 / (upper - lower))

    def crops():
        for image, labels in itertools.cycle(pairs):
            starts = [int(rng.integers(n - size + 1)) for n, size in zip(labels.shape, recipe.initial, strict=True)]
            place = tuple(slice(start, start + size) for start, size in zip(starts, recipe.initial, strict=True))
            part = image[(slice(None), *place)].astype(np.float32)
            part -= np.float32(lower)
            part *= scale
            part -= np.float32(1)
            np.clip(part, -1, 1, out=part)
            yield part, labels[place]

    return crops()


def _check(image: Sequence[int], labels: Sequence[int], recipe: Recipe) -> None:
    if tuple(image) != (1, *recipe.patch) or tuple(labels) != (1, *recipe.patch):
        raise ValueError(f"a patch must be {recipe.patch}, got {tuple(image)} and {tuple(labels)}")
