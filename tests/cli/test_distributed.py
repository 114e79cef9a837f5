"""The real command in two processes: what one computes, whatever happens to one of them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import time
from pathlib import Path

import mindspore
import numpy as np
import psutil
import pytest
from processes import SAMPLE, Unet

SETTINGS = """
model: {{base_channels: 4, depth: 3, dropout: 0.3}}
data: {{patch_size: [64, 64]}}
train: {{steps_per_epoch: 5, epochs: 4, batch_size: {batch_size}, validate_every: 2}}
augmentation: {{affine_probability: 0.9, elastic_probability: 0.9, intensity_probability: 0.9}}
"""


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    unet = Unet(tmp_path_factory.mktemp("distributed"))
    for batch_size in (2, 4):
        (unet.folder / f"of{batch_size}.yaml").write_text(SETTINGS.format(batch_size=batch_size), "utf-8")
    unet("prepare", "isbi", SAMPLE, "--output", "data")
    return unet


def train(name: str, *more: object, batch_size: int = 2) -> list[object]:
    return ["train", "data", "--config", f"of{batch_size}.yaml", "--output", name, *more]


@pytest.fixture(scope="module")
def straight(unet):
    """A run in two processes that nothing has disturbed, and what the command has said."""
    done = unet(*train("straight", "--distribute", "2", "--json"))
    return unet.folder / "straight", done


def weights(run: Path, names: str = "") -> dict[str, np.ndarray]:
    tensors = mindspore.load_checkpoint(str(run / "last.ckpt"))
    return {name: each.asnumpy() for name, each in tensors.items() if name.startswith(names) and name != "unet_facts"}


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
    return [event["loss"] for event in events if event["event"] == "step"]


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_processes_train_what_one_does_with_their_patches(unet, straight):
    run, done = straight
    unet(*train("alone", batch_size=4))
    alone = unet.folder / "alone"
    np.testing.assert_allclose(losses(run), losses(alone), rtol=1e-5)
    of_network = {name: values for name, values in weights(run).items() if "moment" not in name}
    assert_close(of_network, {name: values for name, values in weights(alone).items() if "moment" not in name})
    assert json.loads(done.out)["outcome"] == "finished"
    assert "processes: 2" in done.err
    assert {path.name for path in (run / "logs").iterdir()} == {
        *("launcher.log", "scheduler.log", "worker_0.log", "worker_1.log")
    }


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(unet, straight):
    begun = "interrupted"
    done = unet.signalled(
        *train(begun, "--distribute", "2"),
        metrics=unet.folder / begun / "metrics.jsonl",
        line=7,
        number=signal.SIGINT,
    )
    assert "interrupted after" in done.err
    shutil.copytree(unet.folder / begun, unet.folder / "killed")
    unet("train", "--resume", begun, "--distribute", "2")
    expected = weights(straight[0])
    found = weights(unet.folder / begun)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(values, found[name], err_msg=name)


def test_a_process_that_is_killed_ends_the_command_and_one_alone_goes_on(unet, straight):
    run = unet.folder / "killed"
    before = len(losses(run))
    process = unet.start("train", "--resume", run, "--distribute", "2")
    until = time.monotonic() + 150
    while len(losses(run)) <= before and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    (victim,) = [
        each.pid
        for each in psutil.Process(process.pid).children(recursive=True)
        if _environ(each).get("MS_NODE_ID") == "1" and _environ(each)["MS_ROLE"] == "MS_WORKER"
    ]
    os.kill(victim, signal.SIGKILL)
    killed = time.monotonic()
    _, err = process.communicate(timeout=150)
    assert time.monotonic() - killed < 30, err
    assert process.returncode == 5
    assert "error: worker_1 of 2 was killed" in err
    unet("train", "--resume", run)
    assert len(losses(run)) == 20
    of_network = {name: values for name, values in weights(run).items() if "moment" not in name}
    assert_close(of_network, {name: values for name, values in weights(straight[0]).items() if "moment" not in name})


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return {}


def test_two_processes_measure_what_one_does(unet, straight):
    run = straight[0]
    folder = run / "evaluation" / "validation-best"
    unet("eval", "--run", run)
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    done = unet("eval", "--run", run, "--distribute", "2", "--json")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
    assert json.loads(done.out)["num_cases"] == 2


def test_two_processes_write_the_masks_of_one(unet, straight):
    images = [SAMPLE / "test-volume.tif", SAMPLE / "train-volume.tif", SAMPLE / "train-labels.tif"]
    unet("predict", *images, "--run", straight[0], "--output", "alone-masks")
    done = unet("predict", *images, "--run", straight[0], "--output", "shared-masks", "--distribute", "2", "--json")
    assert [entry["image"] for entry in json.loads(done.out)["done"]] == [str(image) for image in images]
    assert done.err.count(f"run: {straight[0]}") == 1
    for image in images:
        masks = [(unet.folder / folder / image.name).read_bytes() for folder in ("alone-masks", "shared-masks")]
        assert masks[0] == masks[1]


def test_a_file_that_cannot_be_read_is_told_of_once_however_many_processes_there_are(unet, straight):
    (unet.folder / "bad.tif").write_bytes(b"no image")
    images = [SAMPLE / "test-volume.tif", "bad.tif"]
    err = unet("predict", *images, "--run", straight[0], "--output", "one-bad", "--distribute", "2", code=6).err
    assert err.count("error: bad.tif: must be TIF, PNG or JPEG, but begins with 'no image'") == 1


def test_a_processor_is_one_device_so_that_a_number_must_be_given(unet):
    err = unet.refuses(*train("refused", "--distribute"), code=2)
    assert "write --distribute 2" in err
    assert not (unet.folder / "refused").exists()


def test_patches_that_cannot_be_shared_out_are_refused_before_a_run_is_made(unet, straight):
    err = unet.refuses("train", "--resume", straight[0], "--distribute", "3", code=2)
    assert "4 patches of a batch cannot be shared out to 3 processes" in err


def test_options_of_several_processes_mean_nothing_for_one(unet):
    assert "only with --distribute" in unet.refuses(*train("refused", "--nodes", "2"), code=2)


def test_a_run_that_is_trained_is_neither_taken_up_nor_replaced(unet, straight):
    with (straight[0] / "run.json").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for more in ([], ["--distribute", "2"]):
            assert "another process trains this run" in unet.refuses("train", "--resume", straight[0], *more, code=4)
        err = unet.refuses(*train("straight", "--overwrite"), code=4)
    assert "another process trains this run" in err
    assert (straight[0] / "last.ckpt").is_file()


def test_a_port_that_is_taken_is_told_before_a_run_is_made(unet):
    with socket.create_server(("127.0.0.1", 0)) as server:
        master = f"127.0.0.1:{server.getsockname()[1]}"
        err = unet.refuses(*train("refused", "--distribute", "2", "--master", master), code=2)
    assert f"--master {master}: cannot be opened on this machine" in err
    assert not (unet.folder / "refused").exists()


@pytest.mark.parametrize("text", ["0", "00"])
def test_no_process_is_no_number_of_processes(unet, text):
    assert f"'{text}' is no number of processes" in unet.refuses(*train("refused", "--distribute", text), code=2)
