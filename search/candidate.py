"""One candidate on its worker: measured, trained rung by rung, converted and proved equal. Needs no Ray, no Optuna."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from repmlp import build, config_from_dict, convert
from search.costs import input_shape
from search.data import DataConfig
from search.locks import DeviceLock
from search.throughput import MeasureConfig, Throughput, measure
from search.training import DivergedError, EpochResult, Recipe, Trainer, top_1

TOLERANCE = 1e-5
"""Largest difference between converted and trained logits, relative to the largest logit, in float32."""


class ConversionError(RuntimeError):
    """The converted network does not compute what the trained one does."""


@dataclass(frozen=True)
class Task:
    """All that a worker needs to know of a trial."""

    number: int
    config: Mapping[str, Any]
    """The canonical network, as plain values."""
    seed: int
    data: DataConfig
    recipe: Recipe
    rungs: tuple[int, ...]
    """Epochs after which a checkpoint is written."""
    measure: MeasureConfig | None
    """None if the throughput is known."""
    device: str
    threads: int
    folder: str
    """Run folder, absolute, seen by all workers."""


@dataclass(frozen=True)
class Final:
    """What a trial gave at full budget."""

    accuracy: float
    """Top-1 of the converted network on the validation split, percent."""
    conversion_error: float
    """Largest difference of converted and trained logits on it, relative to the largest logit."""


@dataclass(frozen=True)
class Report:
    """One message of a worker; a field is None where there is nothing to say."""

    throughput: Throughput | None = None
    epoch: EpochResult | None = None
    final: Final | None = None
    failure: str | None = None

    @property
    def last(self) -> bool:
        """Whether the trial is over."""
        return self.final is not None or self.failure is not None


class Candidate:
    """Runs one task, a report at a time, going on from its checkpoint if there is one.

    The checkpoint stays until whoever gets the last report has recorded it and removes it.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.lock = DeviceLock(task.device)
        self.unmeasured = task.measure
        self.trainer: Trainer | None = None

    def advance(self) -> Report:
        """Measure, or train one epoch; a diverged run ends with its reason."""
        try:
            if self.unmeasured is not None:
                return Report(throughput=self.measured(self.unmeasured))
            return self.train()
        except (DivergedError, ConversionError) as error:
            return Report(failure=f"{type(error).__name__.removesuffix('Error')}: {error}")

    def measured(self, config: MeasureConfig) -> Throughput:
        """Measure the converted network, alone on its device; fresh weights run as fast as trained ones."""
        self.unmeasured = None
        network = config_from_dict(self.task.config)
        with self.lock.alone():
            return measure(build(network, deploy=True), input_shape(network), config, self.task.device)

    def train(self) -> Report:
        """Train one epoch; after the last, convert, compare and evaluate."""
        if self.trainer is None:
            self.trainer = self.started()
        trainer, task = self.trainer, self.task
        result = trainer.train_epoch()
        if result.epoch == task.recipe.epochs:
            return Report(epoch=result, final=self.finish(trainer))
        if result.epoch in task.rungs:
            trainer.save(self.checkpoint)
        return Report(epoch=result)

    def started(self) -> Trainer:
        """Return a new trainer, or the one that the checkpoint holds."""
        task = self.task
        torch.set_num_threads(task.threads)
        torch.backends.cudnn.allow_tf32 = False  # converted and trained logits are compared in true float32
        config = config_from_dict(task.config)
        trainer = Trainer(config, task.data, task.recipe, task.seed, task.device, self.lock.shared)
        if self.checkpoint.exists():
            trainer.restore(self.checkpoint)
        return trainer

    def finish(self, trainer: Trainer) -> Final:
        """Convert, check equality on the validation split, evaluate and keep the trained weights.

        Raises:
            ConversionError: if the logits differ by more than `TOLERANCE`.
        """
        split = trainer.data.validation
        trained, converted = (trainer.predict(m, split) for m in (trainer.model, convert(trainer.model)))
        error = float((trained - converted).abs().max() / trained.abs().max())
        if not error <= TOLERANCE:
            raise ConversionError(
                f"converted and trained logits differ by {error:.1e} of the largest; at most {TOLERANCE}."
            )
        path = Path(self.task.folder) / "weights" / f"{self.task.number}.safetensors"
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        save_file(trainer.model.state_dict(), part)
        part.replace(path)
        return Final(accuracy=top_1(converted, split.labels), conversion_error=error)

    @property
    def checkpoint(self) -> Path:
        """Where the task's checkpoint is."""
        return checkpoint_path(Path(self.task.folder), self.task.number)


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return where a run folder keeps the checkpoint of a trial."""
    return folder / "checkpoints" / f"{number}.pt"
