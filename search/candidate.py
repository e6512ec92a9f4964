"""One candidate on its worker: measured, trained rung by rung, converted and proved equal. Needs no Ray, no Optuna."""

import copy
import errno
import gc
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from record.folders import UnreachableError, folder_at, reaching, whole
from record.measure import Measurement, Point
from record.plugins import called
from record.quantities import QUANTITIES
from record.recipe import Recipe
from record.trial import EpochResult, Final
from repmlp import config_from_dict, convert
from search.data import DataConfig, Shard
from search.measuring.locks import DeviceLock
from search.measuring.points import measured
from search.measuring.runtimes import MeasureError
from search.training.checkpoints import CheckpointError, Owner, checkpoint_path
from search.training.trainer import DivergedError, Trainer

TOLERANCE = 1e-5
"""Largest difference between converted and trained outputs, relative to the largest output."""

FULL = errno.ENOSPC, errno.EDQUOT
"""Errors that say that a disk, or a share of it, is full."""

SAVING = 0.02
"""Share of the time that writing checkpoints may take, beside those of rungs: an epoch ends with one if that allows."""

CONTEXT = 0.5 * 2**30
"""Bytes of a GPU that a process is taken to need before its first tensor: an estimate, not measured."""


class ConversionError(RuntimeError):
    """The converted network does not compute what the trained one does."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of a trial."""

    number: int
    config: Mapping[str, Any]
    """The canonical network, as plain values."""
    seed: int
    data: DataConfig
    recipe: Recipe
    rungs: tuple[int, ...]
    """Epochs after which a checkpoint is written; others too, where that takes little of the time."""
    measure: Mapping[str, Point]
    """Points at which it is to be measured first, by name; with definite devices and runtimes."""
    device: str
    threads: int
    folder: str
    """Run folder, absolute or a URL, seen by all workers."""
    workers: int = 1
    """Data-parallel workers."""
    gpus: float = 0
    """GPUs of each."""
    owner: Owner = field(default_factory=dict)
    """What makes this training the one it is."""
    trained: int = 0
    """Epochs that are recorded."""
    reference: Mapping[str, Any] | None = None
    """The network beside which this one is measured, as plain values."""
    trains: bool = True
    """False if only the measurements are wanted."""
    asked: tuple[str, ...] = ()
    """What else is to be found out in the end, by name of the quantity."""
    tests: bool = False
    """Whether the converted network is scored on the test images in the end."""


@dataclass(frozen=True)
class Report:
    """One message of a worker; a field is None where there is nothing to say."""

    measured: Mapping[str, Measurement] = field(default_factory=dict)
    """By measurement point."""
    epoch: EpochResult | None = None
    final: Final | None = None
    failure: str | None = None
    out_of_memory: bool = False
    """Whether the failure was that the GPU's memory, or the trial's share of it, was used up."""
    note: str = ""
    """What does not go as the study has it, in a sentence."""
    halt: str = ""
    """Why no trial can go on here, such as a full disk, in a sentence; the trial did not fail."""

    @property
    def last(self) -> bool:
        """Whether the trial is over here."""
        return self.final is not None or self.failure is not None or bool(self.halt)


