"""How a run's objects are told apart, from its classes and its settings."""

from __future__ import annotations

import pytest

from unetcli.cli.separating import separation_for, separation_of
from unetcli.config import Config, with_values
from unetcli.errors import ConfigError
from unetcli.inference import Separation
from unetcli.runs import ClassFacts, Run, RunFacts


@pytest.fixture
def make_run(tmp_path):
    def make_run(*names, has_instances=True, **values):
        facts = RunFacts(
            unet_version="0.1.0",
            dataset="cells",
            kind="folder",
            dataset_path="/data/cells",
            fingerprint="ab" * 32,
            classes=tuple(ClassFacts(index=index, name=name, value=index) for index, name in enumerate(names)),
            channels=("grey",),
            has_instances=has_instances,
            train=("a",),
            validation=("b",),
        )
        return Run(tmp_path / "run", with_values(Config(), values), facts)

    return make_run


def test_the_settings_say_how_and_a_call_may_say_otherwise(make_run):
    run = make_run("background", "nucleus", **{"inference.instance_min_size": 7, "inference.instance_distance": 9})
    assert separation_of(run) == Separation((1,), None, "watershed", 7, 9)
    assert separation_of(run, "components") == Separation((1,), None, "components", 7, 9)
    other = make_run("background", "nucleus", **{"inference.instances": "components"})
    assert separation_of(other).method == "components"
    assert separation_of(other, "watershed").method == "watershed"


@pytest.mark.parametrize(
    ("names", "objects", "border"),
    [
        (("background", "nucleus", "border"), (1,), 2),
        (("background", "border", "nucleus", "cell"), (2, 3), 1),
        (("background", "border"), (1,), None),  # then it is what is looked for
        (("membrane", "cell"), (1,), None),
    ],
)
def test_all_classes_but_the_background_and_the_border_are_of_objects(make_run, names, objects, border):
    separation = separation_of(make_run(*names))
    assert (separation.objects, separation.border) == (objects, border)


def test_objects_are_measured_where_the_truth_tells_them_apart(make_run):
    known, unknown = (make_run("background", "nucleus", has_instances=told) for told in (True, False))
    assert separation_for(known) == separation_of(known)
    assert separation_for(known, "components") == separation_of(known, "components")
    assert separation_for(unknown) is None
    with pytest.raises(ConfigError, match="the labels of dataset 'cells' do not tell objects apart") as caught:
        separation_for(unknown, "run")
    assert "unet prepare nuclei" in caught.value.hint


def test_objects_of_volumes_are_refused(make_run):
    run = make_run("background", "liver", **{"model.ndim": 3, "data.patch_size": (32, 32, 32)})
    with pytest.raises(ConfigError, match="is of volumes, and objects are told apart in images only"):
        separation_of(run)
