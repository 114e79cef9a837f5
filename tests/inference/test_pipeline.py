from __future__ import annotations

import signal
import threading
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetcli.inference import ahead, behind

PATIENCE = 20
"""Seconds after which a test that waits for another thread has failed."""


def helpers():
    return [thread for thread in threading.enumerate() if thread.name in ("ahead", "behind")]


def waited(event):
    assert event.wait(PATIENCE)


def failing_at(number, seen=None):
    """The numbers up to one; that one is an error."""
    for index in range(number):
        if seen is not None:
            seen.append(index)
        yield index
    raise KeyError(number)


@given(st.lists(st.integers()), st.integers(1, 4))
def test_items_come_in_order_and_once(items, depth):
    consumed = []

    assert list(ahead(items, depth)) == items
    behind(consumed.append, items, depth)

    assert consumed == items
    assert not helpers()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_thread_makes_as_many_items_as_the_depth_ahead_and_no_more(depth):
    makers, made = [], [threading.Event() for _ in range(10)]

    def items():
        for index in range(10):
            makers.append(threading.current_thread())
            made[index].set()
            yield index

    taken = ahead(items(), depth)

    assert next(taken) == 0
    waited(made[depth])  # while the caller is busy with the first
    assert next(taken) == 1
    waited(made[depth + 1])
    assert not any(event.is_set() for event in made[depth + 2 :])
    assert list(taken) == list(range(2, 10))
    assert threading.current_thread() not in makers
    assert len(set(makers)) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_thread_is_as_many_items_behind_as_the_depth_and_no_more(depth):
    makers, consumers, consumed = [], [], []
    may_go_on, made = threading.Event(), threading.Event()

    def items():
        for index in range(10):
            makers.append(threading.current_thread())
            if index == depth:  # the last that is made before the first is consumed
                assert not consumed
                may_go_on.set()
            yield index

    def consume(item):
        waited(may_go_on)
        consumers.append(threading.current_thread())
        consumed.append(item)
        assert len(makers) <= len(consumed) + depth
        made.set()

    behind(consume, items(), depth)

    assert consumed == list(range(10))
    assert set(makers) == {threading.current_thread()}
    assert threading.current_thread() not in consumers
    assert len(set(consumers)) == 1


def test_an_error_of_the_items_comes_after_those_before_it_with_its_traceback():
    taken = []

    with pytest.raises(KeyError) as caught:
        taken.extend(ahead(failing_at(3)))
    assert "failing_at" in "".join(traceback.format_exception(caught.value))
    assert not helpers()

    for item in (items := ahead(failing_at(3), depth=2)):
        taken.append(item)
        if item == 2:
            break
    with pytest.raises(KeyError):
        next(items)
    assert taken[-3:] == [0, 1, 2]


def test_an_error_of_the_items_ends_consuming():
    consumed = []

    with pytest.raises(KeyError) as caught:
        behind(consumed.append, failing_at(3))

    assert consumed in ([0, 1], [0, 1, 2])
    assert "failing_at" in "".join(traceback.format_exception(caught.value))
    assert not helpers()


@pytest.mark.parametrize("depth", [1, 3])
def test_an_error_of_consuming_ends_making_and_closes_the_items(depth):
    made, closed = [], []

    def items():
        try:
            for index in range(1000):
                made.append(index)
                yield index
        finally:
            closed.append(threading.current_thread())

    def refuse(item):
        if item == 2:
            raise KeyError(item)

    with pytest.raises(KeyError) as caught:
        behind(refuse, items(), depth)

    assert len(made) <= 2 + 2 + depth
    assert closed == [threading.current_thread()]
    assert "refuse" in "".join(traceback.format_exception(caught.value))
    assert not helpers()


@pytest.mark.parametrize("num_taken", [0, 1, 5])
@pytest.mark.parametrize("depth", [1, 3])
def test_closing_ends_the_thread_and_closes_the_items(num_taken, depth):
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    taken = ahead(items(), depth)
    for _ in range(num_taken):
        next(taken)
    taken.close()

    assert closed == [True] * (num_taken > 0)  # a generator that was not begun has nothing to close
    assert not helpers()


def test_dropping_the_iterator_ends_the_thread():
    taken = ahead(iter(range(1000)))
    next(taken)
    del taken

    assert not helpers()


def test_the_caller_is_interrupted_while_it_waits_for_an_item():
    is_interrupted = threading.Event()

    def items():
        yield 0
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as Ctrl-C, while it waits below
        waited(is_interrupted)
        yield 1

    taken = ahead(items())
    next(taken)
    with pytest.raises(KeyboardInterrupt):
        _wait(taken, is_interrupted)
    assert not helpers()


def _wait(taken, is_interrupted):
    previous = signal.signal(signal.SIGINT, lambda *_: (is_interrupted.set(), signal.default_int_handler(*_)))
    try:
        next(taken)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_the_caller_is_interrupted_while_an_item_is_consumed():
    consumed = []

    def items():
        yield 0
        yield 1
        signal.raise_signal(signal.SIGINT)
        yield 2

    with pytest.raises(KeyboardInterrupt):
        behind(consumed.append, items())

    assert consumed in ([0], [0, 1])
    assert not helpers()


def test_both_sides_at_once_and_an_early_end_of_either():
    consumed = []
    behind(consumed.append, ahead(range(100)))
    assert consumed == list(range(100))

    with pytest.raises(KeyError):
        behind(consumed.append, ahead(failing_at(10)))
    with pytest.raises(ZeroDivisionError):
        behind(lambda item: 1 // (5 - item), ahead(iter(range(1000))))
    assert not helpers()


class Item:
    """Counts those that are alive."""

    def __init__(self, alive, most):
        self.alive = alive
        alive.append(1)
        most.append(len(alive))

    def __del__(self):
        self.alive.pop()


@pytest.mark.parametrize("depth", [1, 2])
def test_no_more_items_live_than_the_depth_and_the_one_in_work(depth):
    alive, most = [], []

    for item in ahead((Item(alive, most) for _ in range(50)), depth):
        del item
    assert max(most) <= depth + 1
    assert not alive

    most.clear()
    behind(lambda _: None, (Item(alive, most) for _ in range(50)), depth)
    assert max(most) <= depth + 1
    assert not alive


def test_a_depth_of_nothing_is_refused():
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        ahead([1], 0)
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        behind(print, [1], 0)
