from __future__ import annotations

import pytest
from mindspore.device_context import ascend, gpu

from unetcli.engine import Engine, Runtime
from unetcli.engine.device import available_devices, choose_device, telling_of_memory
from unetcli.errors import DeviceError
from unetcli.installation.accelerators import Signs


@pytest.fixture
def found(monkeypatch):
    """Lets the probes find what the test says."""

    def find(*devices):
        monkeypatch.setattr(ascend, "is_available", lambda: "Ascend" in devices)
        monkeypatch.setattr(gpu, "is_available", lambda: "GPU" in devices)
        monkeypatch.setattr("unetcli.engine.device.look_for", lambda device, _: Signs(device))

    return find


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (("Ascend", "GPU"), ("Ascend", "GPU", "CPU")),
        (("GPU",), ("GPU", "CPU")),
        (("Ascend",), ("Ascend", "CPU")),
        ((), ("CPU",)),
    ],
)
def test_auto_takes_the_fastest_that_is_there(found, devices, expected):
    found(*devices)
    assert available_devices() == expected
    assert choose_device("auto") == expected[0]
    assert [choose_device(name) for name in expected] == list(expected)


@pytest.mark.parametrize(("wanted", "check"), [("Ascend", "npu-smi info"), ("GPU", "nvidia-smi")])
def test_a_device_that_is_missing_is_told_with_what_is_there_and_what_to_do(found, wanted, check):
    found()
    with pytest.raises(DeviceError, match=rf"--device {wanted}: not found; MindSpore 2\..* finds CPU") as caught:
        choose_device(wanted)
    assert check in caught.value.hint
    assert "--device CPU" in caught.value.hint
    assert f"unet doctor --device {wanted}" in caught.value.hint
    assert caught.value.exit_code == 5


def test_what_there_is_of_a_missing_device_is_told(found, monkeypatch):
    found()
    signs = Signs("Ascend", has_driver=True, nodes=("/dev/davinci0",), plugins=("libmindspore_ascend.so.2",))
    monkeypatch.setattr("unetcli.engine.device.look_for", lambda *_: signs)
    told = "Load dynamic library: libmindspore_ascend.so.2 failed. libge_runner.so: cannot open\n"
    monkeypatch.setattr("unetcli.engine.device.plugin_error", lambda: told)
    with pytest.raises(DeviceError) as caught:
        choose_device("Ascend")
    assert "of Ascend there is: cards: none on the bus; driver: loaded, 1 in /dev; npu-smi: not found" in str(
        caught.value
    )
    assert str(caught.value).endswith("(libmindspore_ascend.so.2 failed. libge_runner.so: cannot open)")
    assert caught.value.hint.startswith("install CANN (toolkit and kernels)")


def test_another_device_that_is_there_is_named(found):
    found("Ascend")
    with pytest.raises(DeviceError, match="finds Ascend, CPU"):
        choose_device("GPU")


@pytest.mark.skipif(available_devices() != ("CPU",), reason="this machine has more than a CPU")
def test_the_real_probes_find_only_the_cpu_here_and_the_engine_says_so(toy_config):
    assert choose_device("auto") == "CPU"
    with pytest.raises(DeviceError, match="--device Ascend: not found"):
        Engine.start(toy_config(), Runtime("Ascend"))


def test_an_engine_starts_twice_in_a_process_with_the_same_weights(start):
    first, second = start(), start()
    assert (first.device, first.is_main, first.rank, first.world_size) == ("CPU", True, 0, 1)
    for one, other in zip(first._network.get_parameters(), second._network.get_parameters(), strict=True):
        assert (one.asnumpy() == other.asnumpy()).all()


def test_memory_that_does_not_do_is_told_with_what_to_lower():
    with pytest.raises(DeviceError, match="not enough memory") as told, telling_of_memory():
        raise RuntimeError("Memory not enough: alloc size: 1321467904B")
    assert "train.batch_size" in told.value.hint


def test_other_errors_of_mindspore_pass_as_they_are():
    with pytest.raises(RuntimeError, match="shape"), telling_of_memory():
        raise RuntimeError("the shape is wrong")
