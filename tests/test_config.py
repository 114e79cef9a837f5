"""Settings: layers laid over each other, what is refused and how it is said, and the sizes that a network takes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetcli import config as config_module
from unetcli.config import (
    Config,
    DataSettings,
    InferenceSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainSettings,
    load_config,
    preset_names,
    save_config,
    with_values,
)
from unetcli.config.sections import Section
from unetcli.errors import ConfigError

SECTIONS = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
SETTINGS = [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields]


def error_of(**arguments) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(**arguments)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return caught.value


def message_of_set(*assignments) -> str:
    return str(error_of(assignments=assignments))


@pytest.fixture
def write(tmp_path):
    def write_settings(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write_settings


@pytest.fixture
def own_presets(tmp_path, monkeypatch):
    """A folder of presets in place of the package's own."""
    folder = tmp_path / "presets"
    folder.mkdir()
    monkeypatch.setattr(config_module, "_presets", lambda: folder)
    return folder


# layers


def test_each_layer_wins_over_those_below_it(write, own_presets):
    (own_presets / "cells.yaml").write_text("train: {epochs: 1, batch_size: 11, seed: 21, workers: 31}")
    file = write("train: {batch_size: 12, seed: 22, workers: 32}")

    train = load_config("cells", file, ["train.seed=23", "train.workers=33"], {"train.workers": 34}).train

    assert (train.epochs, train.batch_size, train.seed, train.workers) == (1, 12, 23, 34)
    assert train.validate_every == TrainSettings().validate_every


def test_an_option_that_was_not_given_changes_nothing():
    assert load_config(assignments=["train.epochs=3"], options={"train.epochs": None}).train.epochs == 3


def test_the_last_of_two_assignments_wins():
    assert load_config(assignments=["train.epochs=3", " train.epochs = 4 "]).train.epochs == 4


def test_a_file_can_name_its_preset(write, own_presets):
    (own_presets / "cells.yaml").write_text("train: {epochs: 5}")

    config = load_config(file=write("preset: cells\ntrain: {seed: 6}"))

    assert (config.preset, config.train.epochs, config.train.seed) == ("cells", 5, 6)


def test_a_preset_that_is_asked_for_replaces_that_of_the_file(write, own_presets):
    (own_presets / "cells.yaml").write_text("train: {epochs: 5}")
    (own_presets / "nuclei.yaml").write_text("train: {epochs: 7}")

    config = load_config("nuclei", write("preset: cells"))

    assert (config.preset, config.train.epochs) == ("nuclei", 7)


def test_loading_leaves_no_trace_in_what_is_loaded_next(write):
    load_config(file=write("train: {epochs: 3}"), assignments=["train.seed=9"])

    assert load_config() == Config()


@pytest.mark.parametrize("text", ["", "# nothing\n", "preset: null", "train: {}"])
def test_an_empty_file_leaves_the_defaults(write, text):
    assert load_config(file=write(text)) == Config()


# presets


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_begins_with_what_it_is_for_and_where_it_comes_from(name):
    text = (Path(config_module.__file__).parents[1] / "presets" / f"{name}.yaml").read_text("utf-8")
    assert text.startswith("# ")
    assert len(text.partition("\n")[0]) > 40


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_its_saved_form_loads_to_the_equal_value(tmp_path, name):
    config = load_config(name)
    save_config(config, tmp_path / "config.yaml")

    assert config.preset == name
    assert config != Config(preset=name)
    assert load_config(file=tmp_path / "config.yaml") == config


def test_there_are_presets():
    assert {"isbi", "demo"} <= set(preset_names())


def test_an_unknown_preset_is_refused_with_the_nearest():
    error = error_of(preset="isbbi")

    assert str(error) == "--preset isbbi: no such preset"
    assert error.hint == "did you mean 'isbi'?"


@pytest.mark.parametrize("value", ["isbbi", "3", "[a]"])
def test_an_unknown_preset_in_a_file_is_refused_and_the_file_is_named(write, value):
    path = write(f"preset: {value}")

    assert str(error_of(file=path)).startswith(f"{path}: preset ")


