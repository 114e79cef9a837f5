"""Datasets of volumes: what a killed run leaves to the next, processes that die, full disks, and resampling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetcli.core.geometry import Geometry
from unetcli.data.formats.volume_masks import write_volume
from unetcli.data.manifest import ClassInfo, load_cases, load_manifest
from unetcli.data.preparing import volume_plan, volume_work
from unetcli.data.preparing.volume_cases import make_case
from unetcli.data.preparing.volume_dataset import make_dataset
from unetcli.data.preparing.volume_labels import LabelRule
from unetcli.data.preparing.volume_plan import (
    SplitPlan,
    VolumeSource,
    WorkOptions,
    make_volume_splits,
    plan_work,
    readable_bytes,
)
from unetcli.data.preparing.volume_records import CaseSettings, RawCase, Skipped, companions, load_record
from unetcli.errors import ConfigError, DataError

SIZE = (4, 5, 6)
CLASSES = (
    ClassInfo(index=0, name="background", source_values=(0,)),
    ClassInfo(index=1, name="organ", source_values=(7,)),
)
NUM_CASES = 6


@pytest.fixture
def source(tmp_path, rng):
    """Six small volumes with masks."""
    geometry = Geometry(SIZE, (2.0, 1.0, 1.0))
    raws = []
    for index in range(NUM_CASES):
        image, labels = tmp_path / "raw" / f"i{index}.nii", tmp_path / "raw" / f"l{index}.nii"
        image.parent.mkdir(exist_ok=True)
        write_volume(image, rng.integers(-99, 99, SIZE).astype(np.int16), geometry, compress=False)
        write_volume(labels, (rng.integers(0, 2, SIZE) * 7).astype(np.uint8), geometry, compress=False)
        raws.append(RawCase(f"case{index}", (image,), labels))
    return VolumeSource("msd", tuple(raws), CLASSES, ("CT",), LabelRule(((0, 0), (7, 1))), SplitPlan(3))


def prepare(source, output, **options):
    wanted = WorkOptions(output, **options)
    plan = plan_work(source, wanted)
    return plan, make_dataset(source, plan, wanted)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


RUN = """
import os, signal, sys
from pathlib import Path
from unetcli.data.preparing import volume_cases, volume_dataset
from unetcli.data.sources import msd
from unetcli.data.preparing.volume_plan import SplitPlan, WorkOptions, plan_work

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    when, jobs = sys.argv[2], int(sys.argv[3])
    if when == "moving":
        volume_dataset.save_manifest = kill
    done = 0
    def advance():
        global done
        done += 1
        if when == str(done):
            kill()
    source = msd.read_msd(Path(sys.argv[1]), SplitPlan(2))
    options = WorkOptions(Path("out"), jobs=jobs)
    plan = plan_work(source, options)
    print(len(plan.finished))
    volume_dataset.make_dataset(source, plan, options, advance)
