"""One process that stays with several until they have ended, however they end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

BEGUN = "Path(f'begun-{rank}').write_text(str(os.getpid()))\n"


def pids(folder: Path, number: int = 2) -> list[int]:
    """The workers' numbers, once all have begun."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        texts = [(folder / f"begun-{rank}") for rank in range(number)]
        if all(path.exists() and path.read_text() for path in texts):
            return [int(path.read_text()) for path in texts]
        time.sleep(0.02)
    raise TimeoutError


def are_gone(numbers: list[int], seconds: float = 5) -> bool:
    """Whether the processes end within some seconds."""
    until = time.monotonic() + seconds
    alive = numbers
    while alive and time.monotonic() < until:
        alive = [number for number in alive if psutil.pid_exists(number)]
        time.sleep(0.02)
    return not alive


def test_the_first_worker_speaks_here_and_all_have_logs(launched):
    call = launched("print(f'found {rank}'); print(f'working {rank}', file=sys.stderr)")
    assert call.wait() == (0, "found 0\n", "working 0\n")
    for rank in range(2):
        assert set(call.log(f"worker_{rank}").splitlines()) == {f"found {rank}", f"working {rank}"}


def test_all_are_given_the_arguments_of_the_command(launched):
    call = launched("print(arguments, file=sys.stderr)")
    assert call.wait()[2] == "['train', 'a b']\n"
    assert call.log("worker_1") == "['train', 'a b']\n"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_each_worker_keeps_to_cores_of_its_own(launched):
    call = launched("print(sorted(os.sched_getaffinity(0)), file=sys.stderr)", environ={"OMP_NUM_THREADS": ""})
    call.wait()
    first, second = (set(json.loads(call.log(f"worker_{rank}"))) for rank in range(2))
    assert first | second == os.sched_getaffinity(0)
    assert not first & second


@pytest.mark.parametrize("victim", ["place.role == 'scheduler'", "place.rank == 1"])
def test_a_process_that_is_killed_before_it_has_said_anything_ends_all(launched, tmp_path, victim):
    call = launched(BEGUN + "forever()", before=f"if {victim}: os.kill(os.getpid(), 9)")
    code, _, err = call.wait()
    assert code == 5
    assert "killed, or ran out of memory, while starting" in err
    begun = [int(path.read_text()) for path in tmp_path.glob("begun-*")]
    assert are_gone(begun)


def test_what_is_drawn_over_is_not_in_the_log(launched):
    call = launched("sys.stderr.write('50 %\\r'); print('done', file=sys.stderr)")
    assert call.wait()[2] == "50 %\ndone\n"  # as Python reads a carriage return
    assert call.log("worker_0") == "done\n"


def test_much_output_comes_whole(launched):
    code, out, _ = launched("print('x' * 300_000)", number=1).wait()
    assert (code, len(out)) == (0, 300_001)


def test_the_error_of_the_first_worker_is_said_once_and_its_code_kept(launched):
    call = launched("if rank == 0:\n    print('error: no such file', file=sys.stderr); sys.exit(3)\nforever()")
    assert call.wait() == (3, "", "error: no such file\n")


def test_an_error_of_another_worker_is_shown_and_ends_all(launched, tmp_path):
    call = launched(BEGUN + "if rank == 1:\n    print('error: disk full', file=sys.stderr); sys.exit(3)\nforever()")
    code, out, err = call.wait()
    assert (code, out) == (3, "")
    assert "error: worker_1 of 2 left with code 3; the end of" in err
    assert err.rstrip().endswith("error: disk full")
    assert are_gone(pids(tmp_path))


def test_a_bug_in_a_worker_shows_its_traceback(launched):
    code, _, err = launched("if rank == 1:\n    1 / 0\nforever()").wait()
    assert code == 1
    assert "ZeroDivisionError" in err


def test_a_worker_that_is_killed_ends_all_within_seconds(launched, tmp_path):
    call = launched(BEGUN + "forever()")
    running = pids(tmp_path)
    os.kill(running[1], signal.SIGKILL)
    started = time.monotonic()
    code, _, err = call.wait()
    assert (code, time.monotonic() - started < 30) == (5, True)
    assert "worker_1 of 2 was killed, or ran out of memory" in err
    assert are_gone(running)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_waited_for(launched, tmp_path, number):
    code = """import signal
def leave(number, frame):
    Path(f"left-{rank}").touch(); sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, leave)
"""
    call = launched(code + BEGUN + "forever()")
    pids(tmp_path)
    call.process.send_signal(number)
    assert call.wait()[0] == 130
    assert sorted(path.name for path in tmp_path.glob("left-*")) == ["left-0", "left-1"]


def test_a_second_signal_ends_workers_that_do_not_listen(launched, tmp_path):
    call = launched("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + BEGUN + "forever()")
    running = pids(tmp_path)
    call.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    call.process.send_signal(signal.SIGINT)
    assert call.wait()[0] == 130
    assert are_gone(running)


@pytest.mark.parametrize("waits", ["forever()", "import ctypes; ctypes.PyDLL(None).sleep(600)  # with Python's lock"])
def test_workers_end_with_a_launcher_that_is_killed(launched, tmp_path, waits):
    call = launched(BEGUN + waits)
    running = pids(tmp_path)
    call.process.kill()
    call.wait()
    assert are_gone(running)


def test_nothing_is_left_in_the_folder_for_temporary_files(launched, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert launched("pass", environ={"TMPDIR": str(temporary)}).wait()[0] == 0
    assert list(temporary.iterdir()) == []
