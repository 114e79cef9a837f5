"""Which packages `unet` asks for, by its own metadata, and which are installed."""

from __future__ import annotations

import contextlib
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from unetcli.installation.findings import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAMED = {"mindspore": "mindspore", "numpy": "numpy", "opencv-python-headless": "opencv"}
"""Packages that have a finding of their own, and its name."""

_MODULES = {
    "opencv-python-headless": "cv2",
    "ruamel-yaml": "ruamel.yaml",
    "scikit-image": "skimage",
    "simpleitk": "SimpleITK",
}
_OTHER_OPENCV = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
_LEADS_ASTRAY = "numpy"
"""What other packages replace by a version that does not fit, unless it is named in the same command."""


@dataclass(frozen=True, slots=True)
class Packages:
    """What is asked for and what is installed.

    Attributes:
        required: By canonical name.
        optional: Of the extra `cpu`.
        installed: Versions by canonical name; what is missing is not in it.
        python: The versions of Python that fit, as a specifier.
    """

    required: Mapping[str, Requirement]
    optional: Mapping[str, Requirement]
    installed: Mapping[str, str]
    python: str = ""

    def fits(self, name: str) -> bool:
        """Whether a package is installed in a version that fits."""
        from packaging.version import InvalidVersion

        requirement = self.required.get(name) or self.optional[name]
        try:
            return name in self.installed and requirement.specifier.contains(self.installed[name], prereleases=True)
        except InvalidVersion:
            return False

    def module(self, name: str) -> str:
        """What a required package is imported as."""
        return _MODULES.get(name, name.replace("-", "_"))

    def pip_line(self, *names: str) -> str:
        """The command that installs what is asked for; with all that is missing or does not fit where none is named."""
        wanted = list(names) or [name for name in self.required if not self.fits(name)]
        if _LEADS_ASTRAY in self.required and _LEADS_ASTRAY not in wanted:
            wanted.append(_LEADS_ASTRAY)
        known = {**self.optional, **self.required}
        asked = [f"{known[name].name}{known[name].specifier}" for name in wanted]
        return shlex.join([sys.executable, "-m", "pip", "install", *asked])


