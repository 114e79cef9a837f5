"""Processes that fail in every way, and what is made of it."""

from __future__ import annotations

import os

import pytest

from unetcli.installation.probing import failure_in_words, import_each, prove_mindspore, run_child

CRASHES = {
    "raises": "raise ImportError('libGL.so.1: cannot open shared object file')",
    "leaves": "import os; os._exit(139)",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exits": "raise SystemExit(3)",
    "works": "",
}


@pytest.fixture
def surroundings(tmp_path):
    """An environment with modules that fail."""
    for name, code in CRASHES.items():
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def test_every_import_is_told_whatever_the_others_end_in(surroundings):
    assert import_each(["raises", "leaves", "works", "crashes", "exits", "json", "absent"], environ=surroundings) == {
        "raises": "ImportError: libGL.so.1: cannot open shared object file",
        "leaves": "it ended with code 139, as after SIGSEGV (a crash in its libraries)",
        "works": "",
        "crashes": "it was ended by SIGSEGV (a crash in its libraries)",
        "exits": "it ended with code 3",
        "json": "",
        "absent": "ModuleNotFoundError: No module named 'absent'",
    }


def test_a_process_that_does_not_end_is_ended_with_what_it_has_told():
    code = "import json, signal; print('not ours'); print(json.dumps({'event': 'begun'}), flush=True); signal.pause()"
    child = run_child(code, seconds=1.0)
    assert child.events == ({"event": "begun"},)
    assert child.failure == "it had not ended after 1 s"


def test_a_file_in_the_working_folder_is_not_taken_for_a_package(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise ImportError('this is no JSON')", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert import_each(["json"]) == {"json": ""}


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("raise ImportError('libgomp.so.1: cannot open')", "ImportError: libgomp.so.1: cannot open"),
        ("import os; os._exit(139)", "it ended with code 139, as after SIGSEGV (a crash in its libraries)"),
    ],
)
def test_a_mindspore_that_cannot_be_imported_leaves_no_event(tmp_path, code, failure):
    (tmp_path / "mindspore.py").write_text(code, "utf-8")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    child = prove_mindspore("auto", trains=True, seconds=60.0, environ=environ)
    assert (child.events, child.failure) == ((), failure)


@pytest.mark.parametrize(
    ("code", "errors", "says"),
    [
        (-11, "", "it was ended by SIGSEGV (a crash in its libraries)"),
        (-4, "", "it was ended by SIGILL (an instruction that this processor does not have)"),
        (-9, "", "it was ended by SIGKILL (mostly for want of memory)"),
        (-15, "", "it was ended by SIGTERM (a signal)"),
        (1, "Traceback\n  File x\nRuntimeError: no card\n\n--- C++ Call Stack\nplace.cc:3\n", "RuntimeError: no card"),
        (1, "Traceback\nunetcli.errors.RunError: the loss is nan\n", "unetcli.errors.RunError: the loss is nan"),
        (1, "only this\n\n", "only this"),
        (7, "", "it ended with code 7"),
    ],
)
def test_the_end_of_a_process_in_one_line(code, errors, says):
    assert failure_in_words(code, errors) == says