# what is refused, and how it is said


def test_an_unknown_section_of_a_file_gets_a_suggestion(write):
    path = write("trian: {epochs: 3}")
    error = error_of(file=path)

    assert str(error) == f"{path}: trian: no such section"
    assert error.hint == "did you mean 'train'?"


def test_an_unknown_name_of_a_file_gets_a_suggestion(write):
    path = write("train: {epoch: 3}")
    error = error_of(file=path)

    assert str(error) == f"{path}: train.epoch: no such setting"
    assert error.hint == "did you mean 'epochs'?"


@pytest.mark.parametrize("text", ["3: 4", "null: 4", "train: {3: 4}", "train: {null: 4}", "[1]: 2"])
def test_names_that_are_not_text_are_refused_like_other_unknown_names(write, text):
    assert "no such se" in str(error_of(file=write(text)))


@pytest.mark.parametrize("text", ["train: 3", "train:", "train: [epochs]"])
def test_a_section_without_names_is_refused(write, text):
    assert "train: is a section, but found" in str(error_of(file=write(text)))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.epoch", "did you mean 'epochs'?"),
        ("trian.epochs", "did you mean 'train'?"),
        ("seed", "did you mean 'train.seed'?"),
        ("batch_size", "did you mean 'train.batch_size' or 'inference.batch_size'?"),
        ("preset", f"known are: {', '.join(sorted(SECTIONS))}"),
    ],
)
def test_an_unknown_name_of_an_assignment_gets_a_suggestion(name, hint):
    error = error_of(assignments=[f"{name}=1"])

    assert str(error) == f"{name}: no such setting"
    assert error.hint == hint


def test_an_unknown_name_of_an_option_is_refused():
    assert str(error_of(options={"train.epoch": 3})) == "train.epoch: no such setting"


