from __future__ import annotations

from pathlib import Path

import pytest

from unetcli.framework import asked_threads, cache_folder


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/ada/.cache/unet/graphs"),
        ("linux", {"XDG_CACHE_HOME": "/scratch/ada"}, "/scratch/ada/unet/graphs"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/unet/graphs"),
        ("linux", {"XDG_CACHE_HOME": "beside"}, "/home/ada/.cache/unet/graphs"),  # the standard says: absolute only
        ("linux", {"LOCALAPPDATA": "/local"}, "/home/ada/.cache/unet/graphs"),
        ("darwin", {"XDG_CACHE_HOME": "/scratch/ada"}, "/home/ada/Library/Caches/unet/graphs"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/unet/graphs"),
        ("win32", {}, "/home/ada/AppData/Local/unet/graphs"),
    ],
)
def test_things_are_kept_where_the_system_has_its_caches(monkeypatch, platform, environment, expected):
    monkeypatch.setattr("unetcli.framework.sys.platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder("graphs") == Path(expected)


def test_a_user_without_a_home_keeps_nothing(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache_folder("graphs") is None


@pytest.mark.parametrize(("text", "expected"), [(None, None), ("3", 3), ("0", None), ("", None), ("4,2", None)])
def test_threads_are_those_that_are_asked_for(monkeypatch, text, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert asked_threads() == expected
