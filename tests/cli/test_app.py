"""The command as a whole: version, help and how fast it is there, and what it says to what it does not know."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
from processes import ENVIRONMENT, UNET

from unetcli import __version__

COMMANDS = ("prepare", "train", "eval", "predict", "export", "doctor")


def seconds_of(*command) -> float:
    """Of a processor, since the machine may be busy; the best of three."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([str(part) for part in command], env=ENVIRONMENT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return min(once() for _ in range(3))


def test_help_is_there_at_once():
    bare = seconds_of(sys.executable, "-c", "import typer")
    assert seconds_of(UNET, "--help") < max(0.3, 3 * bare)


def test_help_names_every_command(unet):
    done = unet("--help")
    assert done.err == ""
    assert all(f" {name} " in done.out for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "prepare isbi"])
def test_every_command_has_help(unet, command):
    done = unet(*command.split(), "--help")
    assert f"Usage: unet {command}" in done.out
    assert done.err == ""


def test_the_version_is_the_packages(unet):
    assert unet("--version").out == f"unet {__version__}\n"


def test_it_runs_as_a_module_under_the_same_name():
    done = subprocess.run(
        [sys.executable, "-m", "unetcli", "--help"], capture_output=True, encoding="utf-8", check=True
    )
    assert "Usage: unet [OPTIONS] COMMAND" in done.stdout


def test_without_a_command_the_help_is_shown(unet):
    assert "Usage: unet" in unet(code=2).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("trian", "Did you mean 'train'?"),
        ("train --epoch 3", "--epochs"),
        ("train --device Quantum", "'--device'"),
        ("eval --split test", "'validation', 'train'"),
        ("export --format PDF", "'--format'"),
        ("predict", "images"),
        ("predict a.tif --overlap 0.95", "'--overlap'"),
        ("prepare isbi --folds 1", "'--folds'"),
    ],
)
def test_what_it_does_not_know_is_refused_with_what_it_knows(unet, arguments, says):
    assert says in unet.refuses(*arguments.split(), code=2)
    assert list(unet.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("train", 3, "datasets: no dataset in it"),
        ("eval", 4, "runs/: no runs here"),
        ("prepare isbi", 3, "data/isbi"),
    ],
)
def test_in_an_empty_folder_it_says_what_is_missing(unet, arguments, code, says):
    assert says in unet.refuses(*arguments.split(), code=code)
    assert list(unet.folder.iterdir()) == []
