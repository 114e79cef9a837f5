"""Files that are whole or not there: everything is written beside its place and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from unetcli.errors import ConfigError, DataError


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """A temporary path in the folder of `path`, renamed into it when the block ends well.

    The temporary file keeps the suffix of `path`, so that writers which look at it choose the same
    format. If the block raises, it is removed and `path` stays as it was. Missing parents are created.
    """
    with _writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """The same for a folder: filled beside its place, then put there whole, in place of an old one."""
    with _writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    temporary.chmod(0o777 & ~_umask())
    try:
        yield temporary
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}-old-", dir=path.parent))
            path.replace(old / path.name)  # into it and not over it, since a link or a file cannot replace a folder
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _writing_to(path: Path) -> Generator[None]:
    """Name `path`, and not what stands for it meanwhile, where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror})",
            hint="check the disk, the permissions, and that no file stands where a folder should",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is refused, since it is not JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise `ConfigError` if `path` is there and may not be overwritten."""
    if path.exists() and not overwrite:
        raise ConfigError(f"{path}: already exists", hint="name another place, or add --overwrite to replace it")


def refuse_unwritable(path: Path) -> None:
    """Raise `DataError` if nothing could be written at `path`, by a file without a name in the folder that is there."""
    with _writing_to(path):
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
