"""What values or colours of masks become, as the option says it: what it means, and what cannot be."""

from __future__ import annotations

from collections import Counter

import pytest

from unetcli.data.sources.label_map import meaning_of, parse_label_map
from unetcli.errors import ConfigError


def test_background_is_0_or_black_unless_it_is_told_otherwise():
    assert parse_label_map(()).indices == []
    assert parse_label_map((" 255 = 1", "-3=255")).values == {0: 0, 255: 1, -3: 255}
    assert parse_label_map(("0=1", "255=0")).values == {0: 1, 255: 0}
    assert parse_label_map(("#ff0080=1",)).colours == {(0, 0, 0): 0, (255, 0, 128): 1}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("255=cell",), "--label-map 255=cell: must be VALUE=INDEX or #RRGGBB=INDEX"),
        (("255",), "--label-map 255: must be VALUE=INDEX or #RRGGBB=INDEX"),
        (("255=1=2",), "--label-map 255=1=2: must be VALUE=INDEX"),
        (("",), "--label-map : must be VALUE=INDEX"),
        (("255=256",), "must be that of a class, from 0 to 254, or 255 for pixels to ignore, found 256"),
        (("255=-1",), "must be that of a class, from 0 to 254, or 255 for pixels to ignore, found -1"),
        (("red=1",), "must be VALUE=INDEX"),
        (("#f00=1",), "must be VALUE=INDEX"),
        (("7=1", "7=2"), "--label-map 7=2: the value 7 is given twice, and was to become 1 before"),
        (("#ff0000=1", "#FF0000=2"), "the colour #FF0000 is given twice, and was to become 1 before"),
        (("7=1", "#ff0000=2"), "tells of values and of colours"),
        (("7=2",), "tells of the classes 0, 2, but nothing becomes 1"),
        (("7=4", "8=2"), "tells of the classes 0, 2, 4, but nothing becomes 1, 3"),
        (("0=1",), "tells of the classes 1, but nothing becomes 0"),
        (("255=255",), "tells of the classes 0, but nothing becomes 1"),
        (("0=0",), "tells of the classes 0, but nothing becomes 1"),
        (("0=255",), "tells of the classes none, but nothing becomes 0, 1"),
    ],
)
def test_label_maps_that_cannot_be_are_refused(options, told):
    with pytest.raises(ConfigError) as caught:
        parse_label_map(options)
    assert told in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("labels", "options", "told"),
    [
        (("1=ignore",), ("1=1",), "--label 1=ignore: with --label-map, it is that which says what to ignore"),
        (("2=ignore",), ("7=1", "8=2"), "--label 2=ignore: with --label-map, it is that which says what to ignore"),
        (("1=ignore",), (), "labels: there is no class beside background, so there is nothing to tell apart"),
        (("0=ignore", "1=cell"), (), "labels 1: there must be 0 for background"),
        (("0=ignore",), (), "labels that are all to ignore: there must be 0 for background"),
        (
            tuple(f"{value}=a{value}" for value in range(1, 256)),
            (),
            "labels: tell of 256 classes, but there can be 255",
        ),
    ],
)
def test_labels_that_leave_no_classes_are_refused_with_the_reason(labels, options, told):
    with pytest.raises(ConfigError) as caught:
        meaning_of(Counter({0: 5, 1: 5}), labels, parse_label_map(options))
    assert str(caught.value).startswith(told)
    assert caught.value.hint