@pytest.mark.parametrize("assignment", ["train.epochs", "=3", " = "])
def test_an_assignment_needs_a_name_and_a_value(assignment):
    error = error_of(assignments=[assignment])

    assert str(error) == f"--set {assignment}: not a name and a value"
    assert error.hint == "write --set section.name=value"


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs=many", "train.epochs: must be a whole number, found 'many'"),
        ("train.epochs=1.5", "train.epochs: must be a whole number, found 1.5"),
        ("train.epochs=true", "train.epochs: must be a whole number, found True"),
        ("train.patience=true", "train.patience: must be a whole number, found True"),
        ("train.epochs=", "train.epochs: must be a whole number, found None"),
        ("train.epochs=0", "train.epochs: must be at least 1, found 0"),
        ("optimizer.learning_rate='1e-3'", "optimizer.learning_rate: must be a number, found '1e-3'"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate: must be greater than 0, found 0"),
        ("optimizer.learning_rate=.inf", "optimizer.learning_rate: must be a finite number, found inf"),
        ("data.lower=.nan", "data.lower: must be a finite number, found nan"),
        ("inference.overlap=0.95", "inference.overlap: must be at most 0.9, found 0.95"),
        ("model.dropout=1", "model.dropout: must be less than 1, found 1"),
        ("augmentation.flip=maybe", "augmentation.flip: must be true or false, found 'maybe'"),
        ("data.dataset=3", "data.dataset: must be a path, found 3"),
        ("train.select_by=''", "train.select_by: must be a name, found ''"),
        (
            "schedule.name=cosin",
            "schedule.name: must be 'constant', 'cosine', 'cosine_zoo' or 'polynomial', found 'cosin'",
        ),
        ("model.norm={a: b}", "model.norm: must be 'batch' or 'none', found {'a': 'b'}"),
        ("data.patch_size=256", "data.patch_size: must be a list of values, found 256"),
        ("augmentation.scale=[1]", "augmentation.scale: must be a list of two values, found [1]"),
        ("augmentation.scale=[1, 2, 3]", "augmentation.scale: must be a list of two values, found [1, 2, 3]"),
        ("model.strides=[[2, 2]]", "model: strides: must be 4 times 2 numbers, found [[2, 2]]"),
        ("model.architecture=unet_cicek", "model: unet_cicek is a network on volumes; set ndim to 3"),
        ("data.output_range=[1, 0]", "data: output_range must ascend, got [1.0, 0.0]"),
        ("data.patch_size=[256, a]", "data.patch_size: each value must be a whole number, found [256, 'a']"),
        ("augmentation.scale=[1, .nan]", "augmentation.scale: each value must be a finite number, found [1, nan]"),
    ],
)
def test_a_value_is_refused_with_the_setting_what_it_must_be_and_the_value_found(assignment, message):
    assert message_of_set(assignment) == f"--set {message}"


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", [{"a": 1}, [[[1]]], [1, 2, "three"], "no such value?"], ids=repr)
def test_no_setting_takes_a_value_of_another_type_and_none_is_refused_in_other_words_than_ours(name, value):
    if name in ("data.dataset", "train.select_by") and isinstance(value, str):
        return
    with pytest.raises(ConfigError) as caught:
        with_values(Config(), {name: value})

    assert str(caught.value).startswith(f"{name}: ")
    assert str(caught.value).endswith(f", found {value!r}")
    assert re.search(r"Input|should|\bvalid\b|Tuple|item", str(caught.value).removesuffix(repr(value))) is None


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["data.lower=5", "data.upper=5"], "data: lower 5.0 must be less than upper 5.0"),
        (
            ["augmentation.scale=[1.2, 0.8]"],
            "augmentation: scale must be two positive numbers, the lesser first, got 1.2 and 0.8",
        ),
        (["augmentation.gamma=[0, 1]"], "augmentation: gamma must be two positive numbers"),
        (["loss.cross_entropy=0"], "loss: one of cross_entropy, dice and focal must have a positive weight"),
        (["model.feature_scale=3"], "model: base_channels 64 is not divisible by feature_scale 3"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(assignments, message):
    assert message_of_set(*assignments).startswith(f"--set {message}")


def test_the_file_is_named_where_the_value_came_from_it(write):
    path = write("train: {epochs: 0, seed: 1}")

    assert str(error_of(file=path)) == f"{path}: train.epochs: must be at least 1, found 0"


def test_the_file_is_not_blamed_for_what_was_laid_over_it(write):
    path = write("train: {epochs: 1}")

    assert str(error_of(file=path, assignments=["train.epochs=-1"])).startswith("--set train.epochs: ")
    assert str(error_of(file=path, options={"train.epochs": -1})).startswith("train.epochs: ")


def test_the_cause_is_kept():
    assert error_of(assignments=["train.epochs=0"]).__cause__ is not None


# files


@pytest.mark.parametrize(
    ("text", "line"),
    [("train: [", 1), ("train:\n\tepochs: 3", 2), ("train: {seed: 1}\ntrain: {seed: 2}", 2), ("a: b: c", 1)],
)
def test_what_is_not_yaml_is_refused_with_its_line(write, text, line):
    path = write(text)

    assert str(error_of(file=path)).startswith(f"{path}: not valid YAML: line {line}: ")


def test_yaml_can_make_no_objects(write):
    assert "not valid YAML" in str(error_of(file=write("train: !!python/object/apply:os.getcwd []")))


def test_a_settings_file_must_hold_sections(write):
    path = write("- train")

    assert str(error_of(file=path)) == f"{path}: a settings file holds sections of names and values, not list"


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    error = error_of(file=tmp_path / "no.yaml")

    assert str(error) == f"{tmp_path / 'no.yaml'}: cannot be read (No such file or directory)"
    assert "--config" in error.hint


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "run.ckpt").write_bytes(b"\xff\xfe\x00")

    assert str(error_of(file=tmp_path / "run.ckpt")).endswith("cannot be read (not UTF-8 text)")


@settings(max_examples=200, deadline=None)
@given(st.text("train.epochs:{}[]&*!?|>'\"%@#- \n\t_0123456789T", max_size=30))
def test_any_value_is_taken_or_refused_as_a_setting_is(text):
    with contextlib.suppress(ConfigError):
        patience = load_config(assignments=[f"train.patience={text}"]).train.patience
        assert patience is None or patience >= 1


