"""The settings, section by section: names, types, bounds, and what must fit what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unetcli.config.reach import reach_of_nested_unet, reach_of_residual_unet, reach_of_unet
from unetcli.config.section import Axes, Section
from unetcli.config.training import LossSettings, OptimizerSettings, ScheduleSettings, TrainSettings

_LACKING = {
    "unet_valid": ("attention", "deep_supervision"),
    "unet_cicek": ("attention", "upsample_activation"),
    "unet_residual": ("residual", "upsample", "dropout", "attention", "upsample_activation", "deep_supervision"),
    "unet_nested": ("residual", "dropout", "attention", "upsample_activation"),
    "unet_simple": ("residual", "dropout", "attention", "upsample_activation", "deep_supervision"),
}
"""Settings that an architecture does not have."""


class ModelSettings(Section):
    """The network; section `model`."""

    architecture: Literal["unet", "unet_valid", "unet_cicek", "unet_residual", "unet_nested", "unet_simple"] = Field(
        default="unet",
        description="'unet' pads its convolutions; 'unet_valid' is the original, 572 px in and 388 px out; "
        "'unet_cicek' is the 3D U-Net of 2016; 'unet_residual' has strided residual levels, as the model zoo's Unet3d; "
        "'unet_nested' is UNet++; 'unet_simple' a padded U-Net; both have a norm only on the way down, as the zoo's.",
    )
    ndim: Literal[2, 3] = Field(default=2, description="2 for images, 3 for volumes.")
    in_channels: int | None = Field(
        default=None, ge=1, description="Channels of an image; taken from the dataset if unset ('num_channels')."
    )
    num_classes: int | None = Field(
        default=None, ge=2, description="Classes with background; taken from the dataset if unset."
    )
    base_channels: int = Field(default=64, ge=1, description="Channels of the first level, doubled at each ('base_c').")
    feature_scale: int = Field(default=1, ge=1, description="Divides the channels of every level.")
    depth: int = Field(default=5, ge=2, le=8, description="Levels of resolution; depth - 1 times the size is reduced.")
    strides: tuple[Axes, ...] | None = Field(
        default=None,
        strict=False,
        description="Reduction between levels, depth - 1 times one number an axis; from the spacing if unset.",
    )
    kernels: tuple[Axes, ...] | None = Field(
        default=None,
        strict=False,
        description="Size of the convolutions of each level, 1 or 3 along an axis; from the spacing if unset.",
    )
    norm: Literal["batch", "none"] = Field(default="batch", description="Normalisation after a convolution ('use_bn').")
    activation: Literal["relu", "prelu"] = Field(
        default="relu", description="What follows it; always prelu in unet_residual."
    )
    residual: bool = Field(default=False, description="Add a 1x1 convolution of a block's input to its output.")
    upsample: Literal["transposed", "bilinear", "nearest"] = Field(
        default="transposed", description="How the decoder doubles the size ('use_deconv', 'bilinear')."
    )
    upsample_activation: bool = Field(
        default=False,
        description="Apply the activation after that too, as the zoo's unet_medical; unet and unet_valid.",
    )
    attention: bool = Field(default=False, description="Weigh each skip by an attention gate; 'unet' only.")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of values dropped at the end of the contracting path."
    )
    deep_supervision: bool = Field(
        default=False,
        description="Train the coarser levels of the decoder too, or all nodes of the finest level of unet_nested "
        "('use_ds'); 'unet', 'unet_cicek' and 'unet_nested'.",
    )

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.base_channels % self.feature_scale:
            raise ValueError(
                f"base_channels {self.base_channels} is not divisible by feature_scale {self.feature_scale}"
            )
        return self

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        for name, allowed, wanted in (("strides", (1, 2), self.depth - 1), ("kernels", (1, 3), self.depth)):
            levels: tuple[Axes, ...] | None = getattr(self, name)
            if levels is None:
                continue
            if len(levels) != wanted or any(len(level) != self.ndim for level in levels):
                raise ValueError(f"{name}: must be {wanted} times {self.ndim} numbers, found {list(map(list, levels))}")
            if any(number not in allowed for level in levels for number in level):
                raise ValueError(f"{name} must be of {allowed[0]} and {allowed[1]}, got {list(map(list, levels))}")
            if self.architecture == "unet_valid" and any(number != allowed[1] for level in levels for number in level):
                raise ValueError(
                    f"unet_valid has {name} of {allowed[1]} along every axis, got {list(map(list, levels))}"
                )
        return self

    @model_validator(mode="after")
    def _architecture_can(self) -> Self:
        if self.architecture == "unet_cicek" and self.ndim != 3:
            raise ValueError("unet_cicek is a network on volumes; set ndim to 3")
        for name in _LACKING.get(self.architecture, ()):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{self.architecture} has no {name}; leave the setting out")
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, the finest first."""
        return tuple(self.base_channels // self.feature_scale * 2**level for level in range(self.depth))

    @property
    def decoder_norm(self) -> Literal["batch", "none"]:
        """Normalisation after a convolution on the way up."""
        return "none" if self.architecture in ("unet_nested", "unet_simple") else self.norm

    @property
    def level_strides(self) -> tuple[Axes, ...]:
        """`strides`, or 2 along every axis."""
        return self.strides or ((2,) * self.ndim,) * (self.depth - 1)

    @property
    def level_kernels(self) -> tuple[Axes, ...]:
        """`kernels`, or 3 along every axis."""
        return self.kernels or ((3,) * self.ndim,) * self.depth

    @property
    def stride(self) -> Axes:
        """Pixels of the input per pixel of the coarsest level, along each axis."""
        return tuple(math.prod(level[axis] for level in self.level_strides) for axis in range(self.ndim))

    @property
    def margin(self) -> int:
        """Pixels that the network eats at each border: 0 if it pads, 92 for the original of depth 5."""
        if self.architecture != "unet_valid":
            return 0
        # two 3x3 convolutions eat 2 px a side at each level, down and up, and once at the bottom
        return 2 * (2 * sum(2**level for level in range(self.depth - 1)) + 2 ** (self.depth - 1))

    @property
    def reach(self) -> Axes:
        """Pixels of the input that an output pixel may depend on, from it to one side, along each axis."""
        axes = zip(zip(*self.level_kernels, strict=True), zip(*self.level_strides, strict=True), strict=True)
        if self.architecture == "unet_residual":
            return tuple(reach_of_residual_unet(kernels, strides) for kernels, strides in axes)
        if self.architecture == "unet_nested":
            return tuple(reach_of_nested_unet(kernels, strides, self.upsample) for kernels, strides in axes)
        # a gate is brought to the size of its skip by linear interpolation
        upsample = "bilinear" if self.attention else self.upsample
        return tuple(reach_of_unet(kernels, strides, upsample) for kernels, strides in axes)

    @property
    def remainder(self) -> int:
        """What is left of a size that the network takes, divided by its stride; 0 if it pads."""
        # the valid network's output is 2 * (stride * n - 2) less what the way up eats
        return 0 if self.margin == 0 else sum(4 * 2**level for level in range(self.depth - 1)) % 2 ** (self.depth - 1)

    def check_size(self, name: str, size: Sequence[int]) -> None:
        """Raise ValueError if the network cannot take an input of `size` pixels."""
        if len(size) != self.ndim:
            raise ValueError(f"{name}: must be {self.ndim} numbers, as model.ndim is {self.ndim}, found {list(size)}")
        offset = self.remainder
        eaten = 2 * self.margin
        for length, stride in zip(size, self.stride, strict=True):
            least = eaten + ((offset - eaten) % stride or stride)
            surplus = (length - offset) % stride
            if length < least or surplus:
                below = length - surplus
                fitting = [n for n in (below, below + stride) if n >= least] or [least]
                raise ValueError(
                    f"{name} {length} does not fit a network of depth {self.depth}; "
                    f"the nearest that do are {' and '.join(map(str, fitting))}"
                )


class DataSettings(Section):
    """What is trained on; section `data`."""

    dataset: Path | None = Field(
        default=None, strict=False, description="The dataset folder; the newest in datasets/ if unset."
    )
    fold: int = Field(default=0, ge=0, description="Which split of the dataset to validate on ('cross_valid_ind').")
    patch_size: Axes = Field(
        default=(256, 256),
        strict=False,
        description="Size of a training patch in pixels, as Y X or Z Y X ('roi_size').",
    )
    patches_per_case: int = Field(default=1, ge=1, description="Patches that are cut from a case in a row.")
    foreground_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of patches that must hold a class other than background."
    )
    normalization: Literal["range", "zscore", "percentile"] = Field(
        default="range",
        description="'range' maps lower..upper to output_range; 'percentile' an image's own 1 % and 99 %; "
        "'zscore' subtracts an image's mean and divides by its deviation.",
    )
    lower: float | None = Field(
        default=None, description="Intensity where output_range begins under 'range'; from the dataset if unset."
    )
    upper: float | None = Field(
        default=None, description="Intensity where output_range ends under 'range'; from the dataset if unset."
    )
    output_range: tuple[float, float] = Field(
        default=(-1.0, 1.0), strict=False, description="What 'range' and 'percentile' map to, and clip at."
    )

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(f"lower {self.lower} must be less than upper {self.upper}")
        if self.output_range[0] >= self.output_range[1]:
            raise ValueError(f"output_range must ascend, got {list(self.output_range)}")
        return self


