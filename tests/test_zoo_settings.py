"""Settings files of the model zoo: every key becomes a setting, or is named with the reason."""

from __future__ import annotations

import json

import pytest

from unetcli.config import load_config, translation_of
from unetcli.config.zoo import UNKNOWN, WITHOUT_COUNTERPART, is_zoo, translate
from unetcli.errors import ConfigError

IMAGES = """\
# in the manner of unet_medical_config.yaml
enable_modelarts: False
data_path: "/cache/data"
device_target: "Ascend"
model_name: 'unet_medical'
run_eval: False
crop: [388, 388]
image_size: [572, 572]
train_augment: True
lr: 0.0002
epochs: 300
repeat: 400
batch_size: 8
cross_valid_ind: 1
num_classes: 2
num_channels: 1
weight_decay: 0.0003
loss_scale: 512.0
FixedLossScaleManager: 512.0
filter_weight: ["outc.weight", "outc.bias"]
eval_metrics: "dice_coeff"
eval_interval: 1
---
lr: "Rate of learning"
---
device_target: ["Ascend", "GPU", "CPU"]
"""
VOLUMES = """\
lr: 0.0004
batch_size: 1
epoch_size: 12
warmup_step: 60
warmup_ratio: 0.2
num_classes: 3
in_channels: 1
keep_checkpoint_max: 5
loss_scale: 128.0
roi_size: [192, 160, 64]
overlap: 0.3
min_val: -400
max_val: 900
upper_limit: 5
lower_limit: 3
"""


@pytest.fixture
def write(tmp_path):
    def write_settings(text):
        path = tmp_path / "zoo.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_settings


def left_of(values):
    return translate(values, "zoo.yaml").left


def settings_of(values):
    return translate(values, "zoo.yaml").settings


def test_a_file_for_images_is_laid_over_its_recipe(write):
    config = load_config(file=write(IMAGES))

    assert config.preset == "zoo-unet-medical"
    assert (config.model.architecture, config.model.norm, config.model.num_classes) == ("unet_valid", "none", 2)
    assert (config.data.patch_size, config.data.fold, config.model.in_channels) == ((572, 572), 1, 1)
    assert (config.train.epochs, config.train.batch_size, config.train.epoch_unit) == (300, 8, "cases")
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 0.0002)
    assert (config.optimizer.weight_decay, config.optimizer.loss_scale) == (0.0003, 512)
    assert config.train.validate_every > 1  # run_eval is off


@pytest.mark.parametrize("dataset", ["Cell_nuclei", "COCO"])
def test_a_fold_is_not_taken_from_a_file_for_data_that_the_zoo_does_not_divide_into_folds(dataset):
    values = {"model_name": "unet_nested", "dataset": dataset, "cross_valid_ind": 1}
    assert "data.fold" not in settings_of(values)
    assert left_of(values)["cross_valid_ind"] == "the zoo reads it where dataset is ISBI; choose with --fold"
    assert settings_of(values | {"dataset": "ISBI"})["data.fold"] == 1


def test_a_file_for_volumes_is_laid_over_its_recipe(write):
    config = load_config(file=write(VOLUMES))

    assert (config.preset, config.model.architecture, config.model.num_classes) == ("luna16", "unet_residual", 3)
    assert config.data.patch_size == (64, 160, 192)
    assert (config.data.lower, config.data.upper, config.inference.overlap) == (-400, 900, 0.3)
    assert (config.schedule.warmup_steps, config.schedule.warmup_ratio) == (60, 0.2)
    assert (config.train.epochs, config.train.batch_size, config.optimizer.loss_scale) == (12, 2, 128)


def test_what_is_given_beside_the_file_wins(write):
    config = load_config(file=write(IMAGES), assignments=["train.epochs=7"], options={"data.fold": 3})
    assert (config.train.epochs, config.data.fold, config.train.batch_size) == (7, 3, 8)


def test_every_key_is_told_of_once_as_json_can_hold_it(write):
    translation = translation_of(write(IMAGES))
    assert translation is not None
    facts = json.loads(json.dumps(translation.facts()))
    told = [of["key"] for of in facts["translated"]] + list(facts["without_counterpart"])
    keys = [line.partition(":")[0] for line in IMAGES.partition("---")[0].splitlines()[1:]]
    assert set(told) | {"loss_scale"} == set(keys)
    assert {"key": "lr", "setting": "optimizer.learning_rate", "value": 0.0002} in facts["translated"]
    assert "eval_interval" in facts["without_counterpart"]


