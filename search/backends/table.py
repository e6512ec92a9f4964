"""Searches replayed on a recorded table, under a virtual clock: the real engine, sampler and scheduler, no training."""

import heapq
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.storages import InMemoryStorage

from record.measure import Measurement
from record.quantities import QUANTITIES
from record.study import Study
from record.trial import EpochResult, Final
from search.backends.tables import Table
from search.candidate import Job, Report
from search.engine import Engine
from search.journal import Journal


@dataclass(frozen=True)
class Completed:
    """A network that was trained to the end."""

    seconds: float
    """Virtual time since the start."""
    row: int
    """Of the table."""


def simulate(table: Table, study: Study, workers: int = 8, seconds: float = np.inf) -> list[Completed]:
    """Run a study on a table until its budget or the time is used.

    Args:
        table: what training would give.
        study: trials, seed, sampler, objectives, limits and halving are used; the rest comes from the table.
        workers: virtual workers.
        seconds: virtual time after which the search ends.
    """
    engine = engine_of(table, study, workers)
    events: list[tuple[float, int, int]] = []
    """End of the next epoch, number of the trial, epochs by then."""
    completed: list[Completed] = []
    now = 0.0
    while now < seconds:
        while isinstance(job := engine.next(), Job):
            start(table, engine, job, now, events)
        engine.prepare()
        if not events:
            break
        now, number, epoch = heapq.heappop(events)
        trial = engine.journal.trials[number]
        row = table.rows[trial.training_id]
        last = epoch == table.epochs
        accuracy = float(table.accuracy[row, epoch - 1])
        result = EpochResult(epoch, accuracy, 0.0, float(table.seconds[row, epoch - 1]))
        decision = engine.report(number, Report(epoch=result, final=Final(accuracy, 0.0) if last else None))
        if last:
            completed.append(Completed(now, row))
        elif decision == "continue":
            heapq.heappush(events, (now + table.seconds[row, epoch], number, epoch + 1))
    return completed


def engine_of(table: Table, study: Study, workers: int) -> Engine:
    """Return the engine for a study on a table, with a journal in memory."""
    study = study.model_copy(
        update={
            "training": study.training.model_copy(update={"epochs": table.epochs}),
            "resources": study.resources.model_copy(update={"concurrent": workers}),
        }
    )
    return Engine(Journal(study, InMemoryStorage()), table)


def start(table: Table, engine: Engine, job: Job, now: float, events: list[tuple[float, int, int]]) -> None:
    """Measure, which takes no time, and begin the next epoch, if it is to be trained."""
    trial = engine.journal.trials[job.number]
    row = table.rows[trial.training_id]
    if job.measure:
        found = {}
        if table.throughput is not None:
            median = float(table.throughput[row])
            recorded = Measurement(median, median, median, 1, 1, "float32", "recorded", 1)
            found = dict.fromkeys(job.measure, recorded)
        if engine.report(job.number, Report(measured=found)) == "stop" or not job.trains:
            return
    epoch = len(trial.curve)
    heapq.heappush(events, (now + float(table.seconds[row, epoch]), job.number, epoch + 1))


def hypervolume_over_time(
    table: Table, completed: list[Completed], objectives: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the seconds at which the hypervolume grew, and its share of the whole table's.

    The reference point is the worst value of each objective in the table.
    """
    maximise = [QUANTITIES[o].maximised for o in objectives]
    points = np.stack([table.values(o) for o in objectives], 1)
    worst = np.where(maximise, points.min(0), points.max(0))
    whole = moocore.hypervolume(points, ref=worst, maximise=maximise)
    times: list[float] = []
    shares: list[float] = []
    front: NDArray[Any] = points[:0]
    for done in completed:
        front = np.concatenate([front, points[done.row : done.row + 1]])
        front = front[moocore.is_nondominated(front, maximise=maximise)]
        share = float(moocore.hypervolume(front, ref=worst, maximise=maximise)) / whole
        if not shares or share > shares[-1]:
            times.append(done.seconds)
            shares.append(share)
    return np.array(times), np.array(shares)
