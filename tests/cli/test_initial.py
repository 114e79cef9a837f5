"""`unet train --init-from`: what is taken over, what is refused, and that a run which begins so can be taken up."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from processes import STEPS_PER_EPOCH, contents, tensors

EPOCHS = 2
OTHER = ("train", "--config", "small.yaml", "--init-from")


@pytest.fixture(scope="module")
def begun(workshop, tmp_path_factory):
    """A run that began with the weights of another, and one that was killed at once and taken up."""
    unet, folder = workshop.unet, tmp_path_factory.mktemp("begun")
    straight, killed = folder / "straight", folder / "killed"
    options = (*OTHER, workshop.run, "--filter-weight", "head", "--epochs", EPOCHS, "--seed", 7)
    said = unet(*options, "-o", straight).err
    unet.signalled(
        *options, "-o", killed, metrics=killed / "metrics.jsonl", line=STEPS_PER_EPOCH - 2, number=signal.SIGKILL
    )
    assert not (killed / "last.ckpt").exists()
    unet("train", "--resume", killed)
    return straight, killed, said


def weights(checkpoint) -> dict[str, object]:
    return {name: tensor for name, tensor in tensors(checkpoint).items() if isinstance(tensor, tuple)}


def test_a_run_begins_with_the_weights_of_another_but_for_those_that_are_filtered(workshop, begun):
    source, initial = weights(workshop.run / "best.ckpt"), weights(begun[0] / "init.ckpt")
    assert source.keys() == initial.keys()
    anew = {name for name in source if source[name] != initial[name]}
    assert anew == {"head.weight", "head.bias", "dropout.1.calls", "dropout.2.calls"}


def test_it_says_what_it_takes_over_and_the_run_remembers(workshop, begun):
    straight, _, said = begun
    checkpoint = workshop.run / "best.ckpt"
    total = len(weights(checkpoint)) - 2  # the counters of dropout
    assert f"first weights: {total - 2} of {total} parameters from {checkpoint} (a run)\n" in said
    assert "begin anew: head.weight, head.bias\n" in said
    initial = json.loads((straight / "run.json").read_text())["initial"]
    assert initial["path"] == str(checkpoint)
    assert len(initial["sha256"]) == 64
    assert initial["filters"] == ["head"]
    assert initial["left_out"] == ["head.weight", "head.bias"]


def test_one_that_was_killed_in_its_first_epoch_ends_as_one_that_was_not(begun):
    straight, killed, _ = begun
    for name in ("init.ckpt", "last.ckpt", "best.ckpt"):
        assert tensors(straight / name) == tensors(killed / name)


def test_a_run_that_has_lost_its_first_weights_is_not_begun_with_others(workshop, begun, tmp_path):
    run = shutil.copytree(begun[0], tmp_path / "run")
    for name in ("last.ckpt", "metrics.jsonl", "init.ckpt"):
        (run / name).unlink()
    before = contents(run)
    err = workshop.unet.refuses("train", "--resume", run, code=4)
    assert f"{run}/init.ckpt: is missing, though training is to begin from it" in err
    assert f"--init-from {workshop.run}/best.ckpt" in err
    assert contents(run) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("--init-from nowhere", 4, "--init-from nowhere: no such run or checkpoint"),
        ("--init-from datasets", 4, "datasets: not a run folder"),
        ("--init-from small.yaml", 4, "must be a run folder or a .ckpt file, found a name that ends in '.yaml'"),
        ("--filter-weight head", 2, "--filter-weight: only with --init-from"),
        ("--init-from RUN --filter-weight=", 2, "--filter-weight: is empty"),
        ("--init-from RUN --filter-weight outc", 2, "--filter-weight outc: no parameter has that in its name"),
        (
            "--init-from RUN --set model.base_channels=8",
            4,
            "has 4 channels at the finest level, and this network has 8",
        ),
        ("--init-from RUN --set model.depth=4", 4, "to begin these anew, add --filter-weight decoder"),
        ("--init-from RUN --resume RUN", 2, "--resume: --init-from cannot change in a run that is taken up"),
    ],
)
def test_what_cannot_be_taken_over_is_refused_and_makes_no_run(workshop, arguments, code, says):
    before = {path.name for path in (workshop.folder / "runs").iterdir()}
    settings = [] if "--resume" in arguments else ["--config", "small.yaml"]
    arguments = arguments.replace("RUN", "runs/isbi-custom-fold0").split()
    assert says in workshop.unet.refuses("train", *settings, *arguments, code=code)
    assert {path.name for path in (workshop.folder / "runs").iterdir()} == before


def test_weights_that_a_file_of_the_zoo_asks_for_are_warned_of_unless_there_are_others(workshop, tmp_path):
    file = tmp_path / "zoo.yaml"
    file.write_text("model_name: unet_simple\nresume: True\nresume_ckpt: a.ckpt\nimage_size: [64, 64]\n")
    call = ("train", "--config", file, "--set", "train.select_by=x")
    warned, silent = (
        workshop.unet.refuses(*call, *more, code=2) for more in ((), ("--init-from", workshop.run / "best.ckpt"))
    )
    warning = f"warning: {file} asks for the weights of another training, which are not loaded; add --init-from a.ckpt"
    assert f"\n{warning}, or go on with a whole run by --resume RUN\nerror: train.select_by" in warned
    assert "warning: " not in silent
