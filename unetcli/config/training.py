"""The settings of training: what is minimised, and how."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from unetcli.config.section import Section


class LossSettings(Section):
    """What is minimised, a weighted sum; section `loss`. A weight of 0 leaves a part out."""

    cross_entropy: float = Field(default=1.0, ge=0, description="Weight of softmax cross entropy.")
    dice: float = Field(default=0.0, ge=0, description="Weight of soft Dice loss.")
    dice_denominator: Literal["linear", "squared"] = Field(
        default="linear", description="Sums of values, or of squares."
    )
    dice_smooth: float = Field(default=1.0, ge=0, description="Added to numerator and denominator of Dice.")
    dice_background: bool = Field(default=True, description="Let the background count as a class in Dice.")
    dice_per: Literal["image", "batch"] = Field(
        default="image", description="Dice of each image, or of a batch as one."
    )
    focal: float = Field(default=0.0, ge=0, description="Weight of focal loss.")
    focal_gamma: float = Field(default=2.0, ge=0, description="How strongly focal loss turns from easy pixels.")
    class_weights: tuple[float, ...] | None = Field(
        default=None, strict=False, description="Weight of each class in cross entropy and focal loss; equal if unset."
    )
    weight_map: bool = Field(
        default=False,
        description="Multiply cross entropy and focal loss of each pixel by the weight map of the dataset, which "
        "'unet prepare --weight-map' makes; it balances the classes too.",
    )

    logit_adjustment: Literal["weights"] | tuple[float, ...] | None = Field(
        default=None,
        description="Numbers that cross entropy and focal loss add to the logits, one a class, and the network need "
        "not learn; 'weights' takes the logarithm of what a pixel of each class weighs, so that scores and masks are "
        "those of cross entropy without weights.",
    )
    log_weights: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        description="What logit_adjustment 'weights' stands for; always found from the dataset and the other settings.",
    )

    @field_validator("logit_adjustment", mode="before")
    @classmethod
    def _name_or_numbers(cls, value: object) -> object:
        if value is None or value == "weights":
            return value
        if isinstance(value, list | tuple) and all(isinstance(x, int | float) and math.isfinite(x) for x in value):
            return tuple(map(float, value))
        raise ValueError("must be 'weights' or a list of finite numbers")

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Self:
        if not self.cross_entropy + self.dice + self.focal > 0:
            raise ValueError("one of cross_entropy, dice and focal must have a positive weight")
        if self.class_weights is not None and (min(self.class_weights) < 0 or not sum(self.class_weights) > 0):
            raise ValueError(f"class_weights must not be negative, nor all 0, got {list(self.class_weights)}")
        if self.logit_adjustment == "weights" and not self.weight_map and self.class_weights is None:
            raise ValueError("logit_adjustment 'weights' needs weights: set weight_map or class_weights")
        if self.logit_adjustment == "weights" and self.focal > 0:
            raise ValueError(
                "logit_adjustment 'weights' undoes those of cross_entropy, but not those of focal; set it to 0"
            )
        if self.weight_map and not self.cross_entropy + self.focal > 0:
            raise ValueError("weight_map is for cross_entropy and focal, and both have a weight of 0")
        return self


class OptimizerSettings(Section):
    """Section `optimizer`."""

    name: Literal["adam", "adamw", "sgd"] = Field(default="adamw", description="The update rule.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak rate of the schedule, after warm-up.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled for adamw, added to gradients otherwise.")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of sgd.")
    nesterov: bool = Field(default=False, description="Nesterov momentum for sgd.")
    clip_norm: float | None = Field(default=None, gt=0, description="Largest global norm of a step's gradients.")
    loss_scale: float | Literal["dynamic"] | None = Field(
        default=None,
        description="Factor on the loss that keeps gradients from vanishing in float16, or 'dynamic'; if unset, none "
        "at train.amp O0 and dynamic at the others.",
    )
    loss_scale_window: int = Field(
        default=2000, ge=1, description="Steps in a row without overflow after which a dynamic loss scale doubles."
    )

    @field_validator("loss_scale", mode="before")
    @classmethod
    def _name_or_factor(cls, value: object) -> object:
        if value is None or value == "dynamic":
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < math.inf:
            return value
        raise ValueError("must be 'dynamic' or a finite number of at least 1")


class ScheduleSettings(Section):
    """How the learning rate runs over the steps; section `schedule`."""

    name: Literal["constant", "cosine", "cosine_zoo", "polynomial"] = Field(
        default="cosine",
        description="Its shape after warm-up; 'cosine_zoo' ends early, above 0, as the zoo's Unet3d does.",
    )
    warmup_steps: int = Field(default=0, ge=0, description="Steps of linear rise to the peak.")
    warmup_ratio: float = Field(default=0.0, ge=0, le=1, description="Share of the peak that the rise begins from.")
    final_ratio: float = Field(default=0.0, ge=0, le=1, description="Share of the peak that is left at the last step.")
    power: float = Field(default=0.9, gt=0, description="Exponent of the polynomial.")


class TrainSettings(Section):
    """Section `train`."""

    epochs: int = Field(default=30, ge=1, description="Epochs of `steps_per_epoch` steps.")
    steps_per_epoch: int | None = Field(default=None, ge=1, description="Steps an epoch; as epoch_unit says if unset.")
    epoch_unit: Literal["pixels", "cases"] = Field(
        default="pixels",
        description="An epoch shows every training pixel about once, or takes patches_per_case patches of every case.",
    )
    batch_size: int = Field(default=4, ge=1, description="Patches that go through the network at once, on each device.")
    accumulation: int = Field(
        default=1, ge=1, description="Batches of `batch_size` patches whose gradients are averaged for one step."
    )
    amp: Literal["O0", "O1", "O2", "O3", "auto"] = Field(
        default="O0",
        description="Mixed precision, by MindSpore's levels: O0 is float32; O1 and auto compute listed operations in "
        "float16, O2 all but batch normalisation, O3 all. Not on CPU.",
    )
    seed: int = Field(default=1, ge=0, description="Of weights, patches, augmentation and dropout.")
    validate_every: int = Field(
        default=1, ge=1, description="Epochs between validations ('run_eval', 'eval_interval')."
    )
    select_by: str = Field(
        default="mean_iou",
        min_length=1,
        description="The measure of the validation that chooses best.ckpt, by its dotted name, such as "
        "foreground_dice or classes.nucleus.dice; the highest is best ('eval_metrics').",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Validations without a better measure, as select_by says, before training stops; never if unset.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Threads that make patches.")

    @property
    def patches_per_step(self) -> int:
        """Patches that a device takes for one step."""
        return self.batch_size * self.accumulation
