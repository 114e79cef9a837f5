"""Large files: the same bytes whether or not the system's cache is gone past."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.data.formats import large_files
from unetcli.data.formats.large_files import write_bytes


@pytest.fixture(autouse=True)
def _small_is_large(monkeypatch):
    monkeypatch.setattr(large_files, "LARGE", 1)
    monkeypatch.setattr(large_files, "BUFFER", 8192)


@pytest.mark.parametrize(
    "sizes", [(1,), (4096,), (8192,), (8193,), (352, 20_000), (352, 8192 - 352), (0, 5, 0, 16384, 7), (100_001,)]
)
def test_all_bytes_arrive_in_order(tmp_path, sizes):
    parts = [os.urandom(size) for size in sizes]
    (tmp_path / "a").write_bytes(b"what was there before" * 10_000)
    write_bytes(tmp_path / "a", [memoryview(part) for part in parts])
    assert (tmp_path / "a").read_bytes() == b"".join(parts)


@given(st.lists(st.integers(0, 300), max_size=6))
def test_the_buffer_is_filled_to_the_last_byte_but_for_the_last_time(sizes):
    parts = [bytes([index + 1]) * size for index, size in enumerate(sizes)]
    buffer = memoryview(bytearray(64))
    found = [bytes(buffer[:used]) for used in large_files._filled(buffer, parts)]
    assert b"".join(found) == b"".join(parts)
    assert all(len(piece) == 64 for piece in found[:-1])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_such_a_way_is_written_to_as_any(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(large_files, "_write_direct", refuse)
    write_bytes(tmp_path / "a", [b"x" * 9000])
    assert (tmp_path / "a").read_bytes() == b"x" * 9000


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(large_files.os, "write", lambda *_: 4096)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(tmp_path / "a", [bytes(8192)])
    assert caught.value.errno == errno.ENOSPC
