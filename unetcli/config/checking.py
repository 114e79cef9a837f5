"""Names and values of settings, checked; what is wrong becomes one line for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from pydantic import ValidationError

from unetcli.config.sections import Config, Section
from unetcli.errors import ConfigError, suggestion

Settings = dict[str, Any]

SET = "--set "
"""Stands for the place of a setting that was set by hand."""
_PAIR = "must be a list of two values"
_REASONS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "path_type": "must be a path",
    "string_type": "must be a name",
    "string_too_short": "must be a name",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be greater than {gt:g}",
    "less_than_equal": "must be at most {le:g}",
    "less_than": "must be less than {lt:g}",
    "tuple_type": "must be a list of values",
    "missing": _PAIR,
    "too_long": _PAIR,
}
"""What a setting must be, by pydantic's type of error."""


def sections_by_name() -> dict[str, type[Section]]:
    """The sections of a `Config`, by name."""
    return {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def check_names(settings: Mapping[str, Any], place: str) -> None:
    """Raise `ConfigError` with a suggestion at the first name that is not a setting."""
    sections = sections_by_name()
    for name, value in settings.items():
        if name not in Config.model_fields:
            raise ConfigError(f"{place}: {name}: no such section", hint=suggestion(str(name), Config.model_fields))
        if name not in sections:
            continue
        if not isinstance(value, dict):
            raise ConfigError(
                f"{place}: {name}: is a section, but found {value!r}", hint=f"write {name}: {{name: value}}"
            )
        for key in cast("Settings", value):
            if key not in sections[name].model_fields:
                raise ConfigError(
                    f"{place}: {name}.{key}: no such setting",
                    hint=suggestion(str(key), sections[name].model_fields),
                )


def set_value(settings: Settings, name: str, value: Any) -> None:
    """Put a value under its dotted name, which must be that of a setting."""
    section, _, key = name.partition(".")
    sections = sections_by_name()
    if section not in sections:
        meant = [f"'{s}.{name}'" for s, kind in sections.items() if name in kind.model_fields]
        hint = f"did you mean {' or '.join(meant)}?" if meant else suggestion(section, sections)
        raise ConfigError(f"{name}: no such setting", hint=hint)
    if key not in sections[section].model_fields:
        raise ConfigError(f"{name}: no such setting", hint=suggestion(key, sections[section].model_fields))
    settings.setdefault(section, {})[key] = value


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A configuration with dotted names replaced, checked as a whole."""
    settings = config.model_dump(mode="json")
    for name, value in values.items():
        set_value(settings, name, value)
    return validated(settings)


def validated(settings: Settings, places: Mapping[str, str] | None = None) -> Config:
    """The checked value; `places` says where dotted names were set, the last at last, to begin an error with."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(_reason(error, settings, places or {})) from error


def _reason(error: ValidationError, settings: Settings, places: Mapping[str, str]) -> str:
    """The first of pydantic's errors as one line: setting, what it must be, value found."""
    first = error.errors()[0]
    parts = [str(part) for part in first["loc"][:2]]  # a third is a place in a list
    name = ".".join(parts)
    known = _REASONS.get(first["type"])
    reason = known.format(**first.get("ctx", {})) if known else first["msg"].removeprefix("Value error, ")
    if len(first["loc"]) > 2 and known != _PAIR:
        reason = f"each value {reason}"
    found = f", found {settings[parts[0]][parts[1]]!r}" if len(parts) == 2 else ""
    place = places.get(name, "") if found else _place_of(reason, name, settings, places)
    return f"{place}{name + ': ' if name else ''}{reason}{found}"


def _place_of(reason: str, section: str, settings: Settings, places: Mapping[str, str]) -> str:
    """Where what contradicts something else was set: the last setting that the reason names, or gives the value of."""
    words = set(re.findall(r"\w+", reason))
    within = {name: place for name, place in places.items() if name.startswith(f"{section}.") or not section}
    found = ""
    for name, place in within.items():
        above, _, key = name.partition(".")
        if key in words or settings[above].get(key) in tuple(words):
            # of sizes, which are of no section, the reason may begin with another name than that which was set by hand
            found = place if section or place != SET or reason.startswith(name) else f"{place}{name}: "
    if found or not section:
        return found
    return next(iter(within.values())) if len(set(within.values())) == 1 else ""