@pytest.mark.parametrize("value", ["2020-13-45", "!!int x", "!!bool x", "._", "9" * 5000])
def test_values_that_the_yaml_reader_stumbles_over_are_refused_like_others(value):
    assert "not valid YAML" in message_of_set(f"train.epochs={value}")


@pytest.mark.parametrize("word", ["no", "off", "yes", "on", "n"])
def test_yaml_is_that_of_1_2_where_such_words_are_text(write, word):
    assert load_config(file=write(f"data: {{dataset: {word}}}")).data.dataset == Path(word)
    assert message_of_set(f"model.norm={word}") == f"--set model.norm: must be 'batch' or 'none', found '{word}'"
    assert message_of_set(f"model.residual={word}").endswith(f"must be true or false, found '{word}'")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("0.001", 1e-3), ("1", 1.0), ("5.0E-4", 5e-4)])
def test_numbers_are_read_as_people_write_them(text, value):
    assert load_config(assignments=[f"optimizer.learning_rate={text}"]).optimizer.learning_rate == value


# written and read back

positive = st.floats(1e-300, 1e300)
share = st.floats(0, 1, exclude_max=True)
path_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
awkward = st.sampled_from(
    ["no", "null", "~", "1.0", "1e3", "0o7", "2024-05-01", "a: b", "# c", " x ", "- a", "x " * 90]
)


@st.composite
def configs(draw):
    size = st.integers(1, 64).map(lambda n: 32 * n)
    return Config(
        preset=draw(st.none() | st.sampled_from(preset_names())),
        model=ModelSettings(
            dropout=draw(share), residual=draw(st.booleans()), norm=draw(st.sampled_from(["none", "batch"]))
        ),
        data=DataSettings(
            dataset=draw(st.none() | (awkward | path_text).map(Path)),
            patch_size=draw(st.tuples(size, size)),
            lower=draw(st.none() | st.floats(-1e300, 0)),
            upper=draw(st.none() | positive),
        ),
        loss=LossSettings(cross_entropy=draw(positive)),
        optimizer=OptimizerSettings(learning_rate=draw(positive), clip_norm=draw(st.none() | positive)),
        schedule=ScheduleSettings(final_ratio=draw(share), name=draw(st.sampled_from(["constant", "cosine"]))),
        train=TrainSettings(seed=draw(st.integers(0, 2**70))),
        inference=InferenceSettings(
            tile_size=draw(st.sampled_from(["auto", "patch"]) | st.tuples(size, size)), tta=draw(st.booleans())
        ),
    )


