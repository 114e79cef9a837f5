"""Kinds of mistakes, their exit codes, and suggestions for names."""

from __future__ import annotations

import pytest

from unetcli.errors import (
    ConfigError,
    DataError,
    DeviceError,
    PartialError,
    RunError,
    UnetError,
    counted,
    suggestion,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UnetError, 1), (ConfigError, 2), (DataError, 3), (RunError, 4), (DeviceError, 5), (PartialError, 6)],
)
def test_each_kind_leaves_with_its_own_code(kind, code):
    error = kind("a.tif: broken", hint="export it again")

    assert isinstance(error, UnetError)
    assert (error.exit_code, str(error), error.hint) == (code, "a.tif: broken", "export it again")


def test_a_hint_may_be_left_out():
    assert not UnetError("a.tif: broken").hint


def test_a_near_name_is_suggested():
    assert suggestion("epoch", ["epochs", "seed"]) == "did you mean 'epochs'?"


def test_where_none_is_near_all_are_listed_in_order():
    assert suggestion("zzz", (name for name in ("seed", "epochs"))) == "known are: epochs, seed"


@pytest.mark.parametrize(("number", "told"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages")])
def test_what_is_counted_is_in_the_plural_unless_it_is_one(number, told):
    assert counted(number, "page") == told


def test_another_plural_is_told():
    assert [counted(number, "batch", "batches") for number in (1, 3)] == ["1 batch", "3 batches"]
