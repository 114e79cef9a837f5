"""The settings of a run, checked: presets, files and single values laid over each other.

A run is described by one `Config`. It is built by `load_config`, which lays a preset, a settings file,
`--set` values and the options of a command over the defaults, in that order, and refuses what it does
not know with a suggestion. The resolved value is written into the run, and training from that file
repeats the run.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import SafeRepresenter

from unetcli.config.checking import SET, Settings, check_names, sections_by_name, set_value, validated, with_values
from unetcli.config.sections import (
    AugmentationSettings,
    Config,
    DataSettings,
    InferenceSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainSettings,
)
from unetcli.config.zoo import Translation, is_zoo, translate
from unetcli.errors import ConfigError, suggestion
from unetcli.files import write_text

__all__ = [
    "AugmentationSettings",
    "Config",
    "DataSettings",
    "InferenceSettings",
    "LossSettings",
    "ModelSettings",
    "OptimizerSettings",
    "ScheduleSettings",
    "TrainSettings",
    "Translation",
    "load_config",
    "load_saved_config",
    "preset_names",
    "save_config",
    "translation_of",
    "with_values",
]


class _Representer(SafeRepresenter):
    """Writes text as it stands, but in quotes where a YAML parser would take one of its signs for a line break."""


def _represent_text(representer: SafeRepresenter, text: str) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Representer.add_representer(str, _represent_text)


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package."""
    return tuple(sorted(Path(file.name).stem for file in _presets().iterdir() if file.name.endswith(".yaml")))


def load_config(
    preset: str | None = None,
    file: Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Lay a preset, a settings file, `a.b=c` assignments and options over the defaults, in this order.

    Args:
        preset: Name of a preset; may also stand as `preset:` in the file.
        file: A YAML settings file, such as the `config.yaml` of a run.
        assignments: Texts of the form `section.name=value`, the value in YAML.
        options: Dotted names to values; `None` means that the option was not given.

    Raises:
        ConfigError: For a file that cannot be read, an unknown name or a value out of range.
    """
    from_file, places = _read_file(file) if file else ({}, {})
    place = "--preset" if preset else f"{file}: preset"
    preset = preset or from_file.get("preset")
    settings: Settings = {}
    if preset is not None:
        _merge(settings, _read_preset(preset, place))
    _merge(settings, from_file | ({"preset": preset} if preset else {}))
    for assignment in assignments:
        name, equals, value = (part.strip() for part in assignment.partition("="))
        if not (name and equals):
            raise ConfigError(f"--set {assignment}: not a name and a value", hint="write --set section.name=value")
        set_value(settings, name, _parse_yaml(value, f"--set {assignment}"))
        _place_last(places, name, SET)
    for name, value in (options or {}).items():
        if value is not None:
            set_value(settings, name, value)
            _place_last(places, name, "")
    return validated(settings, places)


def load_saved_config(path: Path) -> Config:
    """Read what `save_config` wrote. It is complete, so the preset it names is not looked up again.

    Raises:
        ConfigError: For a file that cannot be read, an unknown name or a value out of range.
    """
    settings = _read_yaml(path)
    check_names(settings, str(path))
    return validated(settings, _places(settings, path))


def save_config(config: Config, path: Path) -> None:
    """Write every setting to a YAML file that `load_config` reads back to an equal value."""
    stream = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.dump(config.model_dump(mode="json"), stream)  # pyright: ignore[reportUnknownMemberType]
    write_text(path, stream.getvalue())


def translation_of(file: Path) -> Translation | None:
    """How a settings file of the MindSpore model zoo is understood; None if it is one of ours.

    Raises:
        ConfigError: For a file that cannot be read, or a value that its key cannot have.
    """
    values = _read_yaml(file)
    return translate(values, str(file)) if is_zoo(values) else None


def _read_file(file: Path) -> tuple[Settings, dict[str, str]]:
    """The settings of a file, ours or the zoo's, and where each of them was set."""
    settings = _read_yaml(file)
    if is_zoo(settings):
        found = translate(settings, str(file))
        return found.sections(), {name: f"{file}: {key}: " for name, key in found.sources.items()}
    check_names(settings, str(file))
    return settings, _places(settings, file)


def _places(settings: Settings, file: Path) -> dict[str, str]:
    """Where the settings of a file were set, for an error to begin with."""
    return {f"{section}.{name}": f"{file}: " for section in sections_by_name() for name in settings.get(section, ())}


def _place_last(places: dict[str, str], name: str, place: str) -> None:
    """Say where a setting was set now, after all others."""
    places.pop(name, None)
    places[name] = place


def _presets() -> Any:
    return resources.files("unetcli") / "presets"


def _read_preset(name: str, place: str) -> Settings:
    if name not in preset_names():
        raise ConfigError(f"{place} {name}: no such preset", hint=suggestion(str(name), preset_names()))
    settings = _as_settings(_parse_yaml((_presets() / f"{name}.yaml").read_text("utf-8"), f"preset {name}"), name)
    check_names(settings, f"preset {name}")
    return settings


def _read_yaml(path: Path) -> Settings:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})", hint="give --config a YAML file of settings") from error
    documents = [_as_settings(document, str(path)) for document in _parse_documents(text, str(path))]
    if len(documents) > 1 and not is_zoo(documents[0]):
        raise ConfigError(f"{path}: holds {len(documents)} documents", hint="a settings file is one, without ---")
    return documents[0] if documents else {}


def _as_settings(value: Any, place: str) -> Settings:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{place}: a settings file holds sections of names and values, not {type(value).__name__}")
    return cast("Settings", value)


def _parse_yaml(text: str, place: str) -> Any:
    documents = _parse_documents(text, place)
    if len(documents) > 1:
        raise ConfigError(f"{place}: holds {len(documents)} documents", hint="write one value, without ---")
    return documents[0] if documents else None


def _parse_documents(text: str, place: str) -> list[Any]:
    try:
        return list(YAML(typ="safe", pure=True).load_all(text))  # pyright: ignore[reportUnknownMemberType]
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{place}: not valid YAML: {line}{error.problem}") from error
    except (YAMLError, ValueError, KeyError) as error:  # the last two: an impossible date, or a tag of another type
        raise ConfigError(f"{place}: not valid YAML: {' '.join(str(error).split())}") from error


def _merge(below: Settings, above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`, section by section."""
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(name), dict):
            below[name] |= value
        else:
            below[name] = dict(cast("Settings", value)) if isinstance(value, dict) else value
