"""How MindSpore must find its process, at which it looks but once, and where things may be kept for the next one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prepare_process() -> None:
    """Let MindSpore show its errors but not its log, where the user has not said otherwise; before its import."""
    os.environ.setdefault("GLOG_v", "3")


def hold_instructions() -> None:
    """Keep MindSpore to AVX2, where the user has not said otherwise; before its first computation.

    On processors with AVX-512, oneDNN 3.10 as MindSpore 2.10 calls it falls back to reference code for most
    convolutions, about forty times slower. Only where MindSpore computes, since OpenVINO reads the same variable and
    would lose a fifth of its speed.
    """
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


def asked_threads() -> int | None:
    """Threads that the user, or a launcher of several processes, allows; None where nothing is said.

    OpenMP reads `OMP_NUM_THREADS` itself; OpenVINO and ONNX Runtime must be told. MindSpore has threads of its own.
    """
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None


def cache_folder(name: str) -> Path | None:
    """Where to keep, for this user, what can be made again; None for a user without a home.

    `unet/NAME` in `XDG_CACHE_HOME` or `~/.cache` (freedesktop.org, XDG Base Directory 0.8), on macOS in
    `~/Library/Caches`, on Windows in `LOCALAPPDATA`. It need not be there yet, nor may it be writable.
    """
    given = os.environ.get({"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME"), "")
    standard = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
    try:
        base = Path(given) if Path(given).is_absolute() else Path.home() / standard
    except RuntimeError:
        return None
    return base / "unet" / name
