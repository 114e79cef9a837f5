"""Which device there is, and the context that MindSpore computes in."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mindspore
from mindspore._c_expression import MSContext
from mindspore.device_context import ascend, gpu

from unetcli.errors import DeviceError
from unetcli.framework import hold_instructions
from unetcli.installation.accelerators import Accelerator, Place, look_for, reason_for

PREFERENCE = ("Ascend", "GPU", "CPU")
_CHOSEN: set[str] = set()
"""By this process."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where to compute.

    Args:
        device: "auto" or one of `PREFERENCE`.
        graphs: Folder that keeps compiled graphs for the next process; every process compiles its own if None.
    """

    device: str = "auto"
    graphs: Path | None = None


def available_devices() -> tuple[str, ...]:
    """The devices that MindSpore can reach here, the fastest first; takes under a millisecond."""
    probes = {
        "Ascend": ascend.is_available,
        "GPU": gpu.is_available,
        "CPU": lambda: True,
    }
    return tuple(name for name in PREFERENCE if probes[name]())


def count_devices(device: str) -> int:
    """How many there are, where the device is there; a CPU is one."""
    counts = {"Ascend": ascend.device_count, "GPU": gpu.device_count, "CPU": lambda: 1}
    return counts[device]()


def plugin_error() -> str:
    """What MindSpore says of its parts for devices that it could not load; empty if it says nothing."""
    return MSContext.get_instance().load_plugin_error()


def choose_device(wanted: str) -> str:
    """The device to use.

    Raises:
        DeviceError: If it is not there; says what is, and what to do.
    """
    available = available_devices()
    if wanted == "auto":
        return available[0]
    if wanted not in available:
        version = metadata.version("mindspore")
        kind: Accelerator = "Ascend" if wanted == "Ascend" else "GPU"
        signs = look_for(kind, Place(mindspore=Path(mindspore.__file__).parent))
        reason = reason_for(kind, plugin_error())
        raise DeviceError(
            f"--device {wanted}: not found; MindSpore {version} on this {platform.machine()} machine "
            f"finds {', '.join(available)}; of {wanted} there is: {signs.describe()}"
            + (f" ({reason})" if reason and signs.is_any else ""),
            hint=f"{signs.next_step()}; 'unet doctor --device {wanted}' says more; or use --device CPU",
        )
    return wanted


def set_up(device: str, *, seed: int) -> None:
    """Choose the device, compile whole graphs, and compute the same from the same seed."""
    hold_instructions()
    set_up_device(device)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    mindspore.set_seed(seed)
    # where a graph cannot be compiled MindSpore leaves its analysis there, by default in the working folder
    os.environ.setdefault("MS_OM_PATH", str(Path(tempfile.gettempdir()) / "unet-mindspore"))


def set_up_device(device: str, number: int = 0) -> None:
    """Choose the device, and which one of several.

    All of it belongs to the process; MindSpore does not let the device be set again, nor after its first computation.
    """
    if device in _CHOSEN:
        return
    if device != "CPU":
        mindspore.set_device(device, number)
    elif mindspore.get_current_device().device_target != device:
        mindspore.set_device(device)
    mindspore.set_deterministic(True)
    _CHOSEN.add(device)


@contextlib.contextmanager
def telling_of_memory() -> Generator[None]:
    """Turn what MindSpore raises where memory does not do into a `DeviceError` that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if "memory not enough" not in str(error).lower():
            raise
        raise DeviceError(
            "there is not enough memory to train this network on such a batch",
            hint="lower train.batch_size, data.patch_size or model.base_channels, with --set",
        ) from error