def read_packages(lines: Sequence[str], python: str, version_of: Callable[[str], str] = metadata.version) -> Packages:
    """What `unet` asks for, and what of it is installed.

    Args:
        lines: The requirements, as metadata have them.
        python: The versions of Python that fit.
        version_of: The version of a package; raises `PackageNotFoundError` where there is none.

    Raises:
        ModuleNotFoundError: If `packaging` is not installed, which reads the requirements.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    required: dict[str, Requirement] = {}
    optional: dict[str, Requirement] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            required[name] = requirement
        elif requirement.marker.evaluate({"extra": "cpu"}):
            optional[name] = requirement
    installed: dict[str, str] = {}
    for name in (*required, *optional, *_OTHER_OPENCV):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = version_of(name) or "0"  # nothing is known of a package whose removal was cut off
    return Packages(required, optional, installed, python)


def check_unet(code_version: str, code: Path, version_of: Callable[[str], str] = metadata.version) -> Finding:
    """Whether what pip knows of `unet` is what runs.

    Args:
        code_version: Of the code that runs.
        code: The folder of the package that runs.
        version_of: As for `read_packages`.
    """
    facts = {"version": code_version, "folder": str(code)}
    source = (
        ["--editable", str(code.parent)] if (code.parent / "pyproject.toml").is_file() else ["--upgrade", "unetcli"]
    )
    again = shlex.join([sys.executable, "-m", "pip", "install", *source])
    try:
        known = version_of("unetcli")
    except metadata.PackageNotFoundError:
        found = f"{code_version} in {code}, which is not installed"
        return Finding("unet", "warning", found, again, facts)
    if known != code_version:
        found = f"{code_version} in {code}, but what pip has installed is {known}"
        return Finding("unet", "warning", found, again, facts)
    return Finding("unet", "ok", f"{code_version} in {code}", facts=facts)


def check_python(specifier: str, version: str | None = None) -> Finding:
    """Whether this Python will do.

    Args:
        specifier: The versions that fit; any if empty.
        version: The version; that of this process if left out.
    """
    version = version or platform.python_version()
    where = f"{version} ({platform.system()} {platform.machine()}), {sys.executable}"
    facts = {"version": version, "executable": sys.executable, "asked": specifier}
    if specifier:
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(specifier).contains(version, prereleases=True):
            least = next((part.version for part in SpecifierSet(specifier) if part.operator == ">="), "3.11")
            step = f"make another environment: python{least} -m venv .venv, and install unet into it"
            return Finding("python", "problem", f"{where}; unet needs {specifier}", step, facts)
    return Finding("python", "ok", where, facts=facts)


def check_package(packages: Packages, name: str, failure: str = "") -> Finding:
    """Whether a required package is there, fits, and can be imported.

    Args:
        packages: What is asked for and installed.
        name: Canonical name of the package.
        failure: What its import ended in; empty if it went well or was not tried.
    """
    requirement, version = packages.required[name], packages.installed.get(name)
    facts = {"version": version, "asked": str(requirement.specifier), "import_error": failure or None}
    title = NAMED.get(name, name)
    if version is None:
        return Finding(title, "problem", "not installed", packages.pip_line(), facts)
    if not packages.fits(name):
        found = f"{version}, but unet needs {requirement.specifier}"
        return Finding(title, "problem", found, packages.pip_line(), facts)
    found, step = version, _mending(packages, name)
    others = [other for other in _OTHER_OPENCV if other in packages.installed and name == "opencv-python-headless"]
    if others:
        found += f", and beside it {', '.join(others)}; which of them is imported is chance"
        step = f"{shlex.join([sys.executable, '-m', 'pip', 'uninstall', '--yes', *others])} && {step}"
    if failure:
        return Finding(title, "problem", f"{found}, but its import fails: {failure}", step, facts)
    return Finding(title, "warning", found, step, facts) if others else Finding(title, "ok", found, facts=facts)


def check_packages(packages: Packages, failures: Mapping[str, str]) -> list[Finding]:
    """All required packages but MindSpore: those with a name of their own, and the others together.

    Args:
        packages: What is asked for and installed.
        failures: What the import of a package ended in; of those it is not said of, it went well.
    """
    every = {name: check_package(packages, name, failures.get(name, "")) for name in packages.required}
    del every["mindspore"]
    own = [every.pop(name) for name in NAMED if name in every]
    wrong = {name: finding for name, finding in every.items() if finding.status != "ok"}
    fine = [name for name in every if name not in wrong]
    parts = [f"{name}: {finding.found}" for name, finding in wrong.items()]
    if fine:
        parts.append(f"{len(fine)} fit and can be imported: {', '.join(fine)}")
    versions = {name: packages.installed.get(name) for name in every}
    facts = {"versions": versions, "problems": {name: finding.found for name, finding in wrong.items()}}
    unfit = next((finding.next_step for name, finding in wrong.items() if not packages.fits(name)), "")
    step = unfit or (_mending(packages, *wrong) if wrong else "")
    return [*own, Finding("packages", "problem" if wrong else "ok", "; ".join(parts), step, facts)]


def check_runtimes(packages: Packages) -> Finding:
    """What can predict on a CPU without MindSpore; only looked up, since their import is not needed."""
    found = {name: packages.installed.get(name) for name in ("openvino", "onnxruntime")}
    text = ", ".join(f"{name} {version or 'is not installed'}" for name, version in found.items())
    if found["openvino"] is None and "openvino" in packages.optional:
        faster = f"for faster predictions on a CPU: {packages.pip_line('openvino')}"
        return Finding("runtimes", "ok", text, faster, {"versions": found})
    if "openvino" in packages.optional and not packages.fits("openvino"):
        text += f"; unet needs openvino {packages.optional['openvino'].specifier}"
        return Finding("runtimes", "warning", text, packages.pip_line("openvino"), {"versions": found})
    return Finding("runtimes", "ok", text, facts={"versions": found})


def _mending(packages: Packages, *names: str) -> str:
    return packages.pip_line(*names).replace(" install ", " install --force-reinstall --no-deps ", 1)
