"""The measure that weights are chosen by: known, or refused with the nearest and with all that there are."""

from __future__ import annotations

import pytest

from unetcli.cli.selecting import selecting_measures
from unetcli.config import Config, with_values
from unetcli.errors import ConfigError
from unetcli.evaluation import Measures
from unetcli.runs import ClassFacts, Run, RunFacts

OVERALL = ("pixel_accuracy", "mean_iou", "foreground_dice")
OF_CLASSES = [f"classes.{name}.{what}" for name in ("out", "cell") for what in ("dice", "iou", "precision", "recall")]


@pytest.fixture
def selecting_by(tmp_path):
    def make_run(select_by):
        facts = RunFacts(
            unet_version="0.1.0",
            dataset="cells",
            kind="folder",
            dataset_path=tmp_path,
            fingerprint="ab" * 32,
            classes=(ClassFacts(index=0, name="out", value=0), ClassFacts(index=1, name="cell", value=1)),
            channels=("grey",),
            train=("a",),
            validation=("b",),
        )
        return Run(tmp_path / "run", with_values(Config(), {"train.select_by": select_by}), facts)

    return make_run


@pytest.mark.parametrize("name", [*OVERALL, *OF_CLASSES, "zoo_dice"])
def test_every_measure_of_the_overlap_is_known(selecting_by, name):
    assert selecting_measures(selecting_by(name)) == Measures()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mean_io", "did you mean 'mean_iou'? "),
        ("classes.cel.dice", "did you mean 'classes.cell.dice'? "),
        ("v_rand", ""),  # of membranes only
    ],
)
def test_another_is_refused_with_the_nearest_and_with_all_that_there_are(selecting_by, name, meant):
    with pytest.raises(ConfigError) as caught:
        selecting_measures(selecting_by(name))
    assert str(caught.value) == f"train.select_by: {name}: no such measure of cells"
    assert caught.value.hint == f"{meant}known are: {', '.join([*OVERALL, *OF_CLASSES, 'zoo_dice'])}"
