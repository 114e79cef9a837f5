"""What must be run to be known, in a process of its own: its crash is then a finding, and not the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import unetcli

_IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    print(json.dumps({"event": "begun", "module": name}), flush=True)
    try:
        importlib.import_module(name)
    except Exception as error:
        print(json.dumps({"event": "failed", "module": name, "error": f"{type(error).__name__}: {error}"}), flush=True)
    else:
        print(json.dumps({"event": "imported", "module": name}), flush=True)
"""
_PROOF = """
import json, sys, time
began = time.perf_counter()
import mindspore
seconds = time.perf_counter() - began
print(json.dumps({"event": "imported", "version": mindspore.__version__, "seconds": seconds}), flush=True)
sys.path.insert(0, sys.argv[1])
import unetcli
del sys.path[0]
from unetcli.engine.proof import prove
prove(sys.argv[2], trains=sys.argv[3] == "train")
"""
_ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)\b.*")
_IMPORT_SECONDS = 120.0
_MEANINGS = {
    "SIGSEGV": "a crash in its libraries",
    "SIGABRT": "a crash in its libraries",
    "SIGILL": "an instruction that this processor does not have",
    "SIGBUS": "a file that is cut off, or a full disk",
    "SIGKILL": "mostly for want of memory",
}


@dataclass(frozen=True, slots=True)
class Child:
    """What a process told, and how it ended.

    Attributes:
        events: What it wrote, one mapping a line, in order; what is not meant for us is left out.
        failure: Why it ended before it was done, in one line; empty if it was.
    """

    events: tuple[Mapping[str, Any], ...]
    failure: str = ""

    def event(self, name: str) -> Mapping[str, Any] | None:
        """The last event of a name."""
        return next((event for event in reversed(self.events) if event["event"] == name), None)


def run_child(code: str, *arguments: str, seconds: float, environ: Mapping[str, str] | None = None) -> Child:
    """Run Python code in a process of its own, which must end in time.

    Args:
        code: The code; what it tells, it prints as a line of JSON with the key `event`.
        arguments: Its `sys.argv[1:]`.
        seconds: After which it is ended, and all that it has started.
        environ: Its environment; that of this process if left out.
    """
    # -P: a file in the working folder must not be taken for a package
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", code, *arguments]
    process = subprocess.Popen(  # noqa: S603 - our own code
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        out, _ = process.communicate()
        return Child(_events(out), f"it had not ended after {seconds:.0f} s")
    except BaseException:
        _end(process)
        process.wait()
        raise
    return Child(_events(out), "" if process.returncode == 0 else failure_in_words(process.returncode, err))


def import_each(
    modules: Sequence[str], *, seconds: float = _IMPORT_SECONDS, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What the imports of some modules end in; empty where they go well.

    All in one process; after one that ends it, the others are imported in another.

    Args:
        modules: Their names.
        seconds: Time for one process.
        environ: As for `run_child`.
    """
    ends: dict[str, str] = {}
    while rest := [name for name in modules if name not in ends]:
        child = run_child(_IMPORTS, *rest, seconds=seconds, environ=environ)
        ends |= {event["module"]: event.get("error", "") for event in child.events if event["event"] != "begun"}
        begun = [event["module"] for event in child.events if event["event"] == "begun"]
        left = [name for name in rest if name not in ends]
        if left:  # the one at which it ended, which is the first where none was begun
            ends[begun[-1] if begun and begun[-1] in left else left[0]] = child.failure or "it ended the process"
    return {name: ends[name] for name in modules}


def prove_mindspore(device: str, *, trains: bool, seconds: float, environ: Mapping[str, str] | None = None) -> Child:
    """Import MindSpore, ask which devices it reaches, and train on one; events `imported`, `devices`, `trained`.

    What the engine refuses is the event `refused`, with its error and hint.

    Args:
        device: "auto" or a device.
        trains: Whether to train.
        seconds: Time for all of it.
        environ: As for `run_child`.
    """
    root = str(Path(unetcli.__file__).parents[1])
    given = os.environ if environ is None else environ
    alone = {name: value for name, value in given.items() if name != "MS_ROLE"}  # or it would wait for other processes
    return run_child(_PROOF, root, device, "train" if trains else "look", seconds=seconds, environ=alone)


def failure_in_words(code: int, errors: str) -> str:
    """Why a process failed, from its exit code and what it wrote to standard error; one line."""
    number = -code if code < 0 else code - 128
    if code != 1 and number in set(signal.Signals):
        name = signal.Signals(number).name
        how = "was ended by" if code < 0 else f"ended with code {code}, as after"
        return f"it {how} {name} ({_MEANINGS.get(name, 'a signal')})"
    lines = [line.rstrip() for line in errors.splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if _ERROR.match(line)), lines[-1].strip() if lines else "")
    return told or f"it ended with code {code}"


def _events(text: str) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                value = json.loads(line)
            except json.JSONDecodeError:  # a line of somebody else's, or one that was cut off
                continue
            if "event" in value:
                found.append(value)
    return tuple(found)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it has started, of which any could hold its pipes open."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
