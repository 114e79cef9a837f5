"""Compiled graphs, kept from one process to the next, so that only the first run waits for the compiler.

MindSpore 2.10 has such a cache, but what it takes for the graph wanted is the n-th one that a process compiles, as
long as the program's files have not changed. After other settings, other sizes, or a validation before the first
step it computes something else, mostly without a word. So it is used here for carrying graphs only. Each process
names a folder of its own to MindSpore, in which a graph lies just while it is wanted, and which graph that is
follows from a key of all that goes into one: the versions and the source, the cells with their values and constants,
the shapes of parameters and inputs. Weights, moments and the table of learning rates are not in a graph.
"""

# pyright: standard, reportAttributeAccessIssue=false
# MindSpore 2.10 does not name what its own cache looks at among what it exports

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import tempfile
import threading
import weakref
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mindspore
import psutil
from mindspore import Parameter, Tensor, nn, ops, train
from mindspore.graph import api

from unetcli.errors import DataError
from unetcli.files import replacing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

MOST_GRAPHS = 50
MOST_BYTES = 500_000_000
_SUFFIX = ".graph"
_DIGEST_BYTES = 32
_ROOMS = ("models", "engine")
"""Whose source decides what a graph computes."""
_FLAGS = {"training", "requires_grad", "mixed_precision_type", "_amp_level", "_func_graph_flags", "_jit_config_dict"}
_BOOKKEEPING = (frozenset(vars(nn.Cell())) - _FLAGS) | {"current_phase", "init_params", "init_learning_rate"}
"""What every cell has of MindSpore's own, beside the flags that change its graph, and what optimisers are made from."""


class GraphCache:
    """Compiles cells, or takes up what an earlier process has compiled from the same.

    Args:
        folder: Where graphs are kept; nothing is kept if None. Made when there is one to keep; where that fails, and
            where a kept graph is damaged, cells are compiled as without.
        facts: What belongs to the key beside the cells themselves, as JSON can hold it.
    """

    def __init__(self, folder: Path | None, facts: Mapping[str, Any]) -> None:
        self._folder = None if _is_on_by_environment() else folder
        self._facts = facts
        self._compiled: weakref.WeakKeyDictionary[nn.Cell, set[str]] = weakref.WeakKeyDictionary()

    def compile(self, cell: nn.Cell, *inputs: Tensor) -> None:
        """Make `cell` ready to be called with inputs like these; does nothing where it is, or nothing is kept."""
        shapes = "".join(map(_described, inputs))
        compiled = self._compiled.setdefault(cell, set())
        if self._folder is None or shapes in compiled:
            return
        compiled.add(shapes)
        exchange = _exchange()
        if exchange is None or _is_edited():
            return
        key = graph_key(cell, inputs, self._facts)
        path = self._folder / f"{key}{_SUFFIX}"
        kept = _read(path)
        made = None
        with contextlib.suppress(OSError):  # of a full disk; the cell is then compiled when it is called
            made = exchange.compile(cell, inputs, key, kept)
        if made is not None and kept is None and not _is_edited():
            _write(path, made)


class CompileFirst(train.Callback):
    """Compiles a training step by way of a `GraphCache` when its first batch is there."""

    def __init__(self, graphs: GraphCache) -> None:
        super().__init__()
        self._graphs = graphs

    def on_train_step_begin(self, run_context: Any) -> None:
        """Compile; nothing after the first step."""
        arguments = run_context.original_args()
        self._graphs.compile(arguments.train_network, *arguments.train_dataset_element)


def graph_key(cell: nn.Cell, inputs: tuple[Tensor, ...], facts: Mapping[str, Any]) -> str:
    """Names a graph by all that decides it, as a SHA-256 in hexadecimal.

    Args:
        cell: To be compiled.
        inputs: Tensors like those it will be called with; only shapes and types count.
        facts: What else belongs to the key, as JSON can hold it.
    """
    digest = hashlib.sha256(_surroundings().encode())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for text in (*map(_described, inputs), *_cells(cell)):
        digest.update(b"\0" + text.encode())
    return digest.hexdigest()


def _cells(cell: nn.Cell) -> Iterator[str]:
    """Every cell below `cell`, and its attributes, in words; constants by their bytes, parameters by their shape."""
    for name, part in cell.cells_and_names():
        yield f"{name} {type(part).__module__}.{type(part).__qualname__}"
        for attribute, value in sorted(vars(part).items()):
            if attribute not in _BOOKKEEPING and not attribute.startswith("__"):
                yield f"{attribute} {_value(value)}"
    for name, parameter in cell.parameters_and_names():
        yield f"{name} {_value(parameter)}"


