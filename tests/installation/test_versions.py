"""What is asked for, and what of it is there."""

from __future__ import annotations

import shlex
import sys
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

import unetcli
from unetcli.installation.examining import needs
from unetcli.installation.versions import (
    check_package,
    check_packages,
    check_python,
    check_runtimes,
    check_unet,
    read_packages,
)

LINES = (
    "mindspore<2.11,>=2.10",
    "numpy<2,>=1.26",
    "opencv-python-headless<4.12,>=4.8",
    "SimpleITK<3,>=2.3",
    "colorama>=0.4; sys_platform == 'nowhere'",
    "openvino<2027,>=2025.0; extra == 'cpu'",
    "pytest>=8.2; extra == 'test'",
)
FITTING = {
    "mindspore": "2.10.0",
    "numpy": "1.26.4",
    "opencv-python-headless": "4.11.0.86",
    "simpleitk": "2.5.7",
    "openvino": "2026.4.1",
}


def packages_with(**changes):
    """What is asked for, and fitting versions but for changes; None is missing."""
    versions = FITTING | {name.replace("_", "-"): version for name, version in changes.items()}

    def version_of(name):
        if versions.get(name) is None:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return read_packages(LINES, ">=3.11,<3.13", version_of)


def pip(*arguments):
    return shlex.join([sys.executable, "-m", "pip", "install", *arguments])


def test_what_fits_is_ok_and_the_others_are_one_finding():
    findings = check_packages(packages_with(), {})
    assert [(finding.name, finding.status) for finding in findings] == [
        ("numpy", "ok"),
        ("opencv", "ok"),
        ("packages", "ok"),
    ]
    assert findings[-1].facts == {"versions": {"simpleitk": "2.5.7"}, "problems": {}}


def test_only_what_this_system_needs_is_asked_for():
    packages = packages_with()
    assert set(packages.required) == {"mindspore", "numpy", "opencv-python-headless", "simpleitk"}
    assert set(packages.optional) == {"openvino"}
    assert packages.module("opencv-python-headless") == "cv2"
    assert packages.module("simpleitk") == "SimpleITK"


def test_every_package_that_is_asked_for_is_imported_by_a_name_that_there_is():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    packages = read_packages(project["dependencies"], project["requires-python"], lambda _: "1")
    assert [name for name in packages.required if find_spec(packages.module(name)) is None] == []


def test_a_version_that_does_not_fit_is_a_problem_with_the_line_that_mends_it():
    finding = check_package(packages_with(numpy="2.1.0"), "numpy")
    assert (finding.name, finding.status) == ("numpy", "problem")
    assert finding.found == "2.1.0, but unet needs <2,>=1.26"
    assert finding.next_step == pip("numpy<2,>=1.26")


def test_one_line_mends_all_packages_and_names_numpy_which_the_others_would_replace():
    packages = packages_with(opencv_python_headless="4.12.0", simpleitk=None)
    findings = {finding.name: finding for finding in check_packages(packages, {})}
    line = pip("opencv-python-headless<4.12,>=4.8", "SimpleITK<3,>=2.3", "numpy<2,>=1.26")
    assert {name: finding.status for name, finding in findings.items()} == {
        "numpy": "ok",
        "opencv": "problem",
        "packages": "problem",
    }
    assert findings["opencv"].next_step == findings["packages"].next_step == line
    assert findings["packages"].found == "simpleitk: not installed"


def test_a_package_that_cannot_be_imported_is_installed_again():
    finding = check_package(packages_with(), "simpleitk", "ImportError: no such library")
    assert (finding.status, finding.found) == ("problem", "2.5.7, but its import fails: ImportError: no such library")
    assert "--force-reinstall --no-deps 'SimpleITK<3,>=2.3'" in finding.next_step
    together = check_packages(packages_with(), {"simpleitk": "ImportError: no such library"})[-1]
    assert (together.name, together.status) == ("packages", "problem")
    assert (together.found, together.next_step) == (f"simpleitk: {finding.found}", finding.next_step)


def test_a_second_opencv_is_warned_of():
    finding = check_package(packages_with(opencv_python="4.13.0"), "opencv-python-headless")
    assert (finding.status, "opencv-python" in finding.found) == ("warning", True)
    assert finding.next_step.startswith(f"{sys.executable} -m pip uninstall --yes opencv-python && {sys.executable}")
    broken = check_package(packages_with(opencv_python="4.13.0"), "opencv-python-headless", "ImportError: libGL.so.1")
    assert (broken.status, broken.next_step) == ("problem", finding.next_step)


@pytest.mark.parametrize("version", ["custom build", ""])
def test_a_version_that_cannot_be_read_does_not_fit(version):
    assert check_package(packages_with(simpleitk=version), "simpleitk").status == "problem"


@pytest.mark.parametrize(
    ("version", "status"), [("3.10.14", "problem"), ("3.11.0", "ok"), ("3.12.9", "ok"), ("3.13.0", "problem")]
)
def test_python_must_be_of_the_versions_in_the_metadata(version, status):
    finding = check_python("<3.13,>=3.11", version)
    assert finding.status == status
    assert ("python3.11 -m venv" in finding.next_step) == (status == "problem")


@pytest.mark.parametrize(
    ("known", "status", "says"),
    [
        ("0.3.0", "ok", "0.3.0 in"),
        ("0.1.0", "warning", "what pip has installed is 0.1.0"),
        (None, "warning", "not installed"),
    ],
)
def test_what_runs_is_compared_with_what_is_installed(tmp_path, known, status, says):
    (tmp_path / "pyproject.toml").touch()

    def version_of(name):
        if known is None:
            raise metadata.PackageNotFoundError(name)
        return known

    finding = check_unet("0.3.0", tmp_path / "unetcli", version_of)
    assert finding.status == status
    assert says in finding.found
    assert finding.next_step == ("" if status == "ok" else pip("--editable", str(tmp_path)))


def test_the_needs_are_those_of_the_version_that_runs():
    lines, python = needs(Path(unetcli.__file__).parent)
    packages = read_packages(lines, python)
    assert {"mindspore", "numpy", "opencv-python-headless", "packaging", "psutil"} <= set(packages.required)
    assert set(packages.optional) == {"openvino"}
    assert check_python(python).status == "ok"


def test_openvino_is_recommended_but_not_missed():
    finding = check_runtimes(packages_with(openvino=None))
    assert finding.status == "ok"
    assert pip("openvino<2027,>=2025.0", "numpy<2,>=1.26") in finding.next_step
    assert check_runtimes(packages_with()).next_step == ""
    assert check_runtimes(packages_with(openvino="2024.1")).status == "warning"
