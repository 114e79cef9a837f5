"""`unet train --dry-run` of a run that is taken up: how it has ended, or where it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from unetcli.cli import rehearsing
from unetcli.config import Config, with_values


@pytest.mark.parametrize(
    ("closed_epochs", "stale", "patience", "expected"),
    [
        (0, 0, None, (None, 1)),
        (3, 3, None, (None, 4)),
        (3, 1, 2, (None, 4)),
        (3, 2, 2, ("stopped early", None)),
        (8, 2, 2, ("finished", None)),
        (8, 0, None, ("finished", None)),
    ],
)
def test_where_a_training_goes_on_is_told_by_its_checkpoint(monkeypatch, closed_epochs, stale, patience, expected):
    facts = {"progress": {"closed_epochs": closed_epochs, "stale": stale}}
    monkeypatch.setattr(rehearsing, "read_checkpoint", lambda _: ({}, facts))
    train = with_values(Config(), {"train.epochs": 8, "train.patience": patience}).train
    assert rehearsing._place_in(train, Path("last.ckpt")) == expected