class AugmentationSettings(Section):
    """How training patches are varied; section `augmentation`. A probability of 0 leaves a part out."""

    flip: bool = Field(default=True, description="Mirror each axis with probability 0.5.")
    flip_axes: Axes | None = Field(
        default=None,
        strict=False,
        description="Axes that are mirrored, counted from 0 for the first of Z Y X; all if unset.",
    )
    quarter_turns: bool = Field(default=True, description="Turn rows and columns by a random multiple of 90 degrees.")
    affine_probability: float = Field(
        default=0.0, ge=0, le=1, description="Share of patches that are turned, scaled, sheared."
    )
    rotation: float = Field(
        default=180.0, ge=0, le=180, description="Largest rotation, in degrees; about each axis in 3D."
    )
    in_plane: bool = Field(
        default=False,
        description="Turn, shear, scale and deform volumes along rows and columns only, for thick slices.",
    )
    scale: tuple[float, float] = Field(default=(0.8, 1.2), strict=False, description="Least and largest magnification.")
    shear: float = Field(default=0.0, ge=0, lt=60, description="Largest shear, in degrees.")
    shift: float = Field(default=0.0, ge=0, description="Largest shift along an axis, in pixels.")
    elastic_probability: float = Field(
        default=0.0, ge=0, le=1, description="Share of patches that are deformed smoothly."
    )
    elastic_std: float = Field(
        default=10.0, ge=0, description="Standard deviation of the coarse displacements, in pixels of the finest axis."
    )
    elastic_grid: int = Field(default=3, ge=2, description="Points a side of the coarse displacement grid.")
    intensity_probability: float = Field(
        default=0.0, ge=0, le=1, description="Share of patches for each of those below."
    )
    brightness: float = Field(default=0.2, ge=0, description="Largest change added to normalised intensities.")
    contrast: tuple[float, float] = Field(
        default=(0.8, 1.2), strict=False, description="Least and largest factor about a patch's mean."
    )
    gamma: tuple[float, float] = Field(
        default=(0.8, 1.25), strict=False, description="Least and largest exponent over a patch's range."
    )
    noise: float = Field(default=0.1, ge=0, description="Largest standard deviation of Gaussian noise.")
    stray_light: float = Field(
        default=0.0, ge=0, description="Largest amount that light out of focus adds somewhere, smoothly over a patch."
    )

    @model_validator(mode="after")
    def _intervals_ascend(self) -> Self:
        for name in ("scale", "contrast", "gamma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two positive numbers, the lesser first, got {low} and {high}")
        return self


