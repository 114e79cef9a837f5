"""The processes that compute together, and what they say to each other by MindSpore's collectives.

Values cross as text and arrays, never as pickled objects.
"""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false, reportReturnType=false
# MindSpore 2.10 says that construct never returns, and that a cell returns nearly anything or None

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

import mindspore
import numpy as np
from mindspore import Tensor, communication, nn, ops
from numpy.typing import NDArray

from unetcli.engine.device import set_up_device
from unetcli.engine.training import Interrupted
from unetcli.launching import place_of

Item = TypeVar("Item")
_ARRAY = "__array__"


def join(device: str) -> Company:
    """Meet the processes that were started together with this one; a company of one if it was started alone.

    Args:
        device: To compute on; must be there. The process takes that of its number.
    """
    place = place_of(os.environ)
    if place is None or place.size == 1:
        return Company()
    set_up_device(device, place.device)
    communication.init()
    return Company(communication.get_rank(), communication.get_group_size())


def schedule() -> None:
    """Bring the workers together; for the process whose place is that of the scheduler, until they have ended."""
    communication.init()


class Company:
    """One process, or one of several that were started together.

    Every method is called by all of them, in the same order.

    Attributes:
        rank: Number of this process among them.
        size: How many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._all_gather = _AllGather()

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean over the processes of each of a few values."""
        if self.size == 1:
            return list(values)
        return self._gather_arrays(np.array(values, np.float32)).mean(0, dtype=np.float64).tolist()

    def gather(self, value: Any) -> list[Any]:
        """What every process gives, by rank.

        Args:
            value: Of dictionaries, lists, arrays, and what JSON can hold.
        """
        if self.size == 1:
            return [value]
        content = encode(value)
        lengths = self._gather_arrays(np.array([len(content)], np.int32)).ravel()
        # of few sizes, since each is compiled anew
        words = 1 << max(int(lengths.max()) // 4, 255).bit_length()
        padded = np.zeros(words, np.int32)
        padded.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
        rows = self._gather_arrays(padded)
        return [
            decode(row.view(np.uint8)[:length].tobytes()) for row, length in zip(rows, lengths.tolist(), strict=True)
        ]

    def from_main(self, make: Callable[[], Any]) -> Any:
        """What `make` gives in the main process; the others wait for it."""
        return self.gather(make() if self.is_main else None)[0]

    def in_turn(self, items: Sequence[Item], work: Callable[[Item], Any]) -> list[Any]:
        """The results of `work` on each item, which the processes share out; all get all, in the order of the items.

        Raises:
            Interrupted: In all processes, where the work of one was interrupted.
        """
        try:
            own = [work(item) for item in items[self.rank :: self.size]]
        except Interrupted:
            own = None
        parts = self.gather(own)
        if any(part is None for part in parts):
            raise Interrupted
        return [parts[number % self.size][number // self.size] for number in range(len(items))]

    @contextlib.contextmanager
    def averaging_gradients(self) -> Generator[None]:
        """Let training steps that are built and taken in the block average their gradients over the processes."""
        if self.size == 1:
            yield
            return
        mindspore.set_auto_parallel_context(
            parallel_mode="data_parallel", gradients_mean=True, parameter_broadcast=True, device_num=self.size
        )
        try:
            yield
        finally:
            mindspore.reset_auto_parallel_context()

    @contextlib.contextmanager
    def apart(self) -> Generator[None]:
        """Let this process alone compile a network in the block, in the midst of training that averages gradients.

        MindSpore broadcasts the parameters of every network that it compiles meanwhile, for which all processes would
        have to compile the same ones in the same order.
        """
        if not mindspore.get_auto_parallel_context("parameter_broadcast"):
            yield
            return
        mindspore.set_auto_parallel_context(parameter_broadcast=False)
        try:
            yield
        finally:
            mindspore.set_auto_parallel_context(parameter_broadcast=True)

    def _gather_arrays(self, values: NDArray[Any]) -> NDArray[Any]:
        """`(size, n)` from the `(n,)` of every process."""
        return self._all_gather(Tensor(values)).asnumpy().reshape(self.size, -1)


class _AllGather(nn.Cell):
    """The arrays of all processes, one after the other."""

    def construct(self, x: Tensor) -> Tensor:
        """`(size * n,)` of `(n,)`."""
        return ops.AllGather()(x)


def encode(value: Any) -> bytes:
    """A value as bytes: its text, and its arrays behind it."""
    arrays: list[NDArray[Any]] = []

    def without_arrays(part: Any) -> Any:
        match part:
            case np.ndarray():
                arrays.append(part)
                return {_ARRAY: len(arrays) - 1}
            case dict():
                return {key: without_arrays(each) for key, each in part.items()}
            case list() | tuple():
                return [without_arrays(each) for each in part]
            case _:
                return part

    text = json.dumps(without_arrays(value))
    file = io.BytesIO()
    np.savez(file, np.frombuffer(text.encode(), np.uint8), *arrays)
    return file.getvalue()


def decode(content: bytes) -> Any:
    """The value of `encode`; tuples have become lists."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = [file[f"arr_{number}"] for number in range(1, len(file.files))]
        text = file["arr_0"].tobytes().decode()

    def with_arrays(part: dict[str, Any]) -> Any:
        return arrays[part[_ARRAY]] if _ARRAY in part else part

    return json.loads(text, object_hook=with_arrays)
