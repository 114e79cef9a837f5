"""`unet eval --compare`: two runs on the cases that both validate on, and the runs that cannot be compared."""

from __future__ import annotations

import csv
import json
import shutil

import pytest


@pytest.fixture
def last(workshop, tmp_path):
    """A copy of the run whose best weights are its last ones."""
    run = shutil.copytree(workshop.run, tmp_path / "last", ignore=shutil.ignore_patterns("evaluation", "export"))
    shutil.copy(run / "last.ckpt", run / "best.ckpt")
    return run


def with_facts(run, **changes):
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | changes))


def test_a_run_beside_another_on_the_cases_of_both(workshop, last):
    with_facts(last, validation=["slice-000"], train=["slice-001", "slice-002"])
    done = workshop.unet("eval", "--run", last, "--compare", workshop.run, "--json")

    result = json.loads(done.out)
    assert "left out: 1 case that only one of the two validates on, 1 of them since the other" in done.err
    assert (result["num_cases"], result["run"], result["other"]) == (1, str(last), str(workshop.run))
    folder = last / "evaluation" / f"compare-best-{workshop.run.name}"
    assert result["folder"] == str(folder)
    assert json.loads((folder / "summary.json").read_text()) == {k: v for k, v in result.items() if k != "folder"}
    with (folder / "cases.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["case"] == "slice-000"
    assert float(row["cell_dice_difference"]) == float(row["cell_dice"]) - float(row["cell_dice_other"])
    assert result["measures"]["cell_dice"]["mean"] == float(row["cell_dice_difference"])


def test_a_run_beside_its_copy_does_not_differ(workshop):
    done = workshop.unet("eval", "--compare", "runs/older")
    cells = [line.replace("│", " ").split() for line in done.out.splitlines() if "foreground_dice" in line]
    assert cells == [["foreground_dice", "0.0000", "+0.0000", "to", "+0.0000", "0", "0", "2", "absent"]]
    assert "got worse" not in done.out


def test_runs_that_cannot_be_compared_are_refused(workshop, last):
    unet, run = workshop.unet, ("eval", "--run", workshop.run, "--compare")
    assert "is the run itself" in unet.refuses(*run, workshop.run, code=2)
    assert "--split train: runs are compared" in unet.refuses(*run, last, "--split", "train", code=2)
    assert "of one run alone" in unet.refuses(*run, last, "--checkpoint", last / "last.ckpt", code=2)
    assert "nowhere: not a run folder" in unet.refuses(*run, "nowhere", code=4)
    with_facts(last, validation=["slice-002"], train=["slice-000", "slice-001"])
    assert "which have no case in common; 3 of their cases" in unet.refuses(*run, last, code=4)
    with_facts(last, fingerprint="0" * 64)
    assert "was trained on other cases or classes" in unet.refuses(*run, last, code=4)
