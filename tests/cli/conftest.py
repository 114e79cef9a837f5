"""One folder in which the command has made everything once; whoever asks first waits for it."""

from __future__ import annotations

import shutil

import pytest
import tifffile
from processes import SAMPLE, SETTINGS, Done, Unet, Workshop, age


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    unet = Unet(folder)
    prepared = unet("prepare", "isbi", SAMPLE, "--json")
    age(shutil.copytree(folder / "datasets" / "isbi", folder / "datasets" / "older"))
    (folder / "small.yaml").write_text(SETTINGS)
    trained = unet("train", "--config", "small.yaml")
    age(shutil.copytree(folder / "runs" / "isbi-custom-fold0", folder / "runs" / "older"))
    tifffile.imwrite(folder / "validation.tif", tifffile.imread(SAMPLE / "train-volume.tif")[:2])
    return Workshop(unet, prepared, trained)


@pytest.fixture(scope="session")
def evaluated(workshop) -> Done:
    return workshop.unet("eval")


@pytest.fixture(scope="session")
def predicted(workshop) -> Done:
    return workshop.unet("predict", "validation.tif")


@pytest.fixture(scope="session")
def exported(workshop) -> Done:
    return workshop.unet("export", "--format", "MINDIR")


@pytest.fixture
def unet(tmp_path) -> Unet:
    """The command in an empty folder."""
    return Unet(tmp_path)
