from __future__ import annotations

import pytest

from unetcli.errors import ConfigError
from unetcli.runtimes import choose_runtime, choosing


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Says which packages are installed and which drivers are loaded."""
    monkeypatch.setattr(choosing, "_DEVICES", tmp_path)

    def set_up(*installed, driver=None):
        monkeypatch.setattr(choosing, "is_installed", lambda name: name in installed)
        if driver:
            (tmp_path / driver).touch()

    return set_up


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (("openvino", "onnxruntime"), "openvino"),
        (("onnxruntime",), "onnxruntime"),
        ((), "mindspore"),
    ],
)
@pytest.mark.parametrize("device", ["auto", "CPU"])
def test_auto_takes_the_fastest_that_is_installed_on_a_cpu(machine, installed, expected, device):
    machine(*installed)
    assert choose_runtime("auto", device) == expected


@pytest.mark.parametrize("driver", ["davinci_manager", "davinci0", "nvidiactl"])
def test_a_driver_of_an_accelerator_leads_to_mindspore_unless_a_cpu_is_asked_for(machine, driver):
    machine("openvino", driver=driver)
    assert choose_runtime("auto", "auto") == "mindspore"
    assert choose_runtime("auto", "CPU") == "openvino"
    assert choose_runtime("openvino", "auto") == "openvino"


@pytest.mark.parametrize("device", ["GPU", "Ascend"])
def test_accelerators_are_for_mindspore_alone(machine, device):
    machine("openvino", "onnxruntime")
    assert choose_runtime("auto", device) == "mindspore"
    assert choose_runtime("mindspore", device) == "mindspore"
    for wanted in ("openvino", "onnxruntime"):
        with pytest.raises(ConfigError, match=rf"--runtime {wanted}: .* CPU only, and --device is {device}"):
            choose_runtime(wanted, device)


def test_a_runtime_that_is_not_installed_says_how_to_install_it(machine):
    machine("onnxruntime")
    with pytest.raises(ConfigError, match="--runtime openvino: is not installed") as caught:
        choose_runtime("openvino", "CPU")
    assert "pip install 'unetcli[cpu]'" in caught.value.hint


def test_a_name_that_is_no_runtime_is_refused(machine):
    machine()
    with pytest.raises(ConfigError, match="--runtime tensorrt: no such runtime") as caught:
        choose_runtime("tensorrt", "CPU")
    assert "openvino, onnxruntime, mindspore" in caught.value.hint


def test_a_folder_of_the_same_name_is_not_an_installation(tmp_path, monkeypatch):
    (tmp_path / "openvinoish").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not choosing.is_installed("openvinoish")
    assert not choosing.is_installed("no_such_package")
    assert choosing.is_installed("numpy")
