"""`unet doctor` in real processes: where everything works, where a device is missing, and where packages are broken."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from processes import ENVIRONMENT, UNET

from unetcli.report import show_installation

NAMES = {
    *("unet", "python", "mindspore", "numpy", "opencv", "packages", "runtimes", "devices", "ascend", "gpu"),
    *("cpu", "vector units", "threads", "memory", "disk", "msrun", "training"),
}


def doctor(folder, *arguments, packages=()):
    """The exit code, the findings and the talk of a call; `packages` are modules that take the place of real ones."""
    for name, code in dict(packages).items():
        (folder / "broken" / name).mkdir(parents=True)
        (folder / "broken" / name / "__init__.py").write_text(code, "utf-8")
    path = os.pathsep.join(filter(None, (str(folder / "broken"), ENVIRONMENT.get("PYTHONPATH"))))
    done = subprocess.run(
        [str(UNET), "doctor", "--json", *arguments],
        check=False,
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def test_an_installation_that_works_trains_and_leaves_nothing_behind(tmp_path):
    code, result, talk = doctor(tmp_path, "--device", "CPU")
    findings = result["findings"]
    assert (code, result["works"]) == (0, True), talk
    assert set(findings) == NAMES
    assert findings["mindspore"]["facts"]["version"].startswith("2.")
    training = findings["training"]["facts"]
    assert (training["device"], training["num_steps"], training["is_tried"]) == ("CPU", 40, True)
    assert training["last_loss"] < training["first_loss"] / 2
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there_is_told_with_all_else_and_leaves_with_5(tmp_path):
    code, result, talk = doctor(tmp_path, "--no-train", "--device", "GPU")
    findings = result["findings"]
    if findings["devices"]["facts"]["available"] != ["CPU"]:
        pytest.skip("this machine has more than a CPU")
    assert (code, result["works"]) == (5, False)
    assert {name for name, finding in findings.items() if finding["status"] == "problem"} == {"devices", "gpu"}
    assert "nvidia-smi" in findings["gpu"]["next_step"]
    assert "error: this installation does not work: devices, gpu\nhint:" in talk


def test_a_mindspore_that_cannot_be_imported_is_a_finding(tmp_path):
    broken = {"mindspore": "raise ImportError('libgomp.so.1: cannot open shared object file')"}
    code, result, _ = doctor(tmp_path, packages=broken)
    findings = result["findings"]
    assert (code, set(findings)) == (5, NAMES)
    assert "its import fails: ImportError: libgomp.so.1" in findings["mindspore"]["found"]
    assert str(tmp_path / "broken" / "mindspore") in findings["mindspore"]["found"]
    assert "libgomp1" in findings["mindspore"]["next_step"]
    assert findings["training"]["found"] == "not tried without MindSpore"
    assert findings["numpy"]["status"] == "ok"


def test_packages_that_crash_and_even_a_missing_numpy_do_not_end_it(tmp_path):
    broken = {"mindspore": "import os; os._exit(139)", "numpy": "raise ImportError('no such library')"}
    code, result, _ = doctor(tmp_path, packages=broken)
    findings = result["findings"]
    assert code == 5
    assert "ended with code 139, as after SIGSEGV" in findings["mindspore"]["found"]
    assert "its import fails: ImportError: no such library" in findings["numpy"]["found"]


@pytest.mark.parametrize("arguments", ["--device Quantum", "--no-trains", "now"])
def test_what_it_does_not_know_is_refused(unet, arguments):
    unet.refuses("doctor", *arguments.split(), code=2)


def test_the_table_can_be_read_without_colour_and_its_commands_copied(capsys):
    line = "python -m pip install " + " ".join(f"'package-{number}<2'" for number in range(20))
    findings = {
        "numpy": {"status": "problem", "found": "2.1.0", "next_step": line, "facts": {}},
        "opencv": {"status": "problem", "found": "not installed", "next_step": line, "facts": {}},
        "disk": {"status": "warning", "found": "1.0 GB free", "next_step": "make room", "facts": {}},
        "python": {"status": "ok", "found": "3.11.7", "next_step": None, "facts": {}},
    }
    show_installation(findings, as_json=False)
    out = capsys.readouterr().out
    assert [status in out for status in ("│ X problem │", "│ ! warning │", "│ ok        │")] == [True] * 3
    assert out.endswith(f"next steps\n  numpy, opencv: {line}\n  disk: make room\n")


def test_as_json_it_is_one_answer_and_all_findings_by_name(capsys):
    finding = {"status": "warning", "found": "x", "next_step": None, "facts": {"a": 1}}
    show_installation({"disk": finding}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"works": True, "findings": {"disk": finding}}
    show_installation({"disk": finding | {"status": "problem"}}, as_json=True)
    assert json.loads(capsys.readouterr().out)["works"] is False