"""


@pytest.fixture
def task(tmp_path, source):
    """The same volumes as a Decathlon task."""
    pairs = [{"image": f"raw/i{index}.nii", "label": f"raw/l{index}.nii"} for index in range(NUM_CASES)]
    description = {"labels": {"0": "background", "7": "organ"}, "modality": {"0": "CT"}, "training": pairs}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "run.py").write_text(RUN)
    assert len(source.cases) == NUM_CASES

    def run(when, jobs=1):
        return subprocess.run(
            [sys.executable, "run.py", ".", when, str(jobs)],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    return run


@pytest.mark.parametrize(("when", "kept"), [("1", 1), ("4", 4), ("moving", NUM_CASES)])
def test_a_killed_run_is_taken_up_without_doing_anything_twice(task, tmp_path, when, kept):
    killed = task(when)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out").exists()
    left = set(files_of(tmp_path / ".out-preparing").values())

    again = task("never")

    assert again.stdout.strip() == str(kept), again.stderr
    manifest = load_manifest(tmp_path / "out")
    assert len(manifest.cases) == NUM_CASES
    same = [name for name, inode in files_of(tmp_path / "out").items() if inode in left]
    assert len([name for name in same if name.startswith(("train/images", "val/images"))]) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "out", "raw", "run.py"]


def test_a_killed_run_of_several_processes_is_taken_up_too(task, tmp_path):
    assert task("3", jobs=2).returncode == -signal.SIGKILL
    again = task("never", jobs=2)
    assert 3 <= int(again.stdout) < NUM_CASES
    assert len(load_manifest(tmp_path / "out").cases) == NUM_CASES


def test_what_has_changed_is_done_again(source, tmp_path):
    settings = CaseSettings(source.rule, 2, 1)
    work = tmp_path / "work"
    for name in ("images", "seg", "points", "records"):
        (work / name).mkdir(parents=True)
    raw = source.cases[0]
    made = make_case(raw, settings, work)
    found = load_record(work, raw, settings)
    assert found is not None
    assert (found.case, found.dtype, found.values, found.warnings) == (made.case, "int16", made.values, ())
    np.testing.assert_array_equal(found.distribution.values, made.distribution.values)

    assert load_record(work, raw, CaseSettings(source.rule, 2, 1, spacing=(1.0, 1.0, 1.0))) is None
    assert load_record(work, raw, CaseSettings(LabelRule(((0, 0),), 1), 2, 1)) is None
    assert load_record(work, source.cases[1], settings) is None
    status = raw.labels.stat()
    os.utime(raw.labels, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load_record(work, raw, settings) is None
    os.utime(raw.labels, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_record(work, raw, settings) is not None
    (work / made.case.files.image).write_bytes(b"short")
    assert load_record(work, raw, settings) is None
    (work / "records" / "case0.json").write_text("{")
    assert load_record(work, raw, settings) is None


def test_voxels_of_a_header_count_among_its_files(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 2, 2), np.uint8)), str(tmp_path / "a.mhd"))
    assert companions(tmp_path / "a.mhd") == (tmp_path / "a.raw",)
    (tmp_path / "a.nhdr").write_text("NRRD0004\ndata file: a.raw\n")
    assert companions(tmp_path / "a.nhdr") == (tmp_path / "a.raw",)
    assert companions(tmp_path / "a.raw") == ()
    assert companions(tmp_path) == tuple(sorted(tmp_path.iterdir()))


def dies_at_case_2(raw, settings, folder):
    if raw.id == "case2":
        os.kill(os.getpid(), signal.SIGKILL)
    assert "mindspore" not in sys.modules
    return make_case(raw, settings, folder)


def test_a_process_that_dies_costs_its_case_and_no_other(source, tmp_path, monkeypatch):
    monkeypatch.setattr(volume_work, "make_case", dies_at_case_2)
    _, prepared = prepare(source, tmp_path / "out", jobs=2)
    (skipped,) = prepared.skipped
    assert skipped.id == "case2"
    assert "was killed, most likely for want of memory" in skipped.reason
    assert [case.id for case in prepared.manifest.cases] == ["case0", "case1", "case3", "case4", "case5"]


def test_processes_and_none_write_the_same(source, tmp_path):
    prepare(source, tmp_path / "one", jobs=1)
    prepare(source, tmp_path / "two", jobs=2)
    one, two = (load_manifest(tmp_path / name) for name in ("one", "two"))
    assert one.model_copy(update={"name": "two"}) == two
    assert one.intensity.percentiles[50.0] == np.percentile(
        [case.image for case in load_cases(tmp_path / "one", one, [raw.id for raw in source.cases])], 50
    )


def test_a_full_disk_is_told_before_any_work(source, tmp_path, monkeypatch):
    free = volume_plan.SPARE_BYTES + 6 * (120 * 3 + 2 * 352 + 120 * 16) - 1
    monkeypatch.setattr(volume_plan.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(DataError, match=r"out: 17\.9 kB will be written, but the disk has 64 MB left") as caught:
        plan_work(source, WorkOptions(tmp_path / "deep" / "out"))
    assert "--output" in caught.value.hint
    assert not (tmp_path / "deep").exists()


def test_a_disk_that_fills_up_stops_the_work_and_is_no_fault_of_a_case(source, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unetcli.data.preparing.volume_cases.write_volume", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_work_in_one_folder(source, tmp_path):
    wanted = WorkOptions(tmp_path / "out")
    plan = plan_work(source, wanted)

    def second():
        with pytest.raises(ConfigError, match="another `unet prepare` is at work there"):
            make_dataset(source, plan, wanted)

    make_dataset(source, plan, wanted, second)
    assert len(load_manifest(tmp_path / "out").cases) == NUM_CASES


def test_compressed_volumes_have_an_uncompressed_twin(source, tmp_path):
    prepare(source, tmp_path / "out", compress=True)
    manifest = load_manifest(tmp_path / "out")
    for case in manifest.cases:
        part = "val" if case.id in manifest.splits[0].validation else "train"
        assert case.files.image == f"{part}/images/{case.id}.nii.gz"
        assert case.files.mapped_image == f"cache/images/{case.id}.nii"
        read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / case.files.image)))
        (loaded,) = load_cases(tmp_path / "out", manifest, [case.id])
        np.testing.assert_array_equal(read, loaded.image[0])
        assert isinstance(loaded.image, np.memmap)


def test_resampled_volumes_lie_where_they_lay(tmp_path):
    z, y, x = np.meshgrid(*map(np.arange, (8, 10, 12)), indexing="ij")
    ramp = (100 * z + 10 * y + x).astype(np.int16)
    geometry = Geometry((8, 10, 12), (1.0, 2.0, 2.0), (5.0, 6.0, 7.0))
    raws = []
    for index in range(2):
        paths = tmp_path / f"i{index}.nii", tmp_path / f"l{index}.nii"
        write_volume(paths[0], ramp + np.int16(index), geometry, compress=False)
        write_volume(paths[1], np.where(x < 6, 7, 0).astype(np.uint8), geometry, compress=False)
        raws.append(RawCase(f"case{index}", paths[:1], paths[1]))
    source = VolumeSource("msd", tuple(raws), CLASSES, ("CT",), LabelRule(((0, 0), (7, 1))))

    plan, prepared = prepare(source, tmp_path / "out", spacing=(2.0, 2.0, 1.0))

    assert plan.outlines[0][1].geometry.size == (4, 10, 24)
    (case,) = load_cases(tmp_path / "out", prepared.manifest, ["case0"])
    assert case.geometry == Geometry((4, 10, 24), (2.0, 2.0, 1.0), (4.5, 6.0, 7.5))
    # amid the volume the ramp goes on: halfway between slices, and by quarters along X
    expected = np.rint(100 * 2.5 + 10 * 3 + np.array([4.75, 5.25, 5.75, 6.25]))
    np.testing.assert_array_equal(case.image[0, 1, 3, 10:14], expected)
    assert case.image[0].dtype == np.int16
    np.testing.assert_array_equal(case.labels, np.broadcast_to(np.arange(24) < 12, (4, 10, 24)))
    assert prepared.manifest.cases[0].class_shares == (0.5, 0.5)
    assert prepared.manifest.spacing == (2.0, 2.0, 1.0)


def test_a_dataset_is_replaced_only_when_asked(source, tmp_path):
    prepare(source, tmp_path / "out")
    with pytest.raises(ConfigError, match="already exists"):
        prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "out", overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not a dataset folder"):
        prepare(source, tmp_path / "thesis", overwrite=True)
    assert not list(tmp_path.glob(".*"))


def test_nothing_usable_is_an_error_with_the_first_reasons(source, tmp_path):
    for raw in source.cases:
        raw.images[0].unlink()
    with pytest.raises(DataError, match=r"no case can be used: case0: .*i0\.nii: no such file; case1: .*and 1 more"):
        plan_work(source, WorkOptions(tmp_path / "out"))


def test_published_parts_must_both_have_cases():
    raws = [RawCase(f"c{i}", (), Path(), is_validation=True) for i in range(3)]
    with pytest.raises(DataError, match="all 3 usable cases are for validation") as caught:
        make_volume_splits(raws, SplitPlan(is_published=True))
    assert "--folds" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.23 kB"), (5_000_000, "5 MB"), (13e10, "130 GB")]
)
def test_bytes_for_people(number, text):
    assert readable_bytes(number) == text


def test_a_skipped_case_says_its_reason_without_a_trace(source, tmp_path):
    source.cases[0].labels.write_bytes(b"nothing")
    settings = CaseSettings(source.rule, 2, 1)
    result = make_case(source.cases[0], settings, tmp_path)
    assert isinstance(result, Skipped)
    assert "l0.nii" in result.reason