@pytest.mark.parametrize(
    ("name", "dataset", "preset"),
    [
        ("unet_medical", None, "zoo-unet-medical"),
        ("unet_simple", None, "zoo-unet-simple"),
        ("unet_nested", None, "zoo-unet-nested"),
        ("unet_nested", "Cell_nuclei", "zoo-nuclei"),
        ("unet_nested", "COCO", "zoo-coco"),
        ("unet_simple", "Cell_nuclei", "zoo-unet-simple"),
    ],
)
def test_the_recipe_is_known_by_network_and_dataset(name, dataset, preset):
    values = {"model_name": name} | ({"dataset": dataset} if dataset else {})
    assert translate(values, "zoo.yaml").preset == preset


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"use_ds": False}, {"model.deep_supervision": False}),
        ({"use_bn": False}, {"model.norm": "none"}),
        ({"use_bn": True}, {"model.norm": "batch"}),
        ({"use_deconv": False}, {"model.upsample": "bilinear"}),
        ({"use_deconv": True}, {"model.upsample": "transposed"}),
        ({"train_augment": True}, {"augmentation.flip": True}),
        (
            {"train_augment": False},
            {
                "augmentation.flip": False,
                "augmentation.affine_probability": 0.0,
                "augmentation.intensity_probability": 0.0,
            },
        ),
        ({"run_eval": True, "eval_metrics": "dice_coeff"}, {"train.select_by": "zoo_dice"}),
        ({"run_eval": True, "eval_metrics": "iou"}, {"train.select_by": "mean_iou"}),
        ({"run_eval": True, "eval_interval": 5}, {"train.validate_every": 5}),
        ({"run_eval": False, "eval_interval": 5}, {}),
        ({"model_name": "unet_nested"}, {"model.architecture": "unet_nested"}),
    ],
)
def test_keys_that_are_called_otherwise_here(values, settings):
    assert settings_of(values) == settings


def test_what_has_no_counterpart_is_named_with_the_reason():
    assert left_of({"keep_checkpoint_max": 10, "lrr": 1}) == {
        "keep_checkpoint_max": WITHOUT_COUNTERPART["keep_checkpoint_max"],
        "lrr": UNKNOWN,
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (None, "the network eats its own margin; images are mirrored there, not padded with zeros"),
        ("unet_medical", "the network eats its own margin; images are mirrored there, not padded with zeros"),
        ("unet_nested", "the network pads, so that its output is as large as its input and no mask is cropped"),
        ("unet_simple", "the network pads, so that its output is as large as its input and no mask is cropped"),
    ],
)
def test_why_nothing_is_cropped_is_said_of_the_network_of_the_file(name, reason):
    values = {"cross_valid_ind": 1, "crop": "None"} | ({"model_name": name} if name else {})
    assert left_of(values) == {"crop": reason}


FILTERS = {"filter_weight": ["outc.weight", "outc.bias"]}
FILTERED = "--filter-weight head"


@pytest.mark.parametrize(
    ("values", "weights"),
    [
        ({"resume": False, "transfer_training": False, "resume_ckpt": "a.ckpt"} | FILTERS, ""),
        ({"resume": True, "transfer_training": False, "resume_ckpt": "a.ckpt"} | FILTERS, "--init-from a.ckpt"),
        ({"resume": True, "transfer_training": True, "resume_ckpt": "a b.ckpt"}, "--init-from 'a b.ckpt'"),
        ({"resume": True, "transfer_training": True, "resume_ckpt": "./"} | FILTERS, f"--init-from FILE {FILTERED}"),
        ({"transfer_training": True, "resume_ckpt": "a.ckpt"} | FILTERS, f"--init-from a.ckpt {FILTERED}"),
        ({"resume": True, "resume_ckpt": None, "filter_weight": "outc"}, "--init-from FILE"),
        (
            {"transfer_training": True, "filter_weight": ["final1.weight", "down4", "final4.weight"]},
            "--init-from FILE --filter-weight head --filter-weight down4",
        ),
    ],
)
def test_the_options_that_load_the_weights_which_a_file_asks_for(values, weights):
    assert translate(values, "zoo.yaml").weights == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_name: unet", "model_name: must be unet_medical or unet_nested or unet_simple, found 'unet'"),
        ("cross_valid_ind: -1", "cross_valid_ind: data.fold: must be at least 0, found -1"),
        ("cross_valid_ind: 1\nlr: fast", "lr: optimizer.learning_rate: must be a number, found 'fast'"),
        ("cross_valid_ind: 1\nuse_bn: 1", "use_bn: must be true or false, found 1"),
        ("train_augment: 1", "train_augment: must be true or false, found 1"),
        ("roi_size: 64", "roi_size: must be a list of three numbers, found 64"),
        ("epoch_size: 1\nbatch_size: two", "batch_size: must be a whole number, found 'two'"),
        (
            "loss_scale: 1024\nFixedLossScaleManager: 512",
            "FixedLossScaleManager: is 512, but the other of loss_scale and FixedLossScaleManager is 1024",
        ),
    ],
)
def test_a_bad_value_is_named_with_its_file_and_key(write, text, message):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file=path)
    assert str(caught.value) == f"{path}: {message}"


