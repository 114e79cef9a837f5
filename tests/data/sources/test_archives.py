"""ZIP archives: what is read of them, and what is refused before or while anything is written."""

from __future__ import annotations

import stat
import zipfile

import pytest

from unetcli.data.sources.archives import ArchivedFile, list_members, located, outlined, unpacked_size
from unetcli.errors import DataError


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "subset0.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("subset0/", "")
        opened.writestr("subset0/a.mhd", "header")
        opened.writestr("subset0/a.raw", bytes(1000))
    return path


def volume_of(archive):
    return ArchivedFile(archive, *_split(list_members(archive)))


def _split(members):
    return members[0], members[1:]


def test_members_are_listed_with_their_sizes_and_folders_left_out(archive):
    assert [(member.name, member.size) for member in list_members(archive)] == [
        ("subset0/a.mhd", 6),
        ("subset0/a.raw", 1000),
    ]
    assert unpacked_size(volume_of(archive)) == 1006
    assert unpacked_size(archive) == 0


def test_a_volume_is_unpacked_side_by_side_and_removed_afterwards(archive, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with located(volume_of(archive), work) as path:
        assert path.read_text() == "header"
        assert path.with_suffix(".raw").read_bytes() == bytes(1000)
        assert path.parent.parent == work
    assert list(work.iterdir()) == []
    with located(archive, work) as path:
        assert path == archive


def test_the_outline_has_the_sizes_but_not_the_content(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.mhd", "header")
        opened.writestr("a.raw", b"1" * 5000)
    with outlined(volume_of(archive)) as path:
        assert path.read_text() == "header"
        assert path.with_suffix(".raw").read_bytes() == bytes(5000)
    assert not path.exists()


@pytest.mark.parametrize(
    "name", ["../a.mhd", "/a.mhd", "subset0/../../a.mhd", "..\\a.mhd", "C:/a.mhd", "C:a.mhd", "\\\\host\\share\\a.mhd"]
)
def test_a_name_that_leads_outside_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(name, "x")
    with pytest.raises(DataError, match="would be written outside the target") as caught:
        list_members(tmp_path / "a.zip")
    assert str(tmp_path / "a.zip") in str(caught.value)


def test_a_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.mhd")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match=r"a\.mhd is a link"):
        list_members(tmp_path / "a.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("a.mhd", "x")
        opened.writestr("a.mhd", "y")
    with pytest.raises(DataError, match=r"holds a\.mhd twice"):
        list_members(tmp_path / "a.zip")


def test_an_encrypted_member_is_refused(archive):
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    content[content.index(b"PK\3\4") + 6] |= 1
    archive.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        list_members(archive)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"<html>not found</html>"])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: cannot be read as a ZIP archive"):
        list_members(tmp_path / "a.zip")


def test_a_damaged_member_is_refused_and_nothing_is_left(archive, tmp_path):
    volume = volume_of(archive)
    content = bytearray(archive.read_bytes())
    content[content.index(b"a.mhd") + len("a.mhd") + 2] ^= 0xFF
    archive.write_bytes(content)
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(DataError, match=r"subset0\.zip: subset0/a\.mhd is damaged"), located(volume, work):
        pass
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("size", [5, 7, 10**9])
def test_a_member_of_another_size_than_the_directory_says_is_refused(archive, tmp_path, size):
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    content[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    archive.write_bytes(content)
    volume = volume_of(archive)
    with pytest.raises(DataError, match=r"a\.mhd (is damaged|has)"), located(volume, tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["subset0.zip"]


def test_a_header_that_is_no_header_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("a.mhd", bytes(2 << 20))
    with pytest.raises(DataError, match="too much for a header"), outlined(volume_of(tmp_path / "a.zip")):
        pass


def test_errors_name_the_archive_and_not_where_it_is_unpacked(archive, tmp_path):
    with (
        pytest.raises(DataError, match=r"subset0\.zip/a\.mhd: is strange") as caught,
        located(volume_of(archive), tmp_path) as path,
    ):
        raise DataError(f"{path}: is strange", hint="look")
    assert caught.value.hint == "look"
