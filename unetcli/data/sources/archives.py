"""Published ZIP archives, read member by member without unpacking the whole, and never outside the place given."""

from __future__ import annotations

import contextlib
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from unetcli.errors import DataError

CHUNK = 1 << 20
LARGEST_HEADER = 1 << 20
_AGAIN = "download the archive again"


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Args:
        name: Its path in the archive.
        size: Bytes when unpacked, as the archive's directory says.
        checksum: CRC-32 of its content, as the directory says.
    """

    name: str
    size: int
    checksum: int

    @property
    def path(self) -> PurePosixPath:
        """Its name as a path."""
        return PurePosixPath(self.name)


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A volume in an archive: the member to open, and those that must lie beside it.

    Args:
        archive: The ZIP file.
        main: The member to open, such as a `.mhd`.
        others: What it needs, such as its `.raw`.
    """

    archive: Path
    main: Member
    others: tuple[Member, ...] = ()

    def __str__(self) -> str:
        return f"{self.archive}/{self.main.name}"


FileSource = Path | ArchivedFile
"""Where a volume comes from."""


def list_members(archive: Path) -> tuple[Member, ...]:
    """The files of an archive, in its order; nothing is unpacked.

    Raises:
        DataError: If it cannot be read, is no ZIP, or has a member that is encrypted, a link, of a name that leads
            out of the target, or there twice.
    """
    members: dict[str, Member] = {}
    with _opened(archive) as opened:
        for info in opened.infolist():
            _check_member(archive, info)
            if info.is_dir():
                continue
            if info.filename in members:
                raise DataError(f"{archive}: holds {info.filename} twice", hint=_AGAIN)
            members[info.filename] = Member(info.filename, info.file_size, info.CRC)
    return tuple(members.values())


def _check_member(archive: Path, info: zipfile.ZipInfo) -> None:
    name = info.filename
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.is_absolute() or windows.drive or ".." in windows.parts or "\0" in name:
        raise DataError(
            f"{archive}: the member {name!r} would be written outside the target",
            hint="the archive is not one that was published; do not use it",
        )
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(f"{archive}: the member {name} is a link, which is not followed", hint=_AGAIN)
    if info.flag_bits & 1:
        raise DataError(f"{archive}: the member {name} is encrypted", hint="unpack it yourself, and name the folder")


def unpacked_size(source: FileSource) -> int:
    """Bytes that `located` unpacks; 0 for a file."""
    return 0 if isinstance(source, Path) else sum(member.size for member in (source.main, *source.others))


@contextlib.contextmanager
def located(source: FileSource, folder: Path) -> Generator[Path]:
    """A path to open: the file itself, or a member that is unpacked into `folder` and removed afterwards.

    Raises:
        DataError: If a member is damaged, or larger or smaller than the archive's directory says.
    """
    if isinstance(source, Path):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=folder) as temporary, _named_after(source, temporary):
        with _opened(source.archive) as opened:
            for member in (source.main, *source.others):
                _unpack(opened, source.archive, member, Path(temporary) / member.path.name)
        yield Path(temporary) / source.main.path.name


@contextlib.contextmanager
def outlined(source: FileSource) -> Generator[Path]:
    """The same to read the header only: the members beside the main one have their size, but no content.

    The stand-ins are sparse files, so that the headers of a large archive cost neither time nor space.

    Raises:
        DataError: As `located`.
    """
    if isinstance(source, Path):
        yield source
        return
    if source.main.size > LARGEST_HEADER:
        raise DataError(f"{source}: has {source.main.size} bytes, which is too much for a header", hint=_AGAIN)
    with tempfile.TemporaryDirectory(prefix="unet-") as temporary, _named_after(source, temporary):
        with _opened(source.archive) as opened:
            _unpack(opened, source.archive, source.main, Path(temporary) / source.main.path.name)
        for member in source.others:
            with (Path(temporary) / member.path.name).open("wb") as file:
                file.truncate(member.size)
        yield Path(temporary) / source.main.path.name


@contextlib.contextmanager
def _named_after(source: ArchivedFile, temporary: str) -> Generator[None]:
    """Let errors name the archive, and not the place where its members lie meanwhile."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace(temporary, str(source.archive)), hint=error.hint) from error


def _unpack(opened: zipfile.ZipFile, archive: Path, member: Member, target: Path) -> None:
    """Write one member, counting its bytes; its checksum is compared at its end."""
    remaining = member.size
    try:
        with opened.open(member.name) as content, target.open("wb") as file:
            while chunk := content.read(CHUNK):
                remaining -= len(chunk)
                if remaining < 0:
                    break
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
        raise DataError(f"{archive}: {member.name} is damaged ({error})", hint=_AGAIN) from error
    if remaining:
        raise DataError(
            f"{archive}: {member.name} has {'more' if remaining < 0 else 'fewer'} than the {member.size} bytes "
            "that the archive's directory says",
            hint=_AGAIN,
        )


@contextlib.contextmanager
def _opened(archive: Path) -> Generator[zipfile.ZipFile]:
    try:
        opened = zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{archive}: cannot be read as a ZIP archive ({error})", hint=_AGAIN) from error
    with opened:
        yield opened
