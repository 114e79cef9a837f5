"""What a process does that was started among others: it says that it is there, and how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

from unetcli.launching.exchange import VARIABLE, Exchange
from unetcli.launching.place import place_of
from unetcli.launching.succession import ATTENDED

_CONTROL = re.compile(r"[\x1b\r]")
"""In what is drawn on a terminal and drawn over again."""


@contextlib.contextmanager
def membership() -> Generator[list[str] | None]:
    """Around the whole program; gives its arguments, or None for those of the command line.

    A process that is attended to ends with its attendant. Nothing more is done in one that `launch` has not started.

    The first worker writes to the terminal or the pipes of the launcher. Every process leaves at once where the
    launcher is gone, or where it fails itself: the end of a process that others wait for would wait for them.
    """
    if handle := os.environ.pop(ATTENDED, None):
        _leave_with(int(handle))
    place = place_of(os.environ)
    if place is None or VARIABLE not in os.environ:
        yield None
        return
    exchange = Exchange(Path(os.environ[VARIABLE]))
    launcher = exchange.read_launcher()
    _leave_with(os.open(launcher.alive, os.O_RDONLY | os.O_NONBLOCK))
    exchange.begin(place.name)
    if launcher.cores and place.role == "worker" and hasattr(os, "sched_setaffinity"):  # which macOS has not
        os.sched_setaffinity(0, launcher.cores[place.device])
    if place.rank == 0:
        sys.stdout = Shown(Path(launcher.stdout), sys.stdout)
        sys.stderr = Shown(Path(launcher.stderr), sys.stderr)
    code = 1
    try:
        yield launcher.arguments
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        raise
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        exchange.end(place.name, code)
        if code:
            os._exit(code)


class Shown:
    """A text stream on the launcher's terminal or pipe, copied to a log but for what is drawn over.

    Args:
        place: The terminal or pipe.
        log: Where the launcher keeps what this process writes.
    """

    def __init__(self, place: Path, log: TextIO) -> None:
        self._screen = place.open("w", encoding="utf-8", errors="backslashreplace")
        self._log = log

    def write(self, text: str) -> int:
        """To both."""
        if not _CONTROL.search(text):
            self._log.write(text)
            self._log.flush()
        return self._screen.write(text)

    def flush(self) -> None:
        """What is on its way."""
        self._screen.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._screen.isatty()

    def fileno(self) -> int:
        """That of the terminal or pipe, for those who ask its width."""
        return self._screen.fileno()

    @property
    def encoding(self) -> str:
        """Of the terminal or pipe."""
        return self._screen.encoding

    @property
    def errors(self) -> str | None:
        """What is done with what is not text."""
        return self._screen.errors


def _leave_with(handle: int) -> None:
    """Let the kernel end this process when the one that holds the other end of the pipe has ended.

    Not a thread that waits for it: MindSpore holds Python's lock as long as it waits for other processes.
    """
    import fcntl  # which Windows has not, where nothing is launched either

    fcntl.fcntl(handle, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_NONBLOCK | os.O_ASYNC)  # ends it by SIGIO
    with contextlib.suppress(BlockingIOError):  # it is there, and has nothing to say
        os.read(handle, 1)
        os._exit(1)