NESTED = "model_name: unet_nested\ncross_valid_ind: 1\nuse_ds: True\nnum_classes: 2\nimage_size: [576, 576]\n"


@pytest.mark.parametrize(
    ("text", "assignments", "message"),
    [
        ("image_size: [570, 576]", (), "{file}: image_size: data.patch_size 570 does not fit a network of depth 5"),
        ("", ("model.depth=8",), "--set model.depth: data.patch_size 576 does not fit a network of depth 8"),
        ("", ("data.patch_size=[576, 60]",), "--set data.patch_size 60 does not fit a network of depth 5"),
        ("", ("model.dropout=0.3",), "--set model: unet_nested has no dropout; leave the setting out"),
        ("", ("model.architecture=unet_simple",), "--set model: unet_simple has no deep_supervision"),
        ("", ("model.feature_scale=5",), "--set model: base_channels 32 is not divisible by feature_scale 5"),
        (
            "",
            ("model.ndim=3",),
            "--set model.ndim: data.patch_size: must be 3 numbers, as model.ndim is 3, found [576, 576]",
        ),
        ("", ("data.lower=300", "data.upper=20"), "--set data: lower 300.0 must be less than upper 20.0"),
        ("", ("loss.cross_entropy=0",), "--set loss: one of cross_entropy, dice and focal must have a positive weight"),
        ("", ("loss.class_weights=[1, 2, 3]",), "--set loss.class_weights are 3, but there are 2 classes"),
        ("", ("model.dropout=0.3", "model.depth=0"), "--set model.depth: must be at least 2, found 0"),
    ],
)
def test_what_contradicts_something_else_is_named_with_the_key_or_the_option_that_came_last(
    write, text, assignments, message
):
    path = write("".join(line + "\n" for line in NESTED.splitlines() if not text or "size" not in line) + text)
    with pytest.raises(ConfigError) as caught:
        load_config(file=path, assignments=assignments)
    assert str(caught.value).startswith(message.format(file=path))


def test_a_key_that_was_set_anew_by_hand_is_not_blamed(write):
    path = write("roi_size: [192, 160, 64]\nmin_val: -400\nmax_val: 900\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file=path, assignments=["data.lower=1000"])
    assert str(caught.value) == "--set data: lower 1000.0 must be less than upper 900.0"
    with pytest.raises(ConfigError) as caught:
        load_config(file=write("roi_size: [192, 160, 64]\nmin_val: 900\nmax_val: -400\n"))
    assert str(caught.value) == f"{path}: max_val: data: lower 900.0 must be less than upper -400.0"


def test_a_file_of_ours_is_none_of_the_zoo(write):
    assert translation_of(write("train: {epochs: 3}")) is None
    assert not is_zoo({"preset": "isbi", "model": {}, "data": {}})


def test_documents_of_ours_are_one_a_file(write):
    path = write("train: {epochs: 3}\n---\ntrain: {epochs: 4}\n")
    with pytest.raises(ConfigError, match="holds 2 documents"):
        load_config(file=path)


@pytest.mark.parametrize(
    ("name", "key"), [("unet_medical", "use_bn"), ("unet_medical", "use_ds"), ("unet_simple", "use_ds")]
)
def test_a_switch_that_the_zoos_network_does_not_read_changes_nothing(name, key):
    values = {"model_name": name, key: True}
    assert left_of(values) == {key: "the zoo's network of that name does not read it"}
    assert key not in str(settings_of(values))
