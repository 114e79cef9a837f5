"""Settings files of the MindSpore model zoo's U-Nets, translated into ours.

Both recipes (`official/cv/Unet` and `research/cv/Unet3d`, code of 2023) keep flat keys in a YAML file of up to three
documents: values, help, and choices. Only the values are read. What their code fixes, beside the keys, comes from
the preset of the same recipe.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unetcli.errors import ConfigError

MARKS = frozenset(
    {
        *("model_name", "cross_valid_ind", "FixedLossScaleManager", "distribute_epochs", "filter_weight"),
        *("roi_size", "epoch_size", "lower_limit", "upper_limit", "warmup_step", "train_augment"),
    }
)
"""Keys by which a file is known; no section of ours is called so."""

MEDICAL = "unet_medical"
"""The network where no `model_name` is given."""

PRESETS = {MEDICAL: "zoo-unet-medical", "unet_nested": "zoo-unet-nested", "unet_simple": "zoo-unet-simple"}
"""By `model_name`."""

OF_DATASET = {"Cell_nuclei": "zoo-nuclei", "COCO": "zoo-coco"}
"""By `dataset`, where the network is `unet_nested`."""

OF_FOLDS = "ISBI"
"""The `dataset` that the zoo divides into folds."""

VOLUMES = "luna16"

PATHS = "paths are arguments: unet prepare SOURCE, unet train DATASET --output RUN"
MODEL_ARTS = "there is no upload; train on the machine itself"
AT_EXPORT = "an option of unet export (--format, --tile, --output)"
AT_PREPARE = "said once, to unet prepare"
AT_EVAL = "unet eval gives every measure, and overlays of every case"

WITHOUT_COUNTERPART = {
    **dict.fromkeys(("enable_modelarts", "data_url", "train_url", "checkpoint_url"), MODEL_ARTS),
    **dict.fromkeys(("data_path", "output_path", "load_path", "checkpoint_path", "checkpoint_file_path"), PATHS),
    **dict.fromkeys(("rst_path", "result_path", "pre_result_path", "post_result_path", "onnx_path"), PATHS),
    **dict.fromkeys(("width", "height", "file_name", "file_format"), AT_EXPORT),
    **dict.fromkeys(("coco_classes", "anno_json", "val_anno_json", "coco_dir", "val_coco_dir", "split"), AT_PREPARE),
    **dict.fromkeys(("dataset", "upper_limit", "lower_limit"), AT_PREPARE),
    **dict.fromkeys(("eval_activate", "show_eval", "color", "include_background"), AT_EVAL),
    "eval_resize": "images are measured at their own size; for ISBI also at the zoo's 388 px",
    "device_target": "an option: --device",
    "device_id": "an option: --device",
    "enable_profiling": "every step is timed in metrics.jsonl",
    "run_distribute": "an option: --distribute",
    "run_eval": "validation always runs, every train.validate_every epochs",
    "eval_start_epoch": "validation begins with the first epoch",
    "keep_checkpoint_max": "a run keeps its last and its best checkpoint",
    "repeat": "an epoch goes over the cases once, without copies of them in memory",
    "distribute_epochs": "epochs are the same for one process and several",
    "distribute_batchsize": "train.batch_size is for each process",
    "resume": "an option: --init-from FILE for the weights, or --resume RUN, which takes up all of the training",
    "resume_ckpt": "an option: --init-from FILE for the weights, or --resume RUN, which takes up all of the training",
    "transfer_training": "an option: --init-from FILE",
    "filter_weight": "an option, with --init-from FILE: --filter-weight NAME",
    "enable_fp16_gpu": "an option: --amp O2",
}
"""Why a key is not a setting here."""

CROP = {
    "unet_medical": "the network eats its own margin; images are mirrored there, not padded with zeros",
    "unet_nested": "the network pads, so that its output is as large as its input and no mask is cropped",
    "unet_simple": "the network pads, so that its output is as large as its input and no mask is cropped",
}
"""Why `crop`, the size that masks are cropped to, is not a setting, by `model_name`."""

OF_VALIDATION = ("eval_interval", "eval_metrics")
"""Keys that hold only where the zoo measures while it trains."""

SWITCHES = {"unet_medical": ("use_ds", "use_bn", "use_deconv"), "unet_simple": ("use_ds",)}
"""Keys that a network does not read, by `model_name`."""

OUTPUTS = ("outc", "final")
"""What the names of the zoo's last layers begin with, whose `outc.weight` names nothing in its network."""
HEAD = "head"
"""What is in our names of these layers; it is found in weights of the zoo and of a run."""