class Candidate:
    """Runs one task, a report at a time, going on from its checkpoint if there is one.

    What the checkpoint holds beyond the record is reported first, an epoch at a time, as if it were trained now. It
    stays until whoever gets the last report has recorded it and removes it. In a data-parallel group,
    `shard` is the rank and the number of workers; only the first one's reports count, and it alone writes.
    """

    def __init__(self, job: Job, shard: Shard = (0, 1)) -> None:
        self.job, self.shard = job, shard
        self.unmeasured, self.told, self.note = job.measure, job.trained, ""
        self.trainer: Trainer | None = None
        self.unsaved = 0.0
        """Seconds of training since the last checkpoint."""
        self.saving = 0.05
        """Seconds that writing one takes: a guess until there is one."""

    def goes_on_with(self, job: Job) -> bool:
        """Whether this is the trial of `job`, as it was when it was paused, so that no checkpoint need be read."""
        same = self.job.number == job.number and self.trainer is not None and len(self.trainer.curve) == job.trained
        return same and job.trains

    def advance(self) -> Report:
        """Measure, or train one epoch; a diverged run ends with its reason."""
        measuring = bool(self.unmeasured)
        try:
            if measuring:
                return Report(measured=self.measured())
            return self.train()
        except (DivergedError, ConversionError, MeasureError) as error:
            return Report(failure=f"{type(error).__name__.removesuffix('Error')}: {error}")
        except OSError as error:
            if isinstance(error, UnreachableError):
                return Report(halt=f"{error}.")
            if error.errno not in FULL:
                raise
            return Report(halt=f"the disk that holds {self.job.folder} is full.")
        except torch.OutOfMemoryError as error:
            full = str(error).partition(". ")[0]
        return self.out_of_memory(full, measuring)  # here nothing holds the error, whose traceback holds tensors

    def out_of_memory(self, full: str, measuring: bool) -> Report:
        """Give all memory back, and say what was tried."""
        self.trainer = None
        gc.collect()  # networks and their optimizers hold circles
        torch.cuda.empty_cache()
        share = f"its {self.job.gpus:g} of a GPU" if 0 < self.job.gpus < 1 else "its GPU"
        lower = "measure.batch" if measuring else "training.batch"
        when = " while measuring" if measuring else ""
        return Report(failure=f"out of memory on {share}{when}: {full}; lower {lower}", out_of_memory=True)

    def measured(self) -> dict[str, Measurement]:
        """Measure the converted network, alone on its device; fresh weights run as fast as trained ones."""
        points, self.unmeasured = self.unmeasured, {}
        self.keep_share()
        reference = None if self.job.reference is None else config_from_dict(self.job.reference)
        network = config_from_dict(self.job.config)
        scratch = Path(self.job.folder) / "scratch"  # which drivers here empty; elsewhere there is none
        return measured(network, reference, points, self.job.device, scratch if scratch.is_dir() else None)

    def train(self) -> Report:
        """Train one epoch; after the last, convert, compare and evaluate.

        All of it, from building the network to saving it, is work beside which nothing should be measured. In a group
        only the first worker takes the device lock: while it waits for a measurement, the others wait for it.
        """
        with self.lock.shared() if self.shard[0] == 0 else nullcontext():
            if self.trainer is None:
                self.trainer = self.started()
            trainer, job = self.trainer, self.job
            unrecorded = trainer.curve[self.told :]
            result = unrecorded[0] if unrecorded else trainer.train_epoch()
            self.told = result.epoch
            if self.shard[0] > 0 or unrecorded:
                return Report(epoch=result)
            if result.epoch == job.recipe.epochs:
                return Report(epoch=result, final=self.finish(trainer), note=self.noted(trainer))
            self.unsaved += result.seconds
            if result.epoch in job.rungs or self.saving < SAVING * self.unsaved:
                start = time.perf_counter()
                trainer.save(self.checkpoint, job.owner)
                self.saving, self.unsaved = time.perf_counter() - start, 0.0
            return Report(epoch=result, note=self.noted(trainer))

    def noted(self, trainer: Trainer) -> str:
        """Return what did not go as the study has it."""
        return " ".join(filter(None, (self.note, trainer.note)))

    def started(self) -> Trainer:
        """Return a new trainer, or the one that the checkpoint holds.

        A checkpoint that is damaged or of another training is put aside, and the trial starts again.
        """
        job = self.job
        torch.set_num_threads(job.threads)
        self.keep_share()
        config = config_from_dict(job.config)
        trainer = Trainer(config, job.data, job.recipe, job.seed, job.device, self.lock.give_way, self.shard)
        try:
            trainer.restore(self.checkpoint, job.owner)
        except FileNotFoundError:
            pass
        except CheckpointError as error:
            unused = self.checkpoint.with_suffix(".unused")
            self.note = f"its checkpoint {error}; trained from the start, and the file is kept as {unused.name}."
            if self.shard[0] == 0:
                with reaching(unused):
                    self.checkpoint.replace(unused)
        self.told = min(self.told, len(trainer.curve))
        return trainer

    def keep_share(self) -> None:
        """Let a trial that takes more than its share of a GPU fail alone, and not its neighbours."""
        if self.job.gpus:
            total = torch.cuda.get_device_properties(self.job.device).total_memory
            apart = CONTEXT / total if self.job.gpus < 1 else 0
            torch.cuda.set_per_process_memory_fraction(max(0.01, self.job.gpus - apart))

    def finish(self, trainer: Trainer) -> Final:
        """Keep the trained weights, convert, check equality on the validation split, evaluate, and test if asked.

        Raises:
            ConversionError: if the outputs differ by more than `TOLERANCE`.
        """
        path = folder_at(self.job.folder) / "weights" / f"{self.job.number}.safetensors"
        with whole(path) as part:
            part.write_bytes(save({name: value.contiguous() for name, value in trainer.model.state_dict().items()}))
        converted = convert(trainer.model)
        meter, error = trainer.compare(converted)
        if not error <= TOLERANCE:  # perhaps only by the algorithms of float32, which differ from layer to layer
            exact = copy.deepcopy(trainer.model).double(), copy.deepcopy(converted).double()
            error = trainer.distance(*exact, dtype=torch.double)
        if not error <= TOLERANCE:
            raise ConversionError(
                f"converted and trained outputs differ by {error:.1e} of the largest; at most {TOLERANCE}. The trained "
                f"weights are in {path}."
            )
        scores = meter.compute()
        accuracy = scores.pop("accuracy")
        others = {kind: called(QUANTITIES[kind].by, trainer, converted) for kind in self.job.asked}
        final = Final(accuracy, conversion_error=error, details=scores, images=meter.judged(), others=others)
        if not self.job.tests:
            return final
        tested = trainer.judge(converted, trainer.data.test())
        return replace(final, test=tested.compute(), test_images=tested.judged())

    @cached_property
    def lock(self) -> DeviceLock:
        """That of the device of this process."""
        return DeviceLock(self.job.device)

    @property
    def checkpoint(self) -> Path:
        """Where the task's checkpoint is."""
        return checkpoint_path(folder_at(self.job.folder), self.job.number)
