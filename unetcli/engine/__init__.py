"""THE engine: the one place that trains, predicts, saves and exports through MindSpore."""

# pyright: standard, reportIncompatibleMethodOverride=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false
# MindSpore 2.10 says that construct never returns, and that a cell returns nearly anything or None

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mindspore
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.train import Model

from unetcli.engine.checkpoint import read_checkpoint, restore, write_checkpoint
from unetcli.engine.company import Company, join
from unetcli.engine.compiling import CompileFirst, GraphCache
from unetcli.engine.device import Runtime, choose_device, set_up, telling_of_memory
from unetcli.engine.optimization import build_optimizer, learning_rates
from unetcli.engine.precision import OverflowWatch, check_precision, loss_scaling, with_precision
from unetcli.engine.stepping import build_trainer
from unetcli.engine.training import (
    Batches,
    EpochKeeper,
    Hooks,
    Interrupted,
    Interruption,
    Outcome,
    Progress,
    Record,
    Steps,
    Validate,
)
from unetcli.errors import RunError
from unetcli.models import build_loss, build_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from unetcli.config import Config

__all__ = ["Company", "Engine", "FitResult", "Runtime", "join"]


class Scorer(nn.Cell):
    """A network with a softmax behind it: images `(N, C, *S)` to scores `(N, K, *S)` that sum to one."""

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x: Tensor) -> Tensor:
        """Scores of a batch of tiles."""
        return ops.softmax(self.network(x), axis=1)


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training ended."""

    step: int
    best_score: float | None
    outcome: Outcome


class Engine:
    """A network on a device, and all that can be done with it.

    Make it with `Engine.start`, once per process: device and seed belong to the process.

    Attributes:
        company: The processes that train together; this one is among them.
    """

    def __init__(
        self,
        config: Config,
        device: str,
        ignored: int | None = None,
        *,
        graphs: Path | None = None,
        company: Company | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.ignored = ignored
        self.company = company or Company()
        # the parameters are the same on every device
        self._network = self._build_network()
        self._scorer = Scorer(self._network)
        # elsewhere, and where processes speak to each other, it is not known to be safe
        self._graphs = graphs if device == "CPU" and self.world_size == 1 else None
        self._known_scorers = GraphCache(self._graphs, {"model": self._model_facts, "seed": config.train.seed})
        self._train_step: nn.Cell | None = None
        self._restored: tuple[Path, dict[str, Any]] | None = None
        self._progress = Progress()
        self._interruption = Interruption()

    @classmethod
    def start(
        cls, config: Config, runtime: Runtime, *, ignored: int | None = None, company: Company | None = None
    ) -> Engine:
        """Choose and probe the device, seed, and build the network.

        Args:
            config: Settings with `model.in_channels` and `model.num_classes` resolved.
            runtime: Where to compute.
            ignored: The label that is not learned from, if there is one.
            company: The processes that train together, from `join`; this one alone if None.

        Raises:
            DeviceError: If the device is not there.
        """
        device = choose_device(runtime.device)
        set_up(device, seed=config.train.seed)
        return cls(config, device, ignored, graphs=runtime.graphs, company=company)

    @property
    def rank(self) -> int:
        """Number of this process among those that train together."""
        return self.company.rank

    @property
    def world_size(self) -> int:
        """Number of those processes."""
        return self.company.size

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.company.is_main

    @property
    def step(self) -> int:
        """Training steps behind the weights."""
        return self._progress.step

    def fit(self, batches: Batches, validate: Validate, record: Record, folder: Path) -> FitResult:
        """Train through `Model` up to `train.epochs`, from the step of a loaded training checkpoint or from 0.

        After every epoch `folder` holds `last.ckpt`, from which training goes on bit for bit, and after
        every validation with a higher `train.select_by` than before `best.ckpt`, the weights alone. Ctrl-C or
        SIGTERM ends training after the running step, with `last.ckpt` written. Where several processes train
        together the main one writes and records; gradients are averaged, and all stop after the same step.

        Args:
            batches: Training batches by step.
            validate: Measures the network as it stands; returns values by name, `train.select_by` among them.
            record: Takes a mapping for every step and epoch, told apart by `event`.
            folder: Where the checkpoints are kept.

        Raises:
            DeviceError: If there is not enough memory.
            RunError: If the loss or the weights are not finite, or a loaded checkpoint does not fit this network or
                holds weights alone.
        """
        config = self.config
        rates = learning_rates(
            config.schedule, config.optimizer.learning_rate, config.train.epochs * batches.steps_per_epoch
        )
        hooks = Hooks(
            validate=validate,
            record=record if self.is_main else _nothing,
            save_last=lambda: self._keep(folder / "last.ckpt"),
            save_best=lambda: self._keep(folder / "best.ckpt", weights_only=True),
            mean=self.company.mean,
        )
        with self._interruption as interruption, self.company.averaging_gradients():
            model = self._build_training(rates)
            keeper = EpochKeeper(config.train, rates, batches, self._progress, hooks, interruption)
            try:
                keeper.close_filled_epoch()
            except Interrupted:
                hooks.save_last()
            (interrupted,) = self.company.mean([float(interruption.is_requested)])
            if keeper.outcome is None and not interrupted:
                steps = self._dataset(Steps(batches, self._progress.step, len(rates)))
                with telling_of_memory():
                    callbacks = [keeper, OverflowWatch(), self._compile_first()]
                    model.train(1, steps, callbacks=callbacks, dataset_sink_mode=False)
        return FitResult(self._progress.step, self._progress.best_score, keeper.outcome or "interrupted")

    def predict(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of a batch of tiles: `(N, C, *S)` to `(N, K, *S)`, summing to one over the classes.

        For the valid network the result is smaller by `model.margin` at every border.
        """
        if self._interruption.is_requested:
            raise Interrupted
        self._scorer.set_train(False)  # a training step in between stays as it was compiled
        batch = Tensor(np.ascontiguousarray(tiles))
        with self.company.apart():  # images, and so tiles, differ from process to process
            self._known_scorers.compile(self._scorer, batch)
            return self._scorer(batch).asnumpy()

    def _keep(self, path: Path, *, weights_only: bool = False) -> None:
        if self.is_main:
            self.save(path, weights_only=weights_only)

    def save(self, path: Path, *, weights_only: bool = False) -> None:
        """Write a checkpoint, whole or not at all.

        Args:
            path: Where to; ends in `.ckpt`.
            weights_only: Leave out what only training needs, which is two thirds of a file.
        """
        cell = self._network if weights_only or self._train_step is None else self._train_step
        facts = {
            "has_training": cell is self._train_step,
            "progress": self._progress.facts(),
            "model": self._model_facts,
        }
        write_checkpoint(path, cell, facts)

    def load(self, path: Path) -> None:
        """Take up a checkpoint: its weights and, where it has them, all that training needs to go on.

        Raises:
            RunError: If it is missing, broken, or of another network.
        """
        tensors, facts = read_checkpoint(path)
        self._check_model(facts["model"], path)
        names = self._network.parameters_dict().keys()
        weights = {name: tensor for name, tensor in tensors.items() if name in names}
        restore(self._network, weights if facts["has_training"] else tensors, path)
        self._progress = Progress(**facts["progress"])
        self._restored = (path, tensors) if facts["has_training"] else None
        self._train_step = None

    def export(self, path: Path, file_format: str, shape: Sequence[int | None]) -> None:
        """Write the network with its softmax as a model file.

        Args:
            path: Where to.
            file_format: "MINDIR", "ONNX" or "AIR".
            shape: `(N, C, *S)` of the input; None where any size is to be taken.

        Raises:
            ConfigError: If the path does not end in the format's suffix.
            DeviceError: For AIR on another device than Ascend.
            RunError: If MindSpore cannot write the network so, or not in one file.
        """
        from unetcli.engine.export import check_format, export_model  # with ONNX, for which training need not wait

        check_format(file_format, self.device)
        weights = {name: parameter.asnumpy() for name, parameter in self._network.parameters_dict().items()}
        # a network that has been exported is no longer good for another export, so each has its own
        network = build_model(self.config.model, seed=self.config.train.seed, frozen=True)
        mindspore.load_param_into_net(network, {name: mindspore.Parameter(w, name=name) for name, w in weights.items()})
        example = [given or fitting for given, fitting in zip(shape, (1, 1, *self.config.tile_size), strict=True)]
        export_model(Scorer(network), path, file_format, shape, example)

    def _build_network(self) -> nn.Cell:
        return build_model(
            self.config.model,
            seed=self.config.train.seed,
            target="cpu" if self.device == "CPU" else "any",
            rank=self.rank,
            num_ranks=self.world_size,
        )

    def _build_training(self, rates: NDArray[np.float32]) -> Model:
        config = self.config
        if self._progress.step and self._restored is None:
            raise RunError(
                f"training cannot go on from step {self._progress.step} with weights alone",
                hint="load last.ckpt, which has the optimiser's state, into a new engine",
            )
        check_precision(config, self.device)
        network = self._network
        optimizer = build_optimizer(config.optimizer, rates, network.trainable_params())
        if config.train.amp != "O0":
            twin = build_model(config.model, seed=config.train.seed, rank=self.rank, num_ranks=self.world_size)
            network = with_precision(network, twin, config.train.amp)
        loss = build_loss(config.loss, num_classes=self._num_classes, ignored=self.ignored)
        model = build_trainer(
            network,
            loss,
            optimizer,
            accumulation=config.train.accumulation,
            scaling=loss_scaling(config),
            is_weighted=config.loss.weight_map,
        )
        if self._restored is not None:
            path, tensors = self._restored
            restore(model.train_network, tensors, path)
            self._restored = None
        self._train_step = model.train_network
        return model

    def _compile_first(self) -> CompileFirst:
        config = self.config
        facts = {
            "model": self._model_facts,
            "seed": config.train.seed,
            "amp": config.train.amp,
            "loss": config.loss.model_dump(mode="json"),
            "ignored": self.ignored,
            "optimizer": config.optimizer.model_dump(mode="json"),
            "schedule": config.schedule.model_dump(mode="json"),
        }
        return CompileFirst(GraphCache(self._graphs, facts))

    def _check_model(self, found: Mapping[str, Any], path: Path) -> None:
        """Refuse a checkpoint of other model settings; tensors alone would not always tell them apart."""
        differing = [
            f"{name} {found[name]} for {value}"
            for name, value in self._model_facts.items()
            if found.get(name, value) != value
        ]
        if differing:
            raise RunError(
                f"{path}: does not belong to this network: it has {', '.join(differing)}",
                hint="use a checkpoint of a run with the same model settings",
            )

    @property
    def _model_facts(self) -> dict[str, Any]:
        return self.config.model.model_dump(mode="json")

    @property
    def _num_classes(self) -> int:
        if self.config.model.num_classes is None:
            raise ValueError("model.num_classes must be resolved before the engine starts")
        return self.config.model.num_classes

    def _dataset(self, steps: Steps) -> mindspore.dataset.GeneratorDataset:
        mindspore.dataset.config.set_prefetch_size(2)
        return mindspore.dataset.GeneratorDataset(
            steps,
            ["image", "labels", *(["weights"] if self.config.loss.weight_map else [])],
            shuffle=False,
            num_parallel_workers=self.config.train.workers,
            python_multiprocessing=False,
        )


def _nothing(_: Mapping[str, Any]) -> None:
    """The records of a process that keeps none."""
