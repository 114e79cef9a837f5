"""Calls of `unet` one after the other, each in a process of its own that ends with this one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

ATTENDED = "UNET_ATTENDED"
"""Names, to a process that is attended to, the pipe that is open as long as the attending one lives."""

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call has ended.

    Attributes:
        code: What it left with; negative if a signal has ended it.
        output: What it wrote to its standard output, where that was to be kept.
    """

    code: int
    output: str = ""


class Succession:
    """Calls, one at a time; use it as a context.

    The first Ctrl-C or SIGTERM is passed on to the call that runs, which ends in good order, and no other begins; the
    second is passed on too. Where this process is killed the kernel ends the call. Only on Windows it would go on.
    """

    def __init__(self) -> None:
        self.is_interrupted = False
        self._running: subprocess.Popen[str] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Succession:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def run(self, arguments: Sequence[str]) -> Ended:
        """One call, whose talk is shown and whose standard output is kept; after an interruption none.

        Args:
            arguments: Of the command, as after `unet`.
        """
        if self.is_interrupted:
            return Ended(INTERRUPTED)
        with _alive() as (environment, handles):
            # -P: a file of the working folder must not be taken for one of Python's modules. A session of its own, so
            # that Ctrl-C reaches this process alone, which passes it on
            self._running = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-P", "-m", "unetcli", *arguments],
                env=environment,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
                encoding="utf-8",
            )
            if self.is_interrupted:  # between the look and the start
                self._running.terminate()
            try:
                output, _ = self._running.communicate()
                return Ended(self._running.returncode, output)
            finally:
                self._running.kill()
                self._running = None

    def _pass_on(self, number: int, _frame: object) -> None:
        self.is_interrupted = True
        if self._running is not None:
            self._running.send_signal(number)


@contextlib.contextmanager
def _alive() -> Generator[tuple[dict[str, str], tuple[int, ...]]]:
    """The environment and the handle of a process that is to end with this one."""
    if sys.platform == "win32":
        yield dict(os.environ), ()
        return
    reading, writing = os.pipe()
    try:
        yield os.environ | {ATTENDED: str(reading)}, (reading,)
    finally:
        os.close(reading)
        os.close(writing)
