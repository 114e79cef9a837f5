"""What processes say to each other comes through as it was; several compute what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from unetcli.engine import Company
from unetcli.engine.company import decode, encode
from unetcli.launching.cluster import free_port

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ARRAYS = arrays.arrays(st.sampled_from([np.float32, np.int64, np.uint8]), arrays.array_shapes(min_dims=0), unique=True)
VALUES = st.recursive(
    PLAIN | ARRAYS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def assert_same(found, expected):
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


@given(VALUES)
def test_values_come_through_as_they_were(value):
    assert_same(decode(encode(value)), value)


def test_one_process_is_a_company_that_asks_nobody():
    alone = Company()
    assert (alone.rank, alone.size, alone.is_main) == (0, 1, True)
    assert alone.gather({"a": 1}) == [{"a": 1}]
    assert alone.from_main(lambda: 5) == 5
    assert list(alone.mean([0.1, 2.0])) == [0.1, 2.0]
    assert alone.in_turn([3, 1, 2], lambda item: item * 10) == [30, 10, 20]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have found, by rank (tests/engine/together.py)."""
    folder = tmp_path_factory.mktemp("together")
    launcher = ["-m", "mindspore.parallel.cluster.run", "--worker_num=2", "--local_worker_num=2"]
    where = [f"--master_port={free_port()}", f"--log_dir={folder}", "--join=True", "--tail_worker_log=2"]
    program = [str(Path(__file__).with_name("together.py")), str(folder)]
    done = subprocess.run(
        [sys.executable, *launcher, *where, *program],
        check=False,
        env=_with_this_python_first(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    logs = "".join(path.read_text("utf-8")[-2000:] for path in sorted(folder.glob("*.log")))
    assert done.returncode == 0, done.stderr + logs
    return [json.loads((folder / f"found-{rank}.json").read_text("utf-8")) for rank in range(2)]


def _with_this_python_first():
    return os.environ | {
        "MS_OM_PATH": tempfile.gettempdir(),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }


def test_every_process_knows_its_rank(found):
    assert [each["rank"] for each in found] == [0, 1]
    assert [each["is_main"] for each in found] == [True, False]


def test_all_gather_what_each_has(found):
    expected = [{"rank": 0, "sum": 0, "text": ""}, {"rank": 1, "sum": 4950, "text": "äö" * 1000}]
    assert [each["gathered"] for each in found] == [expected, expected]


def test_what_the_main_process_makes_all_have(found):
    assert [each["from_main"] for each in found] == ["made by 0", "made by 0"]


def test_a_mean_is_over_the_processes(found):
    assert [each["mean"] for each in found] == [[0.5, 3.0]] * 2


def test_work_is_shared_out_and_comes_back_in_order(found):
    assert [each["in_turn"] for each in found] == [[0, 1, 4, 9, 16]] * 2
    assert [each["own"] for each in found] == [[0, 2, 4], [1, 3]]


def test_one_may_compile_what_the_others_do_not(found):
    assert [each["apart"] for each in found] == [[0.5], [0.5]]


def test_an_interruption_of_one_is_one_of_all(found):
    assert [each["interrupted"] for each in found] == [True, True]


@pytest.mark.parametrize("layout", ["images", "images, fused", "slices, fused", "volumes"])
def test_batch_normalisation_is_that_of_the_whole_batch(found, layout):
    for each in found:
        assert each["norm"][layout]["forward"] < 1e-5
        assert each["norm"][layout]["gradient"] < 1e-5
        assert each["norm"][layout]["weights"] < 1e-4
        assert each["norm"][layout]["running"] < 1e-6


def test_dropout_falls_as_in_the_whole_batch(found):
    assert [each["dropout"] for each in found] == [0.0, 0.0]
