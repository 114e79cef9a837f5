"""Weights of one network as the first weights of another."""

# pyright: standard, reportAttributeAccessIssue=false
# MindSpore 2.10 has a Parameter be nearly anything

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mindspore import Tensor, nn

from unetcli.engine.checkpoint import read_any_checkpoint, write_checkpoint
from unetcli.engine.training import Progress
from unetcli.engine.zoo import ZooWeights, read_zoo
from unetcli.errors import ConfigError, RunError, counted
from unetcli.models import build_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.config import Config

_FILTER = "--filter-weight"
_ZOO = "MindSpore's model zoo"


@dataclass(frozen=True, slots=True)
class Transfer:
    """A network whose weights come from a checkpoint, all but those that a filter names.

    Args:
        network: With the weights.
        model: Its settings.
        origin: What the checkpoint holds, such as "unet_nested of MindSpore's model zoo".
        loaded: Names of the parameters that were taken.
        left_out: Of those that a filter names, which begin anew.
        unused: Of what else the checkpoint has, without the state of a training.
        notes: What else is to be known.
    """

    network: nn.Cell
    model: dict[str, Any]
    origin: str
    loaded: tuple[str, ...]
    left_out: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write the weights as a checkpoint that training begins from."""
        facts = {"has_training": False, "progress": Progress().facts(), "model": self.model}
        write_checkpoint(path, self.network, facts)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a checkpoint has for a network.

    Args:
        origin: What it is.
        arrays: By the names of our networks.
        names: Other names of these.
        rest: Names of the tensors that were not understood.
        model: Settings that the network had.
    """

    origin: str
    arrays: dict[str, NDArray[Any]]
    names: dict[str, str]
    rest: tuple[str, ...]
    model: dict[str, Any]

    def is_named(self, name: str, filters: Sequence[str]) -> bool:
        """Whether a filter is part of a parameter's name, here or in the zoo."""
        return any(text in name or text in self.names.get(name, "") for text in filters)


def transfer(path: Path, config: Config, filters: Sequence[str] = ()) -> Transfer:
    """The network of `config` with the weights of a checkpoint of ours, or of a network of MindSpore's model zoo.

    The state of a training is left behind: moments, steps, and where dropout stands.

    Args:
        path: The checkpoint.
        config: Settings with `model.in_channels` and `model.num_classes` resolved.
        filters: Parameters with one of these in their names begin anew.

    Raises:
        ConfigError: If a filter names no parameter.
        RunError: If the file is missing, broken or of neither, or a parameter is not in it, of another shape or not
            finite, and no filter names it.
    """
    source = _read(path, config)
    _check_width(path, source, config)
    network = build_model(config.model, seed=config.train.seed)
    own = {p.name: p for p in network.get_parameters()}
    wanted = {name: p for name, p in own.items() if _is_weight(p)}
    for text in filters:
        if not any(source.is_named(name, [text]) for name in wanted.keys() | source.arrays.keys()):
            parts = sorted({name.partition(".")[0] for name in wanted})
            raise ConfigError(
                f"{_FILTER} {text}: no parameter has that in its name", hint=f"the network has {', '.join(parts)}"
            )
    taken = {name: p for name, p in wanted.items() if not source.is_named(name, filters)}
    if not any(name in source.arrays and source.arrays[name].shape == tuple(p.shape) for name, p in taken.items()):
        raise RunError(f"{path}: nothing in it fits this network", hint="use a checkpoint of a similar network")
    _check(path, source, taken)
    for name, parameter in taken.items():
        parameter.set_data(Tensor(source.arrays[name].astype(np.float32)))
    return Transfer(
        network,
        config.model.model_dump(mode="json"),
        source.origin,
        loaded=tuple(taken),
        left_out=tuple(name for name in wanted if name not in taken),
        unused=(*(name for name in source.arrays if name not in own), *source.rest),
        notes=_notes(source, config),
    )