class InferenceSettings(Section):
    """How a whole image goes through the network; section `inference`."""

    tile_size: Axes | Literal["auto", "patch"] = Field(
        default="auto",
        description="Size of a tile in pixels, as Y X or Z Y X; 'patch' for the patch size; 'auto' for tiles as large "
        "as the memory allows, which overlap by no more than the network needs.",
    )
    overlap: float = Field(
        default=0.5, ge=0, le=0.9, description="Least share of a tile that its neighbour repeats; not of 'auto' tiles."
    )
    blending: Literal["gaussian", "constant"] = Field(default="gaussian", description="Weights of overlapping tiles.")
    batch_size: int = Field(default=4, ge=1, description="Most tiles that go through the network at once.")
    tta: bool = Field(
        default=False, description="Average over the flips of an image, and in 2D over its quarter turns."
    )
    instances: Literal["watershed", "components"] = Field(
        default="watershed",
        description="How objects are told apart in images: connected 'components', or by 'watershed' parted where they "
        "are narrow, or along the class 'border' where there is one.",
    )
    instance_min_size: int = Field(
        default=15, ge=0, description="Least pixels of an object; smaller ones are left out."
    )
    instance_distance: int = Field(
        default=5, ge=1, description="Least distance in pixels of the middles of objects that touch, for 'watershed'."
    )

    @field_validator("tile_size", mode="before")
    @classmethod
    def _name_or_sizes(cls, value: object) -> object:
        """Runs of version 0.2 have no value where tiles are as large as patches."""
        if value is None:
            return "patch"
        if value not in ("auto", "patch") and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise ValueError("must be 'auto', 'patch', or a number an axis")
        return value


class Config(Section):
    """All settings of a run."""

    preset: str | None = Field(default=None, description="The preset it began from.")
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    inference: InferenceSettings = InferenceSettings()

    @model_validator(mode="after")
    def _sizes_fit_the_network(self) -> Self:
        self.model.check_size("data.patch_size", self.data.patch_size)
        if not isinstance(self.inference.tile_size, str):
            self.model.check_size("inference.tile_size", self.inference.tile_size)
        axes = self.augmentation.flip_axes
        if axes is not None and not set(axes) <= set(range(self.model.ndim)):
            raise ValueError(f"augmentation.flip_axes: must be of 0 to {self.model.ndim - 1}, found {list(axes)}")
        return self

    @model_validator(mode="after")
    def _numbers_of_classes_fit(self) -> Self:
        num_classes = self.model.num_classes
        for name in ("class_weights", "logit_adjustment"):
            numbers = getattr(self.loss, name)
            if isinstance(numbers, tuple) and num_classes is not None and len(numbers) != num_classes:
                raise ValueError(f"loss.{name} are {len(numbers)}, but there are {num_classes} classes")
        return self

    @property
    def tile_size(self) -> Axes:
        """Size of a tile at prediction where it is the same for all images: the patch size if it is chosen for each."""
        size = self.inference.tile_size
        return self.data.patch_size if isinstance(size, str) else size
