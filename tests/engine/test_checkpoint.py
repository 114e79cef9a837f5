from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import mindspore
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from unetcli.engine.checkpoint import read_checkpoint, restore, write_checkpoint
from unetcli.errors import RunError

FACTS = {"progress": {"step": 7, "best_score": 0.1 + 0.2}, "text": "größer"}


def cell_of(**arrays) -> nn.Cell:
    cell = nn.Cell()
    for name, values in arrays.items():
        cell.insert_param_to_cell(name, Parameter(Tensor(np.asarray(values)), name=name))
    return cell


@pytest.fixture
def cell(rng):
    return cell_of(
        kernel=rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        bias=np.array([1e-40, np.float32(0.1), -0.0, 3.4e38], np.float32),
        calls=np.array(2**31 - 1, np.int32),
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.ckpt"


def test_every_bit_comes_back(cell, path):
    write_checkpoint(path, cell, FACTS)
    tensors, facts = read_checkpoint(path)
    assert facts == FACTS | {"format": 1}
    assert set(tensors) == {"kernel", "bias", "calls"}
    for name, parameter in cell.parameters_dict().items():
        assert tensors[name].asnumpy().tobytes() == parameter.asnumpy().tobytes()
        assert tensors[name].dtype == parameter.dtype

    other = cell_of(**{name: np.zeros_like(p.asnumpy()) for name, p in cell.parameters_dict().items()})
    restore(other, tensors, path)
    for name, parameter in cell.parameters_dict().items():
        assert other.parameters_dict()[name].asnumpy().tobytes() == parameter.asnumpy().tobytes()


def test_a_checkpoint_replaces_the_old_one_and_leaves_nothing_else(cell, path):
    write_checkpoint(path, cell_of(other=np.zeros(1, np.float32)), FACTS)
    folder_mode = path.parent.stat().st_mode
    write_checkpoint(path, cell, FACTS)
    assert set(read_checkpoint(path)[0]) == {"kernel", "bias", "calls"}
    assert list(path.parent.iterdir()) == [path]
    assert path.parent.stat().st_mode == folder_mode


def test_a_checkpoint_has_the_permissions_of_any_new_file(cell, path):
    (path.parent / "any").touch()
    write_checkpoint(path, cell, FACTS)
    assert path.stat().st_mode == (path.parent / "any").stat().st_mode


def test_the_learning_rates_are_left_out_since_the_settings_give_them(cell, path):
    cell.insert_param_to_cell("learning_rate", Parameter(Tensor(np.ones(9, np.float32)), name="learning_rate"))
    write_checkpoint(path, cell, FACTS)
    tensors, _ = read_checkpoint(path)
    assert "learning_rate" not in tensors
    restore(cell, tensors, path)
    assert (cell.learning_rate.asnumpy() == 1).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("bias"), "it lacks bias"),
        (lambda t: t.update(extra=t["bias"]), "it has unknown extra"),
        (lambda t: t.update(bias=t["kernel"]), r"has another shape of bias \(4, 3, 3, 3\) for \(4,\)"),
        (lambda t: t.clear(), "it lacks bias, calls, kernel"),
        (lambda t: t.update({f"x{n}": t["bias"] for n in range(5)}), "unknown x0, x1, x2 and 2 more"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name_and_changes_nothing(cell, path, change, told):
    write_checkpoint(path, cell, FACTS)
    tensors, _ = read_checkpoint(path)
    change(tensors)
    cell.kernel.set_data(Tensor(np.zeros((4, 3, 3, 3), np.float32)))
    with pytest.raises(RunError, match=f"last.ckpt: does not belong to this network: .*{told}") as caught:
        restore(cell, tensors, path)
    assert caught.value.hint
    assert (cell.kernel.asnumpy() == 0).all()


def test_a_missing_checkpoint_is_told(path):
    with pytest.raises(RunError, match=r"last.ckpt: no such checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\x00" * 500, b"\x0a\x05" * 300], ids=["empty", "text", "0", "?"]
)
def test_a_file_that_is_no_checkpoint_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"last.ckpt: cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_a_truncated_checkpoint_is_refused_wherever_it_ends(cell, path):
    write_checkpoint(path, cell, FACTS)
    content = path.read_bytes()
    for length in (*range(1, len(content), 37), len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(RunError, match=r"last.ckpt: "):
            read_checkpoint(path)


def test_a_flipped_bit_is_noticed_wherever_it_is(cell, path):
    write_checkpoint(path, cell, FACTS)
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 11):
        content[place] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"last.ckpt: "):
            read_checkpoint(path)
        content[place] ^= 0x10


def test_a_checkpoint_of_other_software_is_refused(cell, path):
    mindspore.save_checkpoint(cell, str(path), crc_check=True)
    with pytest.raises(RunError, match="was not written by unet"):
        read_checkpoint(path)


def test_a_checkpoint_of_a_later_format_is_refused(cell, path):
    write_checkpoint(path, cell, FACTS | {"format": 2})
    with pytest.raises(RunError, match="is a checkpoint of format 2, and this unet reads format 1"):
        read_checkpoint(path)


def test_facts_that_json_cannot_hold_leave_the_old_file(cell, path):
    write_checkpoint(path, cell, FACTS)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_checkpoint(path, cell, {"score": np.float32(1)})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_written(cell, path, value):
    write_checkpoint(path, cell, FACTS)
    before = path.read_bytes()
    cell.bias.set_data(Tensor(np.array([1, 2, 3, value], np.float32)))
    with pytest.raises(RunError, match=r"last.ckpt: not written, since bias has values that are not finite"):
        write_checkpoint(path, cell, FACTS)
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_the_old_file_and_no_other(cell, path, monkeypatch):
    write_checkpoint(path, cell, FACTS)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mindspore.train.serialization._write_parameter_bytes_data", full)
    monkeypatch.setattr("mindspore.train.serialization._write_parameter_data", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, cell, FACTS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_process_killed_while_it_saves_leaves_the_old_file(path):
    code = f"""
        import os, signal
        from pathlib import Path
        from unetcli.framework import prepare_process
        prepare_process()
        import mindspore, numpy as np
        from mindspore import Parameter, Tensor, nn
        from unetcli.engine.checkpoint import write_checkpoint

        cell = nn.Cell()
        cell.insert_param_to_cell("w", Parameter(Tensor(np.zeros(9, np.float32)), name="w"))
        write_checkpoint(Path({str(path)!r}), cell, {{"n": 1}})
        os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # what MindSpore ends its writing with
        cell.w.set_data(Tensor(np.ones(9, np.float32)))
        write_checkpoint(Path({str(path)!r}), cell, {{"n": 2}})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=path.parent, check=False)
    assert done.returncode == -signal.SIGKILL
    tensors, facts = read_checkpoint(path)
    assert facts["n"] == 1
    assert (tensors["w"].asnumpy() == 0).all()


def test_weights_alone_are_a_third_of_what_adam_needs(start, tmp_path):
    engine = start(model__base_channels=16)
    engine.save(tmp_path / "best.ckpt", weights_only=True)
    engine._build_training(np.ones(4, np.float32))
    engine.save(tmp_path / "last.ckpt")
    sizes = [(tmp_path / name).stat().st_size for name in ("best.ckpt", "last.ckpt")]
    assert 0.3 < sizes[0] / sizes[1] < 0.4
    assert read_checkpoint(tmp_path / "best.ckpt")[1]["has_training"] is False
    assert read_checkpoint(tmp_path / "last.ckpt")[1]["has_training"] is True
    assert os.access(tmp_path / "last.ckpt", os.W_OK)