UNKNOWN = "not a key that is known of the zoo's U-Nets"


@dataclass(frozen=True, slots=True)
class Translation:
    """A file of the zoo in our settings.

    Attributes:
        preset: The recipe's own preset, with what its code fixes.
        settings: Values by dotted name, laid over the preset.
        sources: The key that each of them came from.
        left: Keys that became no setting, each with the reason.
        weights: Options that load the weights that the file asks for; empty if it asks for none.
    """

    preset: str
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    left: dict[str, str] = field(default_factory=dict[str, str])
    weights: str = ""

    def put(self, name: str, value: Any, key: str) -> None:
        """Take a setting down."""
        self.settings[name] = value
        self.sources[name] = key

    def sections(self) -> dict[str, Any]:
        """The settings as a file of ours would have them."""
        found: dict[str, Any] = {"preset": self.preset}
        for name, value in self.settings.items():
            section, _, key = name.partition(".")
            found.setdefault(section, {})[key] = value
        return found

    def facts(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        translated = [{"key": key, "setting": name, "value": self.settings[name]} for name, key in self.sources.items()]
        return {"preset": self.preset, "translated": translated, "without_counterpart": self.left}


def is_zoo(values: Mapping[str, Any]) -> bool:
    """Whether these are the keys of a file of the zoo."""
    return any(name in MARKS for name in values)


def translate(values: Mapping[str, Any], place: str) -> Translation:
    """The settings that the keys of a file of the zoo stand for.

    Args:
        values: Its first document.
        place: The file, for an error to begin with.

    Raises:
        ConfigError: If a value is none that the key can have.
    """
    is_volumes = "roi_size" in values or "epoch_size" in values
    known = _OF_VOLUMES if is_volumes else _OF_IMAGES
    found = Translation(VOLUMES if is_volumes else _preset(values, place), weights=_weights(values))
    for key, value in values.items():
        if key in OF_VALIDATION and values.get("run_eval") is not True:
            found.left[key] = "run_eval is off, so that it counts for nothing; the preset's validation holds"
        elif key == "cross_valid_ind" and values.get("dataset", OF_FOLDS) != OF_FOLDS:
            found.left[key] = f"the zoo reads it where dataset is {OF_FOLDS}; choose with --fold"
        elif key in SWITCHES.get(str(values.get("model_name")), ()):
            found.left[key] = "the zoo's network of that name does not read it"
        elif key == "crop" and not is_volumes:
            found.left[key] = CROP[str(values.get("model_name", MEDICAL))]
        elif key in known:
            known[key](found, value, f"{place}: {key}")
        else:
            found.left[key] = WITHOUT_COUNTERPART.get(key, UNKNOWN)
    return found


def _preset(values: Mapping[str, Any], place: str) -> str:
    name = values.get("model_name", MEDICAL)
    if name not in PRESETS:
        raise ConfigError(f"{place}: model_name: must be {' or '.join(PRESETS)}, found {name!r}")
    dataset = values.get("dataset")
    return OF_DATASET.get(str(dataset), PRESETS[name]) if name == "unet_nested" else PRESETS[name]


def _weights(values: Mapping[str, Any]) -> str:
    """The options for what the zoo does by `resume`, which takes up the weights alone, and leaves some out."""
    if not (values.get("resume") or values.get("transfer_training")):
        return ""
    file, names = values.get("resume_ckpt"), values.get("filter_weight")
    options = ["--init-from", shlex.quote(file) if isinstance(file, str) and file.endswith(".ckpt") else "FILE"]
    if values.get("transfer_training") and isinstance(names, list | tuple):
        found = [str(name) for name in names]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for name in dict.fromkeys(HEAD if name.startswith(OUTPUTS) else name for name in found):
            options += ["--filter-weight", shlex.quote(name)]
    return " ".join(options)


Put = Callable[[Translation, Any, str], None]


def _as(name: str) -> Put:
    """A key whose value is that of a setting."""
    return lambda found, value, place: found.put(name, value, _key(place))


def _switch(name: str, on: Any, off: Any) -> Put:
    """A key that is true or false, and a setting that has other words for it."""

    def put(found: Translation, value: Any, place: str) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"{place}: must be true or false, found {value!r}")
        found.put(name, on if value else off, _key(place))

    return put


