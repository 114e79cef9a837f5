"""How many processes there are, where they meet, and what MindSpore's launcher is told."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from unetcli.errors import ConfigError
from unetcli.launching import Cluster, parse_master, place_of
from unetcli.launching.place import Place

LOGS = Path("logs")


def test_the_launcher_is_given_the_processes_of_one_machine():
    command = Cluster(2).command(LOGS, ("127.0.0.1", 5000))
    assert command == [
        *(sys.executable, "-m", "mindspore.parallel.cluster.run"),
        *("--worker_num=2", "--local_worker_num=2", "--master_addr=127.0.0.1", "--master_port=5000", "--node_rank=0"),
        *("--log_dir=logs", "--join=True", "--tail_worker_log=2"),
        *("python", "-m", "unetcli"),
    ]


def test_the_launcher_is_given_the_processes_of_several_machines():
    command = Cluster(8, num_nodes=4, node_rank=3, master=("node0", 8118)).command(LOGS, ("node0", 8118))
    wanted = {"--worker_num=32", "--local_worker_num=8", "--node_rank=3", "--master_addr=node0", "--master_port=8118"}
    assert wanted < set(command)


def test_every_option_is_one_that_the_launcher_has():
    code = "import sys; from mindspore.parallel.cluster.run import get_args; print(vars(get_args()))"
    options = Cluster(2, num_nodes=2, node_rank=1, master=("node0", 8118)).command(LOGS, ("node0", 8118))[3:]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, encoding="utf-8", check=True)
    for fact in ("'worker_num': 4", "'node_rank': 1", "'join': True", "'task_script_args': ['-m', 'unetcli']"):
        assert fact in done.stdout


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_local": 0}, r"--distribute 0: must be at least 1"),
        ({"num_local": 2, "num_nodes": 2, "node_rank": 2, "master": ("a", 1)}, r"--node-rank 2: the rank must be"),
        ({"num_local": 2, "num_nodes": 2}, r"--nodes 2: the machines must know where to meet"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Cluster(**settings)


def test_processes_share_the_cores_unless_the_user_has_said_how():
    assert Cluster(2).environment({}, 8) == {"OMP_NUM_THREADS": "4"}
    assert Cluster(3).environment({"A": "b"}, 2) == {"OMP_NUM_THREADS": "1", "A": "b"}
    assert Cluster(2).environment({"OMP_NUM_THREADS": "3"}, 8) == {"OMP_NUM_THREADS": "3"}


@pytest.mark.parametrize(
    ("number", "cores", "parts"),
    [(2, {0, 1}, [[0], [1]]), (2, {7, 2, 3, 5, 4}, [[2, 3], [4, 5, 7]]), (3, {0, 1}, []), (1, {0, 1}, [[0, 1]])],
)
def test_processes_that_compute_on_cores_keep_to_parts_of_them_where_there_are_enough(number, cores, parts):
    assert Cluster(number, is_on_cores=True).parts({}, cores) == parts


def test_processes_may_use_all_cores_where_they_have_devices_or_the_user_has_said_how_many_threads():
    assert Cluster(2).parts({}, {0, 1}) == []
    assert Cluster(2, is_on_cores=True).parts({"OMP_NUM_THREADS": "2"}, {0, 1}) == []


def test_one_machine_meets_at_a_free_port_of_its_own():
    host, port = Cluster(2).meeting_point()
    with socket.create_server((host, port)):
        pass


def test_a_port_that_is_in_use_is_refused_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--master 127\.0\.0\.1:{port}: cannot be opened on this machine"):
            Cluster(2, master=("127.0.0.1", port)).meeting_point()
        other = Cluster(2, num_nodes=2, node_rank=1, master=("127.0.0.1", port))
        assert other.meeting_point() == ("127.0.0.1", port)  # another machine opens it


@pytest.mark.parametrize(
    ("text", "wanted"), [("node0:8118", ("node0", 8118)), ("[2001:db8::1]:1024", ("2001:db8::1", 1024))]
)
def test_a_master_is_a_host_and_a_port(text, wanted):
    assert parse_master(text) == wanted


@pytest.mark.parametrize("text", ["node0", ":8118", "node0:", "node0:80", "node0:65536", "node0:http"])
def test_another_text_is_no_master(text):
    with pytest.raises(ConfigError, match="must be HOST:PORT with a port from 1024 to 65535"):
        parse_master(text)


def test_a_process_knows_its_place_from_what_the_launcher_sets():
    worker = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4", "MS_NODE_ID": "3", "DEVICE_ID": "1", "RANK_ID": "3"}
    assert place_of(worker) == Place("worker", 4, 3, 1)
    assert place_of(worker).name == "worker_3"
    assert place_of({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "4", "RANK_ID": "0"}) == Place("scheduler", 4)
    assert place_of({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4"}).rank is None
    assert place_of({"RANK_ID": "1", "RANK_SIZE": "2"}) is None  # of another launcher
