"""How MindSpore must find its process, at which it looks but once, and where things may be kept for the next one."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prepare_process() -> None:
    """Set what MindSpore reads from the environment, where the user has not.

    `GLOG_v` 3 shows its errors but not its log. `ONEDNN_MAX_CPU_ISA` AVX2 is for speed: on processors with
    AVX-512, oneDNN 3.10 as MindSpore 2.10 calls it falls back to reference code for most convolutions,
    about forty times slower.
    """
    os.environ.setdefault("GLOG_v", "3")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")


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