def _key(place: str) -> str:
    return place.rpartition(": ")[2]


def _model_name(found: Translation, value: Any, place: str) -> None:
    found.put("model.architecture", "unet_valid" if value == "unet_medical" else value, _key(place))


def _loss_scale(found: Translation, value: Any, place: str) -> None:
    """Two keys that must agree, since gradients are scaled by the one and scaled back by the other."""
    known = found.settings.get("optimizer.loss_scale", value)
    if known != value:
        raise ConfigError(
            f"{place}: is {value!r}, but the other of loss_scale and FixedLossScaleManager is {known!r}",
            hint="the zoo trains with wrong gradients where they differ; give both the same value",
        )
    found.put("optimizer.loss_scale", value, _key(place))


def _augment(found: Translation, value: Any, place: str) -> None:
    """True is what the preset does already."""
    if not isinstance(value, bool):
        raise ConfigError(f"{place}: must be true or false, found {value!r}")
    found.put("augmentation.flip", value, _key(place))
    if not value:
        found.put("augmentation.affine_probability", 0.0, _key(place))
        found.put("augmentation.intensity_probability", 0.0, _key(place))


def _metrics(found: Translation, value: Any, place: str) -> None:
    """Any name but `dice_coeff` means IoU there."""
    found.put("train.select_by", "zoo_dice" if value == "dice_coeff" else "mean_iou", _key(place))


def _roi_size(found: Translation, value: Any, place: str) -> None:
    """X Y Z there, and Z Y X here."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{place}: must be a list of three numbers, found {value!r}")
    size: list[Any] = list(value)  # pyright: ignore[reportUnknownArgumentType]
    found.put("data.patch_size", size[::-1], _key(place))


def _batch_of_volumes(found: Translation, value: Any, place: str) -> None:
    """A batch there is the two crops of each volume."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{place}: must be a whole number, found {value!r}")
    found.put("train.batch_size", 2 * value, _key(place))


_OF_BOTH: dict[str, Put] = {
    "lr": _as("optimizer.learning_rate"),
    "num_classes": _as("model.num_classes"),
    "loss_scale": _loss_scale,
}
_OF_IMAGES: dict[str, Put] = _OF_BOTH | {
    "model_name": _model_name,
    "image_size": _as("data.patch_size"),
    "epochs": _as("train.epochs"),
    "batch_size": _as("train.batch_size"),
    "cross_valid_ind": _as("data.fold"),
    "num_channels": _as("model.in_channels"),
    "weight_decay": _as("optimizer.weight_decay"),
    "FixedLossScaleManager": _loss_scale,
    "use_ds": _as("model.deep_supervision"),
    "use_bn": _switch("model.norm", "batch", "none"),
    "use_deconv": _switch("model.upsample", "transposed", "bilinear"),
    "train_augment": _augment,
    "eval_interval": _as("train.validate_every"),
    "eval_metrics": _metrics,
}
_OF_VOLUMES: dict[str, Put] = _OF_BOTH | {
    "epoch_size": _as("train.epochs"),
    "batch_size": _batch_of_volumes,
    "in_channels": _as("model.in_channels"),
    "warmup_step": _as("schedule.warmup_steps"),
    "warmup_ratio": _as("schedule.warmup_ratio"),
    "roi_size": _roi_size,
    "overlap": _as("inference.overlap"),
    "min_val": _as("data.lower"),
    "max_val": _as("data.upper"),
}
