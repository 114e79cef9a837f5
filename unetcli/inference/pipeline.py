"""Work before and after the network on threads of its own: a little ahead of it, and a little behind.

The network itself stays on the thread that calls, which MindSpore needs, and where Ctrl-C arrives. Threads are enough,
since what copies, adds, reads or packs arrays lets go of Python's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int = 1) -> Generator[T, None, None]:
    """The items, the next of which a thread makes while the caller is busy with one.

    The thread begins with the first item that is asked for. It ends with the items, or as soon as it has made the one
    in work when the caller stops early: closes the iterator, drops it, or is interrupted. Then the items are closed,
    too, if they are a generator. An error of theirs is raised here, in its place in the order.

    Args:
        items: Iterated over by the thread alone.
        depth: Most items that are made or in the making and not yet taken. No other is held here.

    Raises:
        ValueError: If depth is less than 1.
    """
    _check_depth(depth)
    return _ahead(items, depth)


def behind(consume: Callable[[T], None], items: Iterable[T], depth: int = 1) -> None:
    """Hand each item to a thread that consumes them in order, while the caller makes the next.

    Returns when all are consumed. If consuming fails, no other item is made; if making one fails or is interrupted,
    what waits is not consumed. In either case the thread is waited for, the items are closed if they are a generator,
    and the error is raised.

    Args:
        consume: Called on the thread.
        items: Iterated over by the caller.
        depth: Most items that wait or are consumed while another is made. No other is held here.

    Raises:
        ValueError: If depth is less than 1.
    """
    _check_depth(depth)
    given: SimpleQueue[list[T]] = SimpleQueue()  # in lists of one, for a thread to let go of them; an empty one ends
    room = threading.Semaphore(depth)
    is_stopped = threading.Event()
    errors: list[BaseException] = []

    def consume_all() -> None:
        while item := given.get():
            try:
                if not is_stopped.is_set():
                    consume(item.pop())
            except BaseException as error:  # noqa: BLE001 the caller raises it
                errors.append(error)
                is_stopped.set()
            room.release()

    thread = threading.Thread(target=consume_all, name="behind", daemon=True)
    thread.start()
    try:
        for item in items:
            room.acquire()
            if is_stopped.is_set():
                break
            given.put([item])
            del item
    except BaseException:
        is_stopped.set()
        raise
    finally:
        given.put([])
        thread.join()
        _close(items)
    if errors:
        raise errors.pop()


def _ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    made: SimpleQueue[list[T]] = SimpleQueue()  # as in `behind`
    room = threading.Semaphore(depth - 1)
    is_stopped = threading.Event()
    errors: list[BaseException] = []

    def make_all() -> None:
        try:
            for item in items:
                made.put([item])
                del item
                room.acquire()
                if is_stopped.is_set():
                    break
            _close(items)
        except BaseException as error:  # noqa: BLE001 the caller raises it
            errors.append(error)
        made.put([])

    thread = threading.Thread(target=make_all, name="ahead", daemon=True)
    thread.start()
    try:
        while item := made.get():
            room.release()
            yield item.pop()
    finally:
        is_stopped.set()
        room.release()
        thread.join()
    if errors:
        raise errors.pop()


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")


def _close(items: Iterable[T]) -> None:
    """End a generator where it stands, so that what it holds open is closed now."""
    if isinstance(items, Generator):
        items.close()
