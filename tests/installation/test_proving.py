"""What is made of the trial of MindSpore, from what a trial may say."""

from __future__ import annotations

from importlib import metadata

import pytest

from unetcli.installation.accelerators import Place
from unetcli.installation.examining import check_all_devices
from unetcli.installation.probing import Child
from unetcli.installation.proving import check_devices, check_mindspore, check_training
from unetcli.installation.versions import read_packages

IMPORTED = {"event": "imported", "version": "2.10.0", "seconds": 2.04}
DEVICES = {"event": "devices", "available": ["CPU"], "reason": "", "fitting_cann": ["9.0"]}
TRAINED = {
    "event": "trained",
    "device": "CPU",
    "losses": [0.8, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1],
    "batch_size": 4,
    "patch": 96,
    "start_seconds": 0.5,
    "compile_seconds": 3.0,
    "step_seconds": 0.05,
}
SUFFIX = ".cpython-311-x86_64-linux-gnu.so"


def packages_with(mindspore):
    def version_of(name):
        if name != "mindspore" or mindspore is None:
            raise metadata.PackageNotFoundError(name)
        return mindspore

    return read_packages(["mindspore<2.11,>=2.10"], "", version_of)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / f"_c_expression{SUFFIX}").touch()
    return tmp_path


def test_a_mindspore_that_works_is_told_with_its_time(folder):
    finding = check_mindspore(packages_with("2.10.0"), folder, Child((IMPORTED,)))
    assert (finding.name, finding.status, finding.found) == ("mindspore", "ok", "2.10.0, imported in 2.0 s")
    assert finding.facts["import_seconds"] == 2.04


def test_a_mindspore_that_is_missing_is_told_with_the_wheels_that_there_are():
    finding = check_mindspore(packages_with(None), None, Child((), "it is not installed"))
    assert finding.status == "problem"
    assert finding.found.startswith("not installed; MindSpore 2.10 has wheels")
    assert finding.next_step.endswith("pip install 'mindspore<2.11,>=2.10'")
    assert "Python 3.10 to 3.12" in finding.found


def test_a_mindspore_of_another_version_is_a_problem_though_it_can_be_imported(folder):
    finding = check_mindspore(packages_with("2.6.0"), folder, Child((IMPORTED,)))
    assert (finding.status, finding.found) == ("problem", "2.6.0, but unet needs <2.11,>=2.10")


def test_a_version_that_does_not_fit_is_the_first_thing_to_mend(folder):
    child = Child((), "ImportError: libgomp.so.1: cannot open shared object file")
    finding = check_mindspore(packages_with("2.6.0"), folder, child, suffix=SUFFIX)
    assert finding.found == "2.6.0, but unet needs <2.11,>=2.10"
    assert finding.next_step.endswith("pip install 'mindspore<2.11,>=2.10'")


def test_a_wheel_for_another_python_is_told_as_that(folder):
    child = Child((), "ImportError: cannot import name 'x'")
    finding = check_mindspore(packages_with("2.10.0"), folder, child, suffix=".cpython-312-aarch64-linux-gnu.so")
    assert finding.status == "problem"
    assert f"its files are made for {SUFFIX}" in finding.found
    assert "--force-reinstall" in finding.next_step


@pytest.mark.parametrize(
    ("failure", "step"),
    [
        ("ImportError: libgomp.so.1: cannot open shared object file", "libgomp1"),
        ("ImportError: /lib64/libc.so.6: version `GLIBC_2.34' not found", "older than the wheel needs"),
        ("it was ended by SIGILL (an instruction that this processor does not have)", "another machine"),
        ("it had not ended after 180 s", "slow or shared disk"),
        ("ImportError: numpy.core.multiarray failed to import", "--force-reinstall"),
        ("it was ended by SIGSEGV (a crash in its libraries)", "--force-reinstall"),
    ],
)
def test_a_failed_import_has_a_next_step_by_its_reason(folder, failure, step):
    finding = check_mindspore(packages_with("2.10.0"), folder, Child((), failure), suffix=SUFFIX)
    assert finding.status == "problem"
    assert finding.found == f"2.10.0, but its import fails: {failure} (in {folder})"
    assert step in finding.next_step


@pytest.mark.parametrize(
    ("events", "wanted", "status", "says"),
    [
        ((), "auto", "problem", "MindSpore cannot be imported"),
        ((IMPORTED,), "auto", "problem", "unet's engine cannot be loaded: no pydantic"),
        ((IMPORTED, DEVICES), "auto", "ok", "--device auto takes CPU"),
        ((IMPORTED, DEVICES), "CPU", "ok", "CPU"),
        ((IMPORTED, DEVICES), "Ascend", "problem", "CPU, but not Ascend"),
    ],
)
def test_the_device_asked_for_must_be_among_those_that_mindspore_reaches(events, wanted, status, says):
    finding = check_devices(wanted, Child(events, "no pydantic"), {"Ascend": "source set_env.sh"})
    assert (finding.status, says in finding.found) == (status, True)
    assert (finding.next_step == "source set_env.sh") == (wanted == "Ascend")


def test_devices_and_what_is_there_of_each_go_together(tmp_path):
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "davinci_manager").touch()
    place = Place(tmp_path, {}, None)
    found = {finding.name: finding.status for finding in check_all_devices("auto", Child((IMPORTED, DEVICES)), place)}
    assert found == {"devices": "ok", "ascend": "warning", "gpu": "ok"}
    found = {finding.name: finding.status for finding in check_all_devices("GPU", Child(()), place)}
    assert found == {"devices": "problem", "ascend": "warning", "gpu": "problem"}


def test_a_training_that_learns_is_told_with_its_speed():
    finding = check_training(Child((IMPORTED, DEVICES, TRAINED)), "auto", trains=True)
    assert finding.status == "ok"
    assert finding.found == (
        "on CPU: loss 0.800 to 0.100 in 7 steps of 50 ms (80 patches of 96 x 96 px a second), after 3.5 s to begin"
    )
    assert finding.facts["step_seconds"] == 0.05


@pytest.mark.parametrize(
    ("events", "failure", "wanted", "says"),
    [
        ((), "", "auto", "not tried without MindSpore"),
        ((IMPORTED, DEVICES), "", "Ascend", "not tried without Ascend"),
        ((IMPORTED, DEVICES), "it had not ended after 600 s", "auto", "ended before it was done: it had not ended"),
        (
            (IMPORTED, DEVICES, {"event": "refused", "error": "the loss is nan", "hint": ""}),
            "",
            "CPU",
            "the loss is nan",
        ),
        ((IMPORTED, DEVICES, TRAINED | {"losses": [0.8] * 7}), "", "auto", "the loss does not fall as it must"),
        ((IMPORTED, DEVICES, TRAINED | {"losses": [0.8, float("nan")]}), "", "auto", "the loss does not fall"),
    ],
)
def test_a_training_that_does_not_learn_is_a_problem(events, failure, wanted, says):
    finding = check_training(Child(events, failure), wanted, trains=True)
    assert finding.status == "problem"
    assert says in finding.found


def test_a_training_that_is_not_asked_for_is_no_problem():
    finding = check_training(Child((IMPORTED, DEVICES)), "auto", trains=False)
    assert (finding.status, finding.found) == ("ok", "not tried")
