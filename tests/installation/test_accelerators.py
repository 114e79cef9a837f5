"""Cards, drivers and software in file systems that are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unetcli.installation.accelerators import Place, check_accelerator, look_for, reason_for

CARD = {"vendor": "0x19e5", "class": "0x120000"}
GRAPHICS = {"vendor": "0x10de", "class": "0x030200"}
DRIVER = {"dev/davinci_manager": "", "dev/davinci0": "", "dev/davinci1": "", "dev/davinci_extra": ""}
CANN = {
    "usr/local/Ascend/ascend-toolkit/set_env.sh": "",
    "usr/local/Ascend/ascend-toolkit/latest/compiler/version.info": "Name=x\nVersion=8.5.0.1\n",
}
PLUGINS = {
    "mindspore/lib/plugin/libmindspore_ascend.so.2": "",
    "mindspore/lib/plugin/libmindspore_gpu.so.11.1": "",
    "mindspore/lib/plugin/libmindspore_gpu.so.11.6": "",
}


def on_bus(**card):
    return {f"sys/bus/pci/devices/0000:81:00.0/{name}": f"{value}\n" for name, value in card.items()}


@pytest.fixture
def look(tmp_path):
    """Looks for an accelerator among files, with environment variables whose paths begin at their root."""

    def at(device, files, **environ):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            path.chmod(0o755)
        found = {name: str(tmp_path / value) for name, value in environ.items()}
        return look_for(device, Place(tmp_path, found, tmp_path / "mindspore"))

    return at


@pytest.mark.parametrize(
    ("files", "environ", "step"),
    [
        ({}, {}, "no Ascend shows on this machine"),
        (on_bus(**CARD), {}, "install Ascend's driver and firmware"),
        (CANN, {}, "install Ascend's driver and firmware"),
        (on_bus(**CARD) | DRIVER, {}, "install CANN (toolkit and kernels)"),
        (DRIVER | CANN, {}, "source {root}/usr/local/Ascend/ascend-toolkit/set_env.sh"),
        (DRIVER | {"me/Ascend/cann/x": ""}, {"HOME": "me"}, "source {root}/me/Ascend/cann/set_env.sh"),
        (
            DRIVER | CANN,
            {"ASCEND_HOME_PATH": "usr/local/Ascend/ascend-toolkit/latest"},
            "check the cards with 'npu-smi info', and that CANN 8.5.0.1 is one",
        ),
    ],
)
def test_what_is_missing_first_is_the_next_step(look, tmp_path, files, environ, step):
    assert look("Ascend", PLUGINS | files, **environ).next_step().startswith(step.format(root=tmp_path))


def test_all_that_there_is_of_ascend_is_told(look, tmp_path):
    files = PLUGINS | on_bus(**CARD) | DRIVER | CANN | {"usr/local/sbin/npu-smi": ""}
    signs = look("Ascend", files)
    folder = tmp_path / "usr/local"
    assert (signs.num_cards, signs.nodes) == (1, ("/dev/davinci0", "/dev/davinci1"))
    assert signs.describe() == (
        f"cards: 1 on the bus; driver: loaded, 2 in /dev; npu-smi: {folder}/sbin/npu-smi; "
        f"CANN: 8.5.0.1 in {folder}/Ascend/ascend-toolkit/latest, whose environment is not set"
    )
    assert json.loads(json.dumps(signs.facts()))["is_sourced"] is False


def test_files_of_a_driver_that_this_user_may_not_open_are_the_reason(look, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _: Path(path).name != "davinci1")
    signs = look("Ascend", PLUGINS | DRIVER | CANN)
    assert signs.closed == ("/dev/davinci1",)
    assert "1 of them closed to this user" in signs.describe()
    assert "usermod -aG HwHiAiUser" in signs.next_step()


@pytest.mark.parametrize(
    ("files", "step"),
    [
        ({}, "no NVIDIA card shows"),
        (on_bus(**CARD), "no NVIDIA card shows"),
        (on_bus(**GRAPHICS), "install NVIDIA's driver"),
        (
            {"dev/nvidiactl": "", "dev/nvidia0": ""},
            "check the cards with 'nvidia-smi'; this MindSpore is made for CUDA 11.1",
        ),
    ],
)
def test_the_next_step_for_an_nvidia_card(look, files, step):
    assert look("GPU", PLUGINS | files).next_step().startswith(step)


@pytest.mark.parametrize(("device", "files"), [("Ascend", DRIVER), ("GPU", {"dev/nvidiactl": ""})])
def test_a_mindspore_without_the_devices_part_is_to_be_replaced(look, device, files):
    assert look(device, files).next_step().startswith(f"install a MindSpore with a part for {device}")


@pytest.mark.parametrize(
    ("files", "is_reached", "is_wanted", "status"),
    [
        ({}, False, False, "ok"),
        ({}, False, True, "problem"),
        (DRIVER, False, False, "warning"),
        (DRIVER, False, True, "problem"),
        (DRIVER, True, True, "ok"),
    ],
)
def test_a_device_out_of_reach_is_a_problem_only_where_it_is_asked_for(look, files, is_reached, is_wanted, status):
    finding = check_accelerator(look("Ascend", PLUGINS | files), is_reached=is_reached, is_wanted=is_wanted)
    assert (finding.name, finding.status) == ("ascend", status)
    assert bool(finding.next_step) == (status != "ok")


def test_a_cann_that_mindspore_does_not_name_is_warned_of(look):
    signs = look("Ascend", PLUGINS | DRIVER | CANN, ASCEND_HOME_PATH="usr/local/Ascend/ascend-toolkit/latest")
    assert check_accelerator(signs, is_reached=True, is_wanted=False, fitting=("8.5", "9.0")).status == "ok"
    finding = check_accelerator(signs, is_reached=True, is_wanted=False, fitting=("9.0", "9.1"))
    assert (finding.status, finding.next_step) == ("warning", "install CANN 9.1, or a MindSpore for this CANN")


def test_of_what_mindspore_says_each_device_has_its_own_line(look):
    told = (
        "Load dynamic library: libmindspore_ascend.so.2 failed. libge_runner.so: cannot open shared object file\n"
        "Load dynamic library: libmindspore_gpu.so.11.6 failed. libcudnn.so.8: cannot open shared object file\n"
        "Load dynamic library: libmindspore_gpu.so.11.1 failed. libcublas.so.11: cannot open shared object file\n"
    )
    reason = reason_for("Ascend", told)
    assert reason == "libmindspore_ascend.so.2 failed. libge_runner.so: cannot open shared object file"
    assert "libcudnn.so.8" in reason_for("GPU", told)
    assert reason_for("GPU", "") == ""
    finding = check_accelerator(look("Ascend", DRIVER), is_reached=False, is_wanted=False, reason=reason)
    assert finding.found.endswith(f"; MindSpore says: {reason}")


def test_the_environment_of_a_cann_that_is_gone_is_told(look, tmp_path):
    signs = look("Ascend", PLUGINS | DRIVER, ASCEND_HOME_PATH="gone")
    assert signs.describe().endswith(f"CANN: not found, though ASCEND_HOME_PATH names {tmp_path / 'gone'}")
    assert signs.next_step().startswith("install CANN")
