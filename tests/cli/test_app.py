"""The command as a whole: version, help and how fast it is there, and what it says to what it does not know."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import pytest
from processes import ENVIRONMENT, UNET

from unetcli import __version__
from unetcli.cli.options import Device, one_of

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
    assert re.search(r"\b(cpu|gpu|ascend|mindir|onnx|air|o[0-3])\b", done.out) is None  # as they are not written
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
        ("train --device Quantum", "'--device': 'Quantum' is not one of 'auto', 'CPU', 'GPU', 'Ascend'"),
        ("train --amp O5", "'--amp': 'O5' is not one of 'O0', 'O1', 'O2', 'O3', 'auto'"),
        ("eval --split Test", "'--split': 'Test' is not one of 'validation', 'train'"),
        ("eval --runtime Torch", "'Torch' is not one of 'auto', 'mindspore', 'openvino', 'onnxruntime'"),
        ("export --format PDF", "'--format': 'PDF' is not one of 'MINDIR', 'ONNX', 'AIR'"),
        ("prepare nuclei --target all", "'--target': 'all' is not one of 'semantic', 'separated', 'border'"),
        ("predict", "images"),
        ("predict a.tif --overlap 0.95", "'--overlap'"),
        ("prepare isbi --folds 1", "'--folds'"),
        ("eval --instances nearest", "'nearest' is no way to tell objects apart; write --instances=watershed, "),
        ("eval --instances=nearest", "'nearest' is no way to tell objects apart; write --instances=watershed, "),
        ("predict --instances nearest", "'nearest' is no image, and no way to tell objects apart; write --instances="),
        ("predict --instances components", "Missing argument 'images'"),
    ],
)
def test_what_it_does_not_know_is_refused_with_what_it_knows(unet, arguments, says):
    assert says in unet.refuses(*arguments.split(), code=2)
    assert list(unet.folder.iterdir()) == []


@pytest.mark.parametrize("text", ["Ascend", "ascend", "ASCEND", Device.ascend])
def test_a_word_of_several_is_taken_in_any_case(text):
    assert one_of(Device)["parser"](text) is Device.ascend


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("train", 3, "datasets: no dataset in it"),
        ("eval", 4, "runs/: no runs here"),
        ("eval --instances Watershed", 4, "runs/: no runs here"),
        ("predict --instances *.tif", 4, "runs/: no runs here"),
        ("prepare isbi", 3, "data/isbi"),
    ],
)
def test_in_an_empty_folder_it_says_what_is_missing(unet, arguments, code, says):
    assert says in unet.refuses(*arguments.split(), code=code)
    assert list(unet.folder.iterdir()) == []
