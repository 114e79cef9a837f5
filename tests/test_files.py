"""Files are whole or not there, also when the writer raises or is killed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from unetcli.errors import ConfigError, DataError
from unetcli.files import (
    refuse_existing,
    refuse_unwritable,
    replacing,
    replacing_folder,
    sha256,
    write_json,
    write_text,
)


@pytest.fixture
def umask_027():
    old = os.umask(0o027)
    yield
    os.umask(old)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def raise_in(manager, name):
    with manager as temporary:
        (temporary if name is None else temporary / name).write_text("half")
        raise RuntimeError("while writing")


def test_a_file_is_written_with_its_parents_and_nothing_is_left_beside_it(tmp_path):
    write_text(tmp_path / "a" / "b" / "note.txt", "ä\n")

    assert (tmp_path / "a" / "b" / "note.txt").read_bytes() == "ä\n".encode()
    assert names(tmp_path / "a" / "b") == ["note.txt"]


def test_a_place_that_cannot_be_written_is_refused_and_one_that_can_is_left_alone(tmp_path):
    (tmp_path / "file").touch()
    refuse_unwritable(tmp_path / "new" / "run")
    with pytest.raises(DataError, match=r"file/run: cannot be written \(Not a directory\)"):
        refuse_unwritable(tmp_path / "file" / "run")

    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_folder_in_which_nothing_can_be_made_is_found_without_a_file_in_it():
    with pytest.raises(DataError, match="cannot be written"):
        refuse_unwritable(Path("/proc/nowhere/run"))


def test_an_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".tif")

    assert path.read_text() == "new"
    assert names(tmp_path) == ["mask.tif"]


def test_a_writer_that_raises_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_text("old")

    with pytest.raises(RuntimeError, match="while writing"):
        raise_in(replacing(path), None)

    assert path.read_text() == "old"
    assert names(tmp_path) == ["mask.tif"]


def test_a_writer_that_raises_makes_no_file_where_there_was_none(tmp_path):
    with pytest.raises(RuntimeError, match="while writing"):
        raise_in(replacing(tmp_path / "mask.tif"), None)

    assert names(tmp_path) == []


@pytest.mark.parametrize("death", ["os._exit(9)", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.parametrize("what", ["replacing", "replacing_folder"])
def test_a_killed_writer_leaves_the_old_one_whole(tmp_path, death, what):
    path = tmp_path / "run"
    inner = path / "last.ckpt" if what == "replacing_folder" else path
    write_text(inner, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from unetcli import files\n"
        f"with files.{what}(Path(sys.argv[1])) as temporary:\n"
        "    inner = temporary / 'last.ckpt' if temporary.is_dir() else temporary\n"
        "    inner.write_text('half'); print(inner.read_text(), flush=True)\n"
        f"    {death}\n"
    )

    killed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, encoding="utf-8", check=False)

    assert (killed.returncode, killed.stdout) in ((9, "half\n"), (-9, "half\n"))
    assert inner.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["run"]


@pytest.mark.usefixtures("umask_027")
def test_files_and_folders_have_the_rights_that_the_umask_leaves(tmp_path):
    write_text(tmp_path / "a.txt", "")
    with replacing_folder(tmp_path / "run"):
        pass

    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o750
    assert os.umask(0o027) == 0o027


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "run"
    write_text(path / "old.txt", "old")

    with replacing_folder(path) as temporary:
        (temporary / "new.txt").write_text("new")
        assert names(path) == ["old.txt"]

    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["run"]


def test_a_folder_writer_that_raises_leaves_the_old_folder_and_no_other(tmp_path):
    path = tmp_path / "run"
    write_text(path / "old.txt", "old")

    with pytest.raises(RuntimeError, match="while writing"):
        raise_in(replacing_folder(path), "new.txt")

    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["run"]


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path):
    write_text(tmp_path / "disk" / "old.txt", "old")
    (tmp_path / "run").symlink_to(tmp_path / "disk")

    with replacing_folder(tmp_path / "run") as temporary:
        (temporary / "new.txt").write_text("new")

    assert names(tmp_path / "run") == ["new.txt"]
    assert names(tmp_path / "disk") == ["old.txt"]
    assert names(tmp_path) == ["disk", "run"]


def test_json_comes_back_and_reads_well(tmp_path):
    value = {"classes": ["Zellkörper", "µm"], "score": 0.5, "none": None}

    write_json(tmp_path / "a.json", value)

    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == value
    assert text.startswith('{\n  "classes": [\n    "Zellkörper"')
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_not_json_and_keeps_the_old_file(tmp_path, number):
    path = tmp_path / "a.json"
    write_json(path, 1)

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"score": number})

    assert path.read_text() == "1\n"
    assert names(tmp_path) == ["a.json"]


def test_what_is_there_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError) as caught:
        refuse_existing(tmp_path, overwrite=False)

    assert str(caught.value) == f"{tmp_path}: already exists"
    assert caught.value.exit_code == 2
    assert "--overwrite" in caught.value.hint


def test_nothing_is_refused_with_overwrite_or_where_nothing_is(tmp_path):
    refuse_existing(tmp_path, overwrite=True)
    refuse_existing(tmp_path / "new", overwrite=False)


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"\x00\xffabc")

    assert sha256(tmp_path / "a") == hashlib.sha256(b"\x00\xffabc").hexdigest()


def test_a_place_that_cannot_be_written_to_is_named_and_not_what_stands_for_it(tmp_path):
    (tmp_path / "file").touch()
    for block in (replacing, replacing_folder):
        with (
            pytest.raises(DataError, match=r"file/run\.json: cannot be written \(") as caught,
            block(tmp_path / "file" / "run.json"),
        ):
            pytest.fail("the block must not begin")
        assert "no file stands where a folder should" in caught.value.hint
