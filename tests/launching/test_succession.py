"""Calls one after the other; how they end with the process that attends to them is in the tests of the command."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from unetcli import __version__
from unetcli.launching import Ended, Succession


def test_a_call_gives_its_output_and_code():
    with Succession() as processes:
        assert processes.run(["--version"]) == Ended(0, f"unet {__version__}\n")
        assert processes.run(["trian"]) == Ended(2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interruption_none_begins_and_signals_are_as_before(number):
    before = signal.getsignal(number)
    with Succession() as processes:
        os.kill(os.getpid(), number)
        assert processes.is_interrupted
        assert processes.run(["--version"]) == Ended(130)
    assert signal.getsignal(number) == before


def test_a_file_of_the_working_folder_is_not_taken_for_a_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typer.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p and p != str(tmp_path)))
    with Succession() as processes:
        assert processes.run(["--version"]).code == 0