def _value(value: Any) -> str:
    """A value in words that are the same in every process, and differ where graphs of it do."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return repr(value)
        case Parameter():
            return f"parameter {value.name} {_described(value)} {value.requires_grad}"
        case Tensor():
            return f"{_described(value)} {hashlib.sha256(value.asnumpy().tobytes()).hexdigest()}"
        case list() | tuple():
            content = value
        case dict():
            content = sorted(value.items())
        case _:
            content = [value.attrs] if isinstance(value, ops.Primitive) else []
    return f"{type(value).__qualname__}({', '.join(map(_value, content))})"


def _described(tensor: Tensor) -> str:
    return f"{tensor.shape} {tensor.dtype}"


@functools.cache
def _surroundings() -> str:
    """Versions, machine, source, and what MindSpore is told by its environment; not where it leaves failed graphs."""
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(f"{path.parent.name}/{path.name}\0".encode() + path.read_bytes())
    versions = [metadata.version(name) for name in ("mindspore", "unetcli")]
    machine = [platform.system(), platform.machine(), platform.python_version()]
    told = sorted(item for item in os.environ.items() if item[0].startswith("MS_") and item[0] != "MS_OM_PATH")
    return json.dumps([*versions, *machine, digest.hexdigest(), told])


def _sources() -> list[Path]:
    return sorted(path for room in _ROOMS for path in (Path(__file__).parents[1] / room).rglob("*.py"))


def _is_edited() -> bool:
    """Whether the source has changed since this process began.

    MindSpore reads it when it compiles, Python when it imports; between the two a graph belongs to neither.
    """
    started = psutil.Process().create_time()
    return any(path.stat().st_mtime > started for path in _sources())


def _is_on_by_environment() -> bool:
    """Whether the user has MindSpore's own cache on, which then stays as it is."""
    return any(name in os.environ for name in ("MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"))


class _Exchange:
    """The one folder of this process through which graphs are handed to MindSpore and taken from it.

    MindSpore keeps to the first folder that it is told, and counts the graphs that are compiled while its cache is
    on. Should it ever count otherwise, it finds no graph, and none is kept.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="unet-graphs-", ignore_cleanup_errors=True)
        self._count = 0
        self._lock = threading.Lock()

    def compile(self, cell: nn.Cell, inputs: tuple[Tensor, ...], key: str, known: bytes | None) -> bytes | None:
        """Compile, from the graph that is `known` if there is one; the graph in MindSpore's form, if it gave one.

        After the first graph of a process that is not known MindSpore does not look for others; they are compiled.
        """
        with self._lock, _in_place(Path(self._folder.name), key) as place:
            graph = place / f"compile_cache_{self._count}.mindir"
            if known is not None:
                graph.write_bytes(known)
            self._count += 1  # also where it fails
            cell.compile(*inputs)
            return graph.read_bytes() if graph.is_file() else None


@functools.cache
def _exchange() -> _Exchange | None:
    """That of this process; None where there is no room for temporary files."""
    try:
        return _Exchange()
    except OSError:
        return None


@contextlib.contextmanager
def _in_place(folder: Path, key: str) -> Generator[Path]:
    """Turns MindSpore's cache on; gives the folder it looks into, which is empty before and gone after.

    It looks for graphs only if a hash of the program's files stands there. A file with the key is the whole program
    here: what MindSpore would find by itself begins at the script of the process, which need not be one of Python.
    """
    place = folder / "rank_0" / "graph_cache"
    program = folder / "program.py"
    script = api.entry_script_path
    try:
        place.mkdir(parents=True)
        program.write_bytes(f'"{key}"\n'.encode())
        inner = hashlib.sha256(program.read_bytes()).hexdigest()
        (place / "compile_dependency.hash").write_bytes(hashlib.sha256(inner.encode()).hexdigest().encode())
        api.entry_script_path = str(program)
        mindspore.set_context(enable_compile_cache=True, compile_cache_path=str(folder))
        yield place
    finally:
        mindspore.set_context(enable_compile_cache=False)
        api.entry_script_path = script
        shutil.rmtree(folder / "rank_0", ignore_errors=True)


def _read(path: Path) -> bytes | None:
    """The graph of a file, which becomes the newest; None if there is none, or it is damaged."""
    try:
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    graph = content[_DIGEST_BYTES:]
    return graph if hashlib.sha256(graph).digest() == content[:_DIGEST_BYTES] else None


def _write(path: Path, graph: bytes) -> None:
    """Keep a graph, and let go of the oldest where there are too many; nothing where the disk does not let us."""
    with contextlib.suppress(OSError, DataError):
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(graph).digest() + graph)
        files = {file: file.stat() for file in path.parent.glob(f"*{_SUFFIX}")}
        size = 0
        newest_first = sorted(files, key=lambda file: files[file].st_mtime_ns, reverse=True)
        for number, file in enumerate(newest_first, 1):
            size += files[file].st_size
            if number > MOST_GRAPHS or size > MOST_BYTES:
                file.unlink(missing_ok=True)
