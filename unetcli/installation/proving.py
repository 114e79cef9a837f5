"""What the trial of MindSpore says: whether it can be imported, which devices it reaches, and whether it trains."""

from __future__ import annotations

import platform
import re
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unetcli.installation.findings import Finding
from unetcli.installation.probing import Child
from unetcli.installation.versions import Packages, check_package

WHEELS = (
    "MindSpore 2.10 has wheels for Python 3.10 to 3.12 on Linux with x86-64, macOS and Windows; for Linux on ARM, as "
    "on many Ascend machines, see MindSpore's installation page"
)
_MUST_FALL_TO = 0.5
"""Of the first loss; a training that learns is far below."""
_LAST = 5
"""Steps whose mean is the loss at the end."""

_REMEDIES = (
    (r"libgomp", "install the system's library libgomp (apt-get install libgomp1, or dnf install libgomp)"),
    (r"static TLS", "start with LD_PRELOAD=libgomp.so.1 in the environment"),
    (r"GLIBC(XX)?_\d", "this system is older than the wheel needs; take a newer one, or a container with it"),
    (r"libGL\.so", "pip uninstall opencv-python, whose other form opencv-python-headless needs no libGL"),
    (r"numpy|_ARRAY_API|multiarray", ""),  # the line of pip, which names NumPy
    (r"SIGILL", "this processor lacks instructions that MindSpore is built with; take another machine"),
    (r"SIGKILL", "free memory, or give the container more"),
    (r"had not ended", "try again, since a slow or shared disk takes long at the first import; else install it again"),
)
"""What the reason of a failed import looks like, and what helps."""


def mindspore_folder() -> Path | None:
    """Where `import mindspore` would find its package, without importing it."""
    try:
        spec = find_spec("mindspore")
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec and spec.origin else None


def check_mindspore(packages: Packages, folder: Path | None, child: Child, *, suffix: str | None = None) -> Finding:
    """Whether MindSpore is there, fits, is made for this Python, and can be imported.

    Args:
        packages: What is asked for and installed.
        folder: Of MindSpore's package.
        child: The trial.
        suffix: Of compiled modules of this Python; asked of Python if left out.
    """
    imported = child.event("imported")
    failure = "" if imported else child.failure or "it ended the process"
    if folder is None and packages.installed.get("mindspore"):
        failure = "pip knows it, but its files are not there"
    finding = check_package(packages, "mindspore", failure)
    facts = dict(finding.facts) | {
        "folder": str(folder) if folder else None,
        "import_seconds": imported["seconds"] if imported else None,
    }
    found, step = finding.found, finding.next_step
    suffix = suffix or str(sysconfig.get_config_var("EXT_SUFFIX"))
    made_for = _made_for(folder)
    if finding.status == "problem" and not packages.installed.get("mindspore"):
        found = f"{found}; {WHEELS}"
    elif failure and made_for and suffix not in made_for:
        python = f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}"
        made = f"its files are made for {', '.join(made_for)}; this is {python}"
        found = f"{packages.installed['mindspore']}, but {made}; {WHEELS}"
    elif failure and packages.fits("mindspore"):
        where = f" (in {folder})" if folder else ""
        found, step = found + where, _remedy(failure) or step
    elif finding.status == "ok" and imported:
        found = f"{found}, imported in {imported['seconds']:.1f} s"
        if imported["version"] != packages.installed["mindspore"]:
            found = f"{found}; what is imported calls itself {imported['version']}, in {folder}"
    return Finding(finding.name, finding.status, found, step, facts)


def check_devices(wanted: str, child: Child, next_steps: Mapping[str, str]) -> Finding:
    """Which devices MindSpore reaches, and whether that asked for is among them.

    Args:
        wanted: "auto" or a device.
        child: The trial.
        next_steps: What to do where a device is not reached.
    """
    told = child.event("devices")
    if child.event("imported") is None:
        return Finding("devices", "problem", "not known, since MindSpore cannot be imported", "mend MindSpore first")
    if told is None:
        found = f"not known, since unet's engine cannot be loaded: {child.failure}"
        return Finding("devices", "problem", found, "mend the packages above first")
    available: Sequence[str] = told["available"]
    facts = {"available": list(available), "wanted": wanted}
    if wanted == "auto":
        return Finding("devices", "ok", f"{', '.join(available)}; --device auto takes {available[0]}", facts=facts)
    if wanted not in available:
        step = next_steps.get(wanted, "")
        return Finding("devices", "problem", f"{', '.join(available)}, but not {wanted}", step, facts)
    return Finding("devices", "ok", ", ".join(available), facts=facts)


def check_training(child: Child, wanted: str, *, trains: bool) -> Finding:
    """Whether a small network learns, and how fast.

    Args:
        child: The trial.
        wanted: "auto" or a device.
        trains: Whether it was tried at all.
    """
    told, refused, devices = child.event("trained"), child.event("refused"), child.event("devices")
    if not trains:
        return Finding("training", "ok", "not tried", facts={"is_tried": False})
    if devices is None or (wanted != "auto" and wanted not in devices["available"]):
        lacking = "MindSpore" if devices is None else wanted
        return Finding("training", "problem", f"not tried without {lacking}", facts={"is_tried": False})
    if refused:
        return Finding("training", "problem", refused["error"], refused["hint"] or "", {"is_tried": True})
    device = devices["available"][0] if wanted == "auto" else wanted
    again = "run 'pip check' in this environment, and install MindSpore again"
    if device != "CPU":
        again = "try unet doctor --device CPU; if that works, the software of the device does not fit MindSpore"
    if told is None:
        found = f"ended before it was done: {child.failure}"
        return Finding("training", "problem", found, _remedy(child.failure) or again, {"is_tried": True})
    first, last = _ends(told["losses"])
    facts = {name: value for name, value in told.items() if name not in ("event", "losses")}
    facts |= {"is_tried": True, "num_steps": len(told["losses"]), "first_loss": first, "last_loss": last}
    rate = told["batch_size"] / told["step_seconds"]
    found = (
        f"on {told['device']}: loss {first:.3f} to {last:.3f} in {len(told['losses'])} steps of "
        f"{1000 * told['step_seconds']:.0f} ms ({rate:.0f} patches of {told['patch']} x {told['patch']} px a second), "
        f"after {told['start_seconds'] + told['compile_seconds']:.1f} s to begin"
    )
    if not last < _MUST_FALL_TO * first:  # also where one is not a number
        return Finding("training", "problem", f"{found}; the loss does not fall as it must", again, facts)
    return Finding("training", "ok", found, facts=facts)


def _ends(losses: Sequence[float]) -> tuple[float, float]:
    """The first loss, and the mean of the last."""
    last: Sequence[Any] = losses[-_LAST:]
    return losses[0], sum(last) / len(last)


def _made_for(folder: Path | None) -> list[str]:
    """The endings of the compiled modules in MindSpore's package."""
    if folder is None:
        return []
    return sorted(path.name.removeprefix("_c_expression") for path in folder.glob("_c_expression.*"))


def _remedy(failure: str) -> str:
    return next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, failure)), "")