@settings(max_examples=60, deadline=None)
@given(configs())
def test_a_saved_config_loads_to_the_equal_value(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "saved" / "config.yaml"

    save_config(config, path)

    assert load_config(file=path) == config


def test_a_saved_config_has_every_setting_in_the_order_of_the_sections(tmp_path):
    save_config(Config(), tmp_path / "config.yaml")

    text = (tmp_path / "config.yaml").read_text()
    assert re.findall(r"^\w+", text, re.MULTILINE) == list(Config.model_fields)
    assert re.findall(r"^  (\w+)", text, re.MULTILINE) == [name.partition(".")[2] for name in SETTINGS]


# a config and its values


def test_with_values_replaces_dotted_names_and_leaves_the_first_as_it_was():
    first = Config()

    second = with_values(first, {"train.epochs": 3, "data.dataset": "here", "inference.tile_size": (64, 96)})

    assert (second.train.epochs, second.data.dataset, second.tile_size) == (3, Path("here"), (64, 96))
    assert second.model == first.model
    assert first == Config()


def test_with_values_checks_names_and_the_whole():
    with pytest.raises(ConfigError, match=r"^model.dept: no such setting$"):
        with_values(Config(), {"model.dept": 3})
    with pytest.raises(ConfigError, match=r"^data.patch_size 256 does not fit a network of depth 5; .* 252 and 268$"):
        with_values(Config(), {"model.architecture": "unet_valid"})


def test_a_tile_has_the_size_of_a_patch_unless_it_is_set():
    patch = DataSettings(patch_size=(64, 32))
    assert Config(data=patch).tile_size == (64, 32)
    assert Config(data=patch, inference=InferenceSettings(tile_size="patch")).tile_size == (64, 32)
    assert Config(inference=InferenceSettings(tile_size=(96, 64))).tile_size == (96, 64)


def test_runs_that_have_no_tile_size_keep_tiles_of_the_size_of_a_patch():
    assert with_values(Config(), {"inference.tile_size": None}).inference.tile_size == "patch"


@pytest.mark.parametrize("value", ["big", 64, True])
def test_a_tile_size_is_a_name_or_numbers(value):
    with pytest.raises(ConfigError, match=r"^inference.tile_size: must be 'auto', 'patch', or a number an axis, found"):
        with_values(Config(), {"inference.tile_size": value})


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().train.epochs = 3


# sizes


def test_channels_double_at_each_level():
    assert ModelSettings().channels == (64, 128, 256, 512, 1024)
    assert ModelSettings(base_channels=32, feature_scale=4, depth=3).channels == (8, 16, 32)


def test_the_original_network_eats_92_px_a_side_and_a_padded_one_none():
    assert ModelSettings(architecture="unet_valid").margin == (572 - 388) / 2 == 92
    assert ModelSettings(architecture="unet").margin == 0


def test_sizes_of_the_original_network_and_the_nearest_that_fit():
    network = ModelSettings(architecture="unet_valid")

    network.check_size("data.patch_size", (572, 188))
    with pytest.raises(ValueError, match=r"^data.patch_size 570 does not fit .* depth 5; the nearest .* 556 and 572$"):
        network.check_size("data.patch_size", (572, 570))


@pytest.mark.parametrize(("length", "nearest"), [(250, "240 and 256"), (10, "16"), (0, "16"), (-40, "16")])
def test_sizes_of_a_padded_network_are_multiples_of_its_stride(length, nearest):
    ModelSettings().check_size("tile", (16, 256))
    with pytest.raises(ValueError, match=rf"^tile {length} does not fit .* are {nearest}$"):
        ModelSettings().check_size("tile", (256, length))


def valid_output(size: int, depth: int) -> int | None:
    """Size after the valid network, step by step; None where a pooling meets an odd size or nothing is left."""
    for _ in range(depth - 1):
        size -= 2 * 2
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= 2 * 2
    for _ in range(depth - 1):
        size = 2 * size - 2 * 2
    return size if size > 0 else None


@pytest.mark.parametrize("depth", range(2, 9))
def test_the_valid_network_takes_exactly_the_sizes_that_its_steps_can_halve(depth):
    network = ModelSettings(architecture="unet_valid", depth=depth)
    accepted, refused = [], {}
    for size in range(1, 2 * network.margin + 3 * network.stride[0]):
        try:
            network.check_size("size", (size, size))
            accepted.append(size)
        except ValueError as error:
            refused[size] = [int(n) for n in re.findall(r"\d+", str(error).partition("the nearest")[2])]

    outputs = {size: valid_output(size, depth) for size in accepted}
    assert outputs == {size: size - 2 * network.margin for size in accepted}
    assert len(accepted) >= 2
    assert all(valid_output(size, depth) is None for size in refused)
    within = {size: nearest for size, nearest in refused.items() if size < accepted[-1]}
    for size, nearest in within.items():
        below, above = [n for n in accepted if n < size][-1:], [n for n in accepted if n > size][:1]
        assert nearest == below + above


@pytest.mark.parametrize("name", ["\x85", "a\u2028b", "数据", "two words", "tab\there", "'quoted'", 'a"b', "é\u0301"])
def test_a_path_of_any_signs_survives_saving(tmp_path, name):
    config = load_config(options={"data.dataset": name})

    save_config(config, tmp_path / "config.yaml")

    assert load_config(file=tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("data.patch_size=[256]", "data.patch_size: must be 2 numbers, as model.ndim is 2, found [256]"),
        ("data.patch_size=[8, 8, 8]", "data.patch_size: must be 2 numbers, as model.ndim is 2, found [8, 8, 8]"),
        ("augmentation.flip_axes=[2]", "augmentation.flip_axes: must be of 0 to 1, found [2]"),
    ],
)
def test_sizes_and_axes_must_fit_the_network(assignment, message):
    assert str(error_of(assignments=[assignment])) == f"--set {message}"


