"""The architecture: who may import whom, and what `unet --help` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "unetcli"
GROUND = {"errors", "files", "framework"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "framework": set(),
    "launching": {"errors"},
    "config": GROUND,
    "core": set(),
    "data": {"core", "config"} | GROUND,
    "models": {"config"},
    "installation": {"errors", "framework"},
    "engine": {"launching", "models", "config", "installation"} | GROUND,
    "inference": {"core", "errors"},
    "deployment": {"core", "inference", "errors", "files"},
    "runtimes": {"errors", "files", "framework"},
    "evaluation": {"inference", "core", "errors"},
    "runs": {"config"} | GROUND,
    "folds": {"config", "runs"} | GROUND,
    "report": {"core"} | GROUND,
    "cli": GROUND
    | {
        "core",
        "data",
        "deployment",
        "engine",
        "evaluation",
        "folds",
        "inference",
        "installation",
        "launching",
        "report",
        "runs",
        "runtimes",
        "config",
    },
}
HEAVY = {
    "cv2",
    "matplotlib",
    "mindspore",
    "numpy",
    "onnx",
    "onnxruntime",
    "openvino",
    "pydantic",
    "rich",
    "ruamel.yaml",
    "scipy",
    "skimage",
}
MINDSPORE_IN = {"models", "engine", "data/mindrecord.py", "deployment/runner.py"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def runtime_nodes(source: str) -> list[ast.stmt]:
    """Every statement that is executed, so not what stands under `if TYPE_CHECKING:`."""
    found: list[ast.stmt] = []
    pending = list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        found.append(node)
        pending.extend(child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node)
    return found


def imported_modules(source: str) -> set[str]:
    names: set[str] = set()
    for node in runtime_nodes(source):
        match node:
            case ast.ImportFrom(module="unetcli", names=aliases):
                names.update(f"unetcli.{alias.name}" for alias in aliases)
            case ast.ImportFrom(module=str(module)):
                names.add(module)
            case ast.Import(names=aliases):
                names.update(alias.name for alias in aliases)
    return names


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path.name not in ("__main__.py",) and path.parent != PACKAGE)
SOURCES += sorted(path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
    room = room_of(path)
    ours = {name.split(".")[1] for name in imported_modules(path.read_text("utf-8")) if name.startswith("unetcli.")}
    assert ours - {"__version__", room} <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_mindspore_stays_in_its_rooms(path):
    inside = str(path.relative_to(PACKAGE)).startswith(tuple(MINDSPORE_IN))
    uses = any(name.split(".")[0] == "mindspore" for name in imported_modules(path.read_text("utf-8")))
    assert inside or not uses


def test_every_room_has_a_rule():
    assert {room_of(path) for path in SOURCES} == set(MAY_IMPORT)


def test_a_forbidden_import_is_noticed():
    assert imported_modules("def f():\n    from unetcli import engine\n") == {"unetcli.engine"}
    assert imported_modules("if TYPE_CHECKING:\n    import unetcli.engine\n") == set()


def test_help_loads_nothing_heavy():
    code = "import sys; from unetcli.cli import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    ).stdout.split()
    assert not (HEAVY - {"rich"}) & set(loaded)
