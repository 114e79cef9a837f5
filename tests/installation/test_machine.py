"""Processors, memory and disks, on machines and in containers that are made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unetcli.framework import hold_instructions
from unetcli.installation.limits import Limits, read_limits
from unetcli.installation.machine import (
    Processor,
    check_disk,
    check_memory,
    check_msrun,
    check_processor,
    check_threads,
    check_units,
    read_processor,
)

GIGABYTE = 10**9


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Limits()),
        (
            {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/cpu.max": "150000 100000",
                "sys/fs/cgroup/memory.max": "4000000000",
                "sys/fs/cgroup/memory.current": "3000000000",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1000000000",
            },
            Limits(1.5, 4 * GIGABYTE, 2 * GIGABYTE),
        ),
        (
            {
                "proc/self/cgroup": "0::/slice/job",
                "sys/fs/cgroup/slice/cpu.max": "400000 100000",
                "sys/fs/cgroup/slice/memory.max": "2000000000",
                "sys/fs/cgroup/slice/job/cpu.max": "max 100000",
                "sys/fs/cgroup/slice/job/memory.max": "8000000000",
            },
            Limits(4.0, 2 * GIGABYTE, 0),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000",  # the path is that of the host
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 400000000",
            },
            Limits(2.0, 3 * GIGABYTE, 600_000_000),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/\n1:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            },
            Limits(),
        ),
    ],
    ids=["none", "version 2", "version 2 nested", "version 1", "version 1 unlimited"],
)
def test_the_least_limit_of_all_groups_counts(tmp_path, files, expected):
    for name, text in files.items():
        write(tmp_path / name, text + "\n")
    assert read_limits(tmp_path) == expected


XEON = Processor("Xeon", 8, 4, ("SSE4.2", "AVX2", "AVX-512", "AMX"))
LAPTOP = Processor("Ryzen", 8, 8, ("SSE4.2", "AVX2"))


def test_the_processor_is_read_with_what_matters_of_its_vector_units(tmp_path):
    write(tmp_path / "proc/cpuinfo", "model name\t: Some  CPU\nflags\t\t: sse4_2 avx avx2 avx512f amx_tile\n\n")
    processor = read_processor(tmp_path)
    assert (processor.model, processor.units) == ("Some CPU", ("SSE4.2", "AVX2", "AVX-512", "AMX"))
    write(tmp_path / "proc/cpuinfo", "Features\t: fp asimd sve\n")
    assert read_processor(tmp_path).units == ("NEON", "SVE")
    assert read_processor(tmp_path / "nowhere").units == ()


def test_a_quota_below_the_cores_is_warned_of():
    assert check_processor(XEON, Limits()).found == "Xeon, 4 of 8 cores to use"
    assert check_processor(XEON, Limits(cores=4.0)).status == "ok"
    finding = check_processor(XEON, Limits(cores=2.5))
    assert (finding.status, finding.facts["quota"]) == ("warning", 2.5)
    assert "taskset --cpu-list 0-1 unet" in finding.next_step
    assert "taskset --cpu-list 0 unet" in check_processor(XEON, Limits(cores=0.5)).next_step


@pytest.mark.parametrize(
    ("processor", "environ", "status", "says"),
    [
        (XEON, {}, "ok", "MindSpore is held to AVX2"),
        (XEON, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "ok", "MindSpore is held to AVX2"),
        (XEON, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "warning", "forty times"),
        (LAPTOP, {"ONEDNN_MAX_CPU_ISA": "ALL"}, "ok", "AVX2"),
        (LAPTOP, {}, "ok", "AVX2"),
        (Processor("Atom", 2, 2, ("SSE4.2",)), {}, "warning", "without AVX2"),
        (Processor("Kunpeng", 64, 64, ("NEON",)), {}, "ok", "NEON"),
        (Processor("", 1, 1, ()), {}, "ok", "not known"),
    ],
)
def test_the_vector_units_are_told_with_what_they_mean_here(processor, environ, status, says):
    finding = check_units(processor, environ)
    assert (finding.status, says in finding.found) == (status, True)


def test_what_mindspore_is_held_to_is_what_is_set_before_it_computes(monkeypatch):
    monkeypatch.setattr("os.environ", {})
    hold_instructions()
    assert check_units(XEON, {}).facts["held_to"] == os.environ["ONEDNN_MAX_CPU_ISA"]


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, "ok"),
        ({"OMP_NUM_THREADS": "4"}, "ok"),
        ({"OMP_NUM_THREADS": "5"}, "warning"),
        ({"OMP_NUM_THREADS": ""}, "ok"),
    ],
)
def test_more_threads_than_cores_are_warned_of(environ, status):
    assert check_threads(XEON, environ).status == status


@pytest.mark.parametrize(
    ("limits", "available", "status", "left"),
    [
        (Limits(), 8 * GIGABYTE, "ok", 8 * GIGABYTE),
        (Limits(), 2 * GIGABYTE, "warning", 2 * GIGABYTE),
        (Limits(memory_bytes=6 * GIGABYTE, memory_used=2 * GIGABYTE), 8 * GIGABYTE, "ok", 4 * GIGABYTE),
        (Limits(memory_bytes=2 * GIGABYTE, memory_used=GIGABYTE), 8 * GIGABYTE, "warning", GIGABYTE),
    ],
)
def test_free_memory_is_the_least_of_machine_and_container(limits, available, status, left):
    finding = check_memory(limits, 16 * GIGABYTE, available)
    assert (finding.status, finding.facts["available_bytes"]) == (status, left)


def test_disks_are_tried_by_writing_and_nothing_is_left(tmp_path, monkeypatch):
    finding = check_disk(tmp_path, tmp_path / "not" / "yet")
    assert {name: facts["is_writable"] for name, facts in finding.facts.items()} == {
        "working_folder": True,
        "cache": True,
    }
    assert list(tmp_path.iterdir()) == []

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    finding = check_disk(tmp_path, None)
    assert finding.status == "warning"
    assert "cannot be written" in finding.found
    assert "--output" in finding.next_step
    assert "XDG_CACHE_HOME" in finding.next_step


def test_the_launcher_must_be_of_this_environment(tmp_path):
    python = write(tmp_path / "venv/bin/python")
    elsewhere = write(tmp_path / "bin/msrun")
    elsewhere.chmod(0o755)
    assert check_msrun({"PATH": ""}, str(python)).found.startswith("not found")
    environ = {"PATH": str(elsewhere.parent)}
    assert "not of this environment" in check_msrun(environ, str(python)).found
    write(python.parent / "msrun").chmod(0o755)
    assert check_msrun(environ, str(python)).status == "ok"