def _read(path: Path, config: Config) -> _Source:
    """What a checkpoint has, under our names."""
    tensors, facts = read_any_checkpoint(path)
    arrays = {name: tensor.asnumpy() for name, tensor in tensors.items() if not isinstance(tensor, str)}
    if facts is not None:
        weights = {name: array for name, array in arrays.items() if not _is_state(name, arrays)}
        return _Source("a run", weights, {}, (), facts["model"])
    zoo = read_zoo(arrays)
    if zoo is None:
        raise RunError(
            f"{path}: is a MindSpore checkpoint, but neither of unet nor of a network that it knows",
            hint=f"those of {_ZOO} are unet_medical, unet_nested and unet_simple",
        )
    _check_settings(path, zoo, config)
    used = set(zoo.names.values())
    rest = tuple(name for name in arrays if name not in used and not _is_state(name, arrays))
    return _Source(f"{zoo.network} of {_ZOO}", zoo.arrays, zoo.names, rest, zoo.settings)


def _check_settings(path: Path, zoo: ZooWeights, config: Config) -> None:
    """Refuse settings that make another network of weights of the same shapes."""
    settings = config.model.model_dump(mode="json")
    if wrong := {name: value for name, value in zoo.settings.items() if settings[name] != value}:
        found = ", ".join(f"{name} {settings[name]}" for name in wrong)
        sets = " ".join(f"--set model.{name}={str(value).lower()}" for name, value in wrong.items())
        raise RunError(
            f"{path}: holds {zoo.network} of {_ZOO}, which is another network than one with {found}",
            hint=f"add {sets}",
        )


def _check_width(path: Path, source: _Source, config: Config) -> None:
    """Refuse a network of another width as such, since hardly a parameter of it fits."""
    first = source.arrays.get("encoder.0.conv1.weight")
    if first is not None and len(first) != config.model.channels[0]:
        raise RunError(
            f"{path}: has {counted(len(first), 'channel')} at the finest level, "
            f"and this network has {config.model.channels[0]}",
            hint=f"add --set model.base_channels={len(first) * config.model.feature_scale}",
        )


def _check(path: Path, source: _Source, taken: Mapping[str, Any]) -> None:
    """Refuse what is missing, of another shape or not finite, by name."""
    arrays = source.arrays
    missing = sorted(name for name in taken if name not in arrays)
    shapes = {name: tuple(p.shape) for name, p in taken.items() if name in arrays}
    differing = [name for name in sorted(shapes) if arrays[name].shape != shapes[name]]
    broken = sorted(name for name in shapes if not np.isfinite(arrays[name]).all())
    for what, names, texts in (
        ("lacks", missing, missing),
        ("has another shape of", differing, [f"{name} {arrays[name].shape} for {shapes[name]}" for name in differing]),
        ("has values that are not finite in", broken, broken),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts = sorted({name.partition(".")[0] for name in names})
            raise RunError(
                f"{path}: does not fit this network: it {what} {', '.join(texts[:3])}{more}",
                hint=f"to begin these anew, add {' '.join(f'{_FILTER} {part}' for part in parts)}",
            )


def _notes(source: _Source, config: Config) -> tuple[str, ...]:
    """Where the network that the weights come from is another one, though they fit."""
    settings = config.model.model_dump(mode="json")
    found = source.model
    differing = [f"{name} {value}" for name, value in found.items() if name in settings and settings[name] != value]
    notes = [f"that network had {', '.join(differing)}"] if differing else []
    if source.names and found["upsample"] == "bilinear":
        notes.append("the zoo interpolates between corners and this network between areas, a quarter of a pixel away")
    return tuple(notes)


def _is_weight(parameter: Any) -> bool:
    """Whether a parameter has learnt something: it is neither fixed nor a counter."""
    return parameter.requires_grad or parameter.name.endswith((".moving_mean", ".moving_variance"))


def _is_state(name: str, names: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a tensor is a training's own: a moment of another one, such as `moment1.head.bias`, or a number."""
    return name.partition(".")[2] in names or names[name].ndim == 0 or name in ("global_step", "learning_rate")
