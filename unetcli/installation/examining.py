"""All findings, in the order in which they are shown."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import unetcli
from unetcli.framework import cache_folder
from unetcli.installation.accelerators import Accelerator, Place, Signs, check_accelerator, look_for, reason_for
from unetcli.installation.findings import Finding
from unetcli.installation.limits import read_limits
from unetcli.installation.machine import (
    check_disk,
    check_memory,
    check_msrun,
    check_processor,
    check_threads,
    check_units,
    read_processor,
)
from unetcli.installation.probing import Child, import_each, prove_mindspore
from unetcli.installation.proving import check_devices, check_mindspore, check_training, mindspore_folder
from unetcli.installation.versions import (
    check_packages,
    check_python,
    check_runtimes,
    check_unet,
    read_packages,
)

ACCELERATORS: tuple[Accelerator, ...] = ("Ascend", "GPU")
_LOOK_SECONDS = 180.0
"""The first import of MindSpore from a shared disk reads hundreds of megabytes."""
_TRAIN_SECONDS = 600.0
"""On a new device the first step may compile for minutes."""


def examine(device: str, *, trains: bool, say: Callable[[str], None]) -> list[Finding]:
    """Look at everything that `unet` needs.

    Args:
        device: "auto", or the device that must work.
        trains: Whether to train a small network.
        say: Takes a line on what is being done.
    """
    code = Path(unetcli.__file__).parent
    about = check_unet(unetcli.__version__, code)
    machine = check_machine(os.environ)
    try:
        packages = read_packages(*needs(code))
    except ModuleNotFoundError as error:  # of `packaging` itself
        return [
            about,
            Finding("packages", "problem", str(error), f"{sys.executable} -m pip install packaging"),
            *machine,
        ]
    say("importing the packages ...")
    names = [name for name in packages.installed if name in packages.required and name != "mindspore"]
    ends = import_each([packages.module(name) for name in names])
    failures = {name: ends[packages.module(name)] for name in names}
    folder = mindspore_folder()
    child = Child((), "it is not installed")
    if folder:
        say(f"importing MindSpore{', and training a small network for about 2 s' if trains else ''} ...")
        child = prove_mindspore(device, trains=trains, seconds=_TRAIN_SECONDS if trains else _LOOK_SECONDS)
    return [
        about,
        check_python(packages.python),
        check_mindspore(packages, folder, child),
        *check_packages(packages, failures),
        check_runtimes(packages),
        *check_all_devices(device, child, Place(mindspore=folder)),
        *machine,
        check_training(child, device, trains=trains),
    ]


def needs(code: Path) -> tuple[list[str], str]:
    """What `unet` asks for: packages, and versions of Python.

    As its metadata say; where these are of another version than the code, or there are none, as the `pyproject.toml`
    beside the code says, from which they are made.

    Args:
        code: The folder of the package.
    """
    try:
        facts = metadata.metadata("unetcli")
    except metadata.PackageNotFoundError:
        facts = None
    project = code.parent / "pyproject.toml"
    if project.is_file() and (facts is None or facts["Version"] != unetcli.__version__):
        table = tomllib.loads(project.read_text("utf-8"))["project"]
        extra = [f"{line}; extra == 'cpu'" for line in table.get("optional-dependencies", {}).get("cpu", [])]
        return [*table["dependencies"], *extra], table["requires-python"]
    if facts is None:
        return ["mindspore", "numpy", "opencv-python-headless"], ""
    return list(facts.get_all("Requires-Dist") or ()), "".join(facts.get_all("Requires-Python") or ())


def check_all_devices(wanted: str, child: Child, place: Place) -> list[Finding]:
    """The devices that MindSpore reaches, and what there is of those that it may not.

    Args:
        wanted: "auto" or a device.
        child: The trial.
        place: Where to look.
    """
    told = child.event("devices") or {"available": [], "reason": "", "fitting_cann": []}
    signs: dict[Accelerator, Signs] = {device: look_for(device, place) for device in ACCELERATORS}
    steps = {device: found.next_step() for device, found in signs.items()}
    return [
        check_devices(wanted, child, steps),
        *(
            check_accelerator(
                found,
                is_reached=device in told["available"],
                is_wanted=device == wanted,
                reason=reason_for(device, told["reason"]),
                fitting=told["fitting_cann"] if device == "Ascend" else (),
            )
            for device, found in signs.items()
        ),
    ]


def check_machine(environ: Mapping[str, str]) -> list[Finding]:
    """Processors, threads, memory, disks, and MindSpore's launcher.

    Args:
        environ: The environment variables.
    """
    processor, limits = read_processor(), read_limits()
    return [
        check_processor(processor, limits),
        check_units(processor, environ),
        check_threads(processor, environ),
        check_memory(limits),
        check_disk(Path.cwd(), cache_folder("graphs")),
        check_msrun(environ),
    ]