def test_volumes_have_settings_of_three_axes():
    config = load_config(
        options={
            "model.ndim": 3,
            "model.depth": 3,
            "model.strides": [[1, 2, 2], [2, 2, 2]],
            "data.patch_size": [6, 16, 20],
            "inference.tile_size": [4, 8, 12],
        }
    )

    assert config.model.stride == (2, 4, 4)
    assert config.model.level_kernels == ((3, 3, 3),) * 3
    assert config.tile_size == (4, 8, 12)


def test_each_axis_must_fit_its_own_stride():
    settings = {"model.ndim": 3, "model.depth": 3, "model.strides": [[1, 2, 2], [2, 2, 2]]}
    message = str(error_of(options=settings | {"data.patch_size": [6, 18, 20]}))

    assert message == "data.patch_size 18 does not fit a network of depth 3; the nearest that do are 16 and 20"


def test_a_logit_adjustment_fits_the_classes_and_undoes_weights_that_there_are():
    message = str(error_of(options={"model.num_classes": 3, "loss.logit_adjustment": [1.0, 2.0]}))
    assert message == "loss.logit_adjustment are 2, but there are 3 classes"
    message = str(error_of(options={"loss.logit_adjustment": "weights"}))
    assert "logit_adjustment 'weights' needs weights: set weight_map or class_weights" in message
    message = str(error_of(options={"loss.logit_adjustment": "weights", "loss.weight_map": True, "loss.focal": 1.0}))
    assert "logit_adjustment 'weights' undoes those of cross_entropy, but not those of focal" in message
    for refused in ("priors", [1.0, float("inf")], [1.0, "a"], 1.0):
        message = str(error_of(options={"loss.logit_adjustment": refused}))
        assert message.startswith("loss.logit_adjustment: must be 'weights' or a list of finite numbers")


def test_class_weights_must_fit_the_classes():
    message = str(error_of(options={"model.num_classes": 3, "loss.class_weights": [1.0, 2.0]}))

    assert message == "loss.class_weights are 2, but there are 3 classes"


@pytest.mark.parametrize(
    ("architecture", "name", "value"),
    [
        ("unet_residual", "residual", True),
        ("unet_residual", "upsample", "nearest"),
        ("unet_residual", "dropout", 0.5),
        ("unet_residual", "deep_supervision", True),
        ("unet_valid", "deep_supervision", True),
        ("unet_valid", "attention", True),
        ("unet_nested", "residual", True),
        ("unet_nested", "dropout", 0.5),
        ("unet_nested", "attention", True),
        ("unet_nested", "upsample_activation", True),
        ("unet_simple", "residual", True),
        ("unet_simple", "attention", True),
        ("unet_simple", "deep_supervision", True),
    ],
)
def test_a_setting_that_a_network_does_not_have_is_refused(architecture, name, value):
    message = str(error_of(options={"model.architecture": architecture, f"model.{name}": value}))

    assert message == f"model: {architecture} has no {name}; leave the setting out"


@pytest.mark.parametrize(
    ("architecture", "norm"), [("unet", "batch"), ("unet_nested", "none"), ("unet_simple", "none")]
)
def test_the_networks_of_the_zoo_have_no_norm_on_the_way_up(architecture, norm):
    assert ModelSettings(architecture=architecture).decoder_norm == norm


def test_a_weight_map_needs_a_loss_that_it_can_weigh():
    message = str(error_of(options={"loss.cross_entropy": 0.0, "loss.dice": 1.0, "loss.weight_map": True}))
    assert "weight_map is for cross_entropy and focal, and both have a weight of 0" in message
