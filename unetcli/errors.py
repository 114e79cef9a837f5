"""What can go wrong by the user's hand, and the exit code each kind leaves with.

0 is done, 1 a bug (with a traceback), 130 an interruption; the classes here give the rest.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnetError(Exception):
    """A mistake the user can mend; shown without a traceback.

    Args:
        message: What is wrong, beginning with the file or setting it concerns.
        hint: The next thing to try, as a sentence or a command. May be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(UnetError):
    """A setting or an option has a name or value that it cannot have."""

    exit_code = 2


class DataError(UnetError):
    """An image, a mask or a dataset folder is not what it must be."""

    exit_code = 3


class RunError(UnetError):
    """A run folder, a checkpoint or a model file is missing, broken or of another network."""

    exit_code = 4


class DeviceError(UnetError):
    """The device asked for is not there, or cannot do what was asked of it."""

    exit_code = 5


class RanksError(UnetError):
    """One of several processes has failed, and what they did together has ended.

    Args:
        message: Which one, and what it said.
        hint: As for all errors.
        exit_code: What it has left with; that of a device that is lost if it could not say.
    """

    exit_code = DeviceError.exit_code

    def __init__(self, message: str, *, hint: str = "", exit_code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code or type(self).exit_code


class PartialError(UnetError):
    """Some inputs were done and some failed; what was done is kept."""

    exit_code = 6


def counted(number: int, one: str, many: str = "") -> str:
    """The number with its noun, such as `1 batch` or `3 batches`; `many` is needed where it is not `one` and an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The nearest known name as a hint, or the list of all where none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"
