"""Pairs of volumes and masks of any format, as a source of a dataset of volumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from unetcli.data.formats.volumes import open_volume
from unetcli.data.preparing.volume_labels import value_counts, whole_numbers
from unetcli.data.preparing.volume_plan import SplitPlan, VolumeSource
from unetcli.data.preparing.volume_records import RawCase
from unetcli.data.sources.class_names import rule_of, with_mirrors
from unetcli.data.sources.folder import Pairs
from unetcli.data.sources.label_map import LabelMap, meaning_of
from unetcli.errors import ConfigError, DataError, UnetError


def volumes_of(
    pairs: Pairs,
    split: SplitPlan,
    labels: Sequence[str] = (),
    mirrors: Sequence[str] = (),
    told: LabelMap | None = None,
    advance: Callable[[], None] = lambda: None,
) -> VolumeSource:
    """Find out what the masks mean and how many channels the volumes have.

    Where neither `labels` nor the label map `told` say it, every mask is read once for its values; files that cannot be
    read are left to the checks of the cases.

    Raises:
        DataError: If the masks' values tell no classes, or no file can be read.
        ConfigError: If a label or mirror is not of the form that it must be.
    """
    if told is not None and told.colours:
        raise ConfigError("--label-map: tells of colours, but volumes have none", hint="give values, such as 255=1")
    is_told = bool(labels or (told and told.values))
    values: Counter[int] = Counter()
    channels: Counter[int] = Counter()
    failures: list[UnetError] = []
    for pair in pairs.pairs:
        try:
            channels[open_volume(pair.image).num_channels] += 1
            if not is_told:
                counts = value_counts(whole_numbers(open_volume(pair.mask).read()))
                values.update(dict(zip(*(array.tolist() for array in counts), strict=True)))
        except UnetError as error:
            failures.append(error)
        advance()
    if not channels or not (is_told or values):
        raise failures[0]
    try:
        meaning = meaning_of(values, labels, told, noun="voxel")
        classes = with_mirrors(meaning.classes, mirrors)
    except DataError as error:
        raise DataError(f"{pairs.source}: {error}", hint=error.hint) from error
    num_channels = channels.most_common(1)[0][0]
    return VolumeSource(
        kind="folder",
        cases=tuple(RawCase(pair.id, (pair.image,), pair.mask, pair.group, pair.is_validation) for pair in pairs.pairs),
        classes=classes,
        channels=("image",) if num_channels == 1 else tuple(f"channel_{index}" for index in range(num_channels)),
        rule=rule_of(classes, meaning.ignored),
        split=split,
        skipped=pairs.alone,
        warnings=pairs.warnings,
        has_ignored=bool(meaning.ignored),
    )
