"""Claim: 10,000 trials on 256 workers cost the driver no more a trial at the end than at the start, in time and memory.

The engine, its sampler, its halving and its journal are the real ones; workers and training are not: epochs pass on a
virtual clock, and what networks cost and learn is made up of their configurations, so that all that is measured is the
driver's. Networks are those of `cifar_mlp`, of which there are 9 million; their operators are not counted, which takes
as long for each (`choose_and_count_ms` of `benchmarks.engine.overhead`). A row is a block of trials: milliseconds of
processor that a new trial takes to choose (ask), a report to take (tell) and a task to hand out, those of all together
(busy), and what passed a trial, with waits for the storage; writes; memory, and what the storage takes.
`python -m benchmarks.engine.scale [--trials 10000] [--workers 256] [--sampler surrogate] [--storage URL]`.
"""

import argparse
import gc
import heapq
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import sqlalchemy
from numpy.typing import NDArray
from optuna.storages import BaseStorage

from benchmarks.timing import write_csv
from record.measure import Measurement
from record.recipe import Recipe
from record.resources import Resources
from record.study import Search
from record.trial import EpochResult, Final, Trial
from repmlp import config_to_dict, deploy_id, training_id
from repmlp.networks import NetworkConfig
from search.candidate import Job, Report
from search.engine import Engine, Next
from search.journal import Journal
from search.networks import Description
from search.samplers.surrogate import flat
from spaces.choices import Trial as Asked
from spaces.cifar_mlp import CifarMLPSpace
from spaces.named import named

IMAGE = (3, (32, 32), 10)
SPACE = CifarMLPSpace()
EPOCHS = 27
WRITES = "create_new_trial", "set_trial_param", "set_trial_user_attr", "set_trial_system_attr", "set_trial_state_values"


class MadeUpNetworks:
    """The networks of `cifar_mlp`, with counts and accuracies that are sums over their features."""

    def suggest(self, trial: Asked) -> NetworkConfig:
        return SPACE.suggest(trial, *IMAGE)

    def given(self, values: Mapping[str, Any]) -> NetworkConfig:
        return named("given", values, *IMAGE)

    def identify(self, network: NetworkConfig) -> tuple[dict[str, Any], str]:
        return config_to_dict(network), training_id(network)

    def describe(self, network: NetworkConfig) -> Description:
        config, name = self.identify(network)
        macs = round(1e6 * made_up("macs", config))
        return Description(config, name, deploy_id(network), {"params": macs // 10, "macs": macs})

    def baseline(self) -> None:
        """Return nothing: no network is measured."""


def made_up(what: str, config: Mapping[str, Any]) -> float:
    """Return a sum over the features of a network, each of which counts for 0 to 1."""
    return sum(weight(f"{what} {name} {value}") for name, value in flat(config).items())


@cache
def weight(feature: str) -> float:
    return crc32(feature.encode()) / 2**32


class Workers:
    """Workers on a virtual clock."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.now = engine, 0.0
        self.events: list[tuple[float, int, int]] = []
        """End of the next epoch, number of the trial, epochs by then."""

    def work(self) -> None:
        """Work the study off."""
        while True:
            while isinstance(job := self.engine.next(), Job):
                self.start(job)
            self.engine.prepare()
            if not self.events:
                return
            self.now, number, epoch = heapq.heappop(self.events)
            value = accuracy(self.engine.journal.trials[number], epoch)
            final = Final(value) if epoch == EPOCHS else None
            if (
                self.engine.report(number, Report(epoch=EpochResult(epoch, value, 0.0, 60.0), final=final))
                == "continue"
            ):
                self.advance(number, epoch)

    def start(self, job: Job) -> None:
        """Measure, which takes no time, and begin the next epoch, if it is to be trained."""
        if job.measure:
            speed = 1e5 / made_up("seconds", job.config)
            measured = Measurement(speed, speed, speed, 5, 10, "float32", "made up", 1)
            report = Report(measured=dict.fromkeys(job.measure, measured))
            if self.engine.report(job.number, report) == "stop" or not job.trains:
                return
        self.advance(job.number, job.trained)

    def advance(self, number: int, epoch: int) -> None:
        """Begin an epoch of 30 to 90 seconds."""
        seconds = 30 + 60 * weight(f"{number} {epoch}")
        heapq.heappush(self.events, (self.now + seconds, number, epoch + 1))


def accuracy(trial: Trial, epoch: int) -> float:
    """Return what a trial has after an epoch, percent."""
    return 95 * (1 - np.exp(-made_up("accuracy", trial.config) / 8)) * (1 - 0.5 * np.exp(-epoch / 6))


class Spent:
    """Seconds of calls, by what they were for."""

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = {}
        self.inner = 0.0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Note the seconds of a call, without those of other noted calls that it makes."""
        start, before = time.process_time(), self.inner
        yield
        spent = time.process_time() - start
        self.calls.setdefault(name, []).append(spent - (self.inner - before))
        self.inner = before + spent


class TimedEngine(Engine):
    """Notes how long it takes to choose a new trial, to take a report and to hand a task out."""

    clock: Spent

    def candidate(self) -> Trial | None:
        with self.clock.on("ask"):
            return super().candidate()

    def report(self, number: int, report: Report) -> Any:
        with self.clock.on("tell"):
            return super().report(number, report)

    def next(self) -> Next:
        with self.clock.on("hand"):
            return super().next()


class Blocks:
    """A row for every so many trials.

    Args:
        size: trials.
        stored: returns the bytes of the storage.
    """

    def __init__(self, size: int, stored: Callable[[], int]) -> None:
        self.size, self.stored = size, stored
        self.rows: list[dict[str, Any]] = []
        self.spent, self.writes = Spent(), 0
        self.begun, self.memory, self.disk = now(), resident(), stored()

    def count(self, storage: BaseStorage) -> None:
        """Count what is written to a storage."""

        def counted(call: Callable[..., Any]) -> Callable[..., Any]:
            def write(*args: Any, **kwargs: Any) -> Any:
                self.writes += 1
                return call(*args, **kwargs)

            return write

        for name in WRITES:
            setattr(storage, name, counted(getattr(storage, name)))

    def full(self, trials: int) -> None:
        """End a block, once there are so many trials more."""
        if trials < (len(self.rows) + 1) * self.size:
            return
        (seconds, busy), memory, disk = now() - self.begun, resident(), self.stored()
        row: dict[str, Any] = {"trials": trials}
        for name, calls in self.spent.calls.items():
            middle, high, most = np.quantile(calls, (0.5, 0.99, 1)) * 1000
            row |= {f"{name}_ms": round(middle, 2), f"{name}_p99_ms": round(high, 1), f"{name}_max_ms": round(most)}
        row |= {
            "busy_ms_a_trial": round(1000 * busy / self.size, 1),
            "ms_a_trial": round(1000 * seconds / self.size, 1),
            "trials_a_second": round(self.size / seconds, 2),
            "writes_a_second": round(self.writes / seconds),
            "writes_a_trial": round(self.writes / self.size, 1),
            "memory_mib": round(memory / 2**20),
            "memory_kib_a_trial": round((memory - self.memory) / self.size / 1024, 1),
            "storage_kib_a_trial": round((disk - self.disk) / self.size / 1024, 1),
        }
        self.rows.append(row)
        print(json.dumps(row), flush=True)
        self.spent.calls.clear()
        self.begun, self.memory, self.disk, self.writes = now(), memory, disk, 0


def now() -> NDArray[np.float64]:
    """Return seconds that pass, and those in which this process has a processor."""
    return np.array([time.perf_counter(), time.process_time()])


def resident() -> int:
    """Return the memory of this process, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size_of(study: Search) -> Callable[[], int]:
    """Return what tells the bytes that a study's storage takes; 0 where nothing is known of it."""
    if study.storage is None:
        path = study.folder / "journal.log"
        return lambda: path.stat().st_size if path.exists() else 0
    url = sqlalchemy.make_url(study.storage)
    if url.get_backend_name() != "postgresql":
        return lambda: 0
    database = sqlalchemy.create_engine(url)

    def size() -> int:
        with database.connect() as connection:
            return connection.execute(sqlalchemy.text("SELECT pg_database_size(current_database())")).scalar_one()

    return size


def work(study: Search, size: int) -> tuple[list[dict[str, Any]], float]:
    """Work a study off, and return a row a block and the virtual hours."""
    journal = Journal(study)
    blocks = Blocks(size, size_of(study))
    blocks.count(journal.optuna._storage)
    TimedEngine.clock = blocks.spent
    engine = TimedEngine(journal, MadeUpNetworks(), lambda _: blocks.full(len(journal.trials)))
    workers = Workers(engine)
    workers.work()
    assert engine.finished, engine.halted
    return blocks.rows, workers.now / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--sampler", default="surrogate")
    parser.add_argument("--storage", help="an Optuna storage URL, instead of a journal in a temporary folder")
    parser.add_argument("--plain-ask", action="store_true", help="take new trials by Optuna's own ask")
    parser.add_argument("--block", type=int, default=1000, help="trials a row")
    parser.add_argument("--save", default="", help="last part of the name of the file written")
    given = parser.parse_args()
    if given.plain_ask:
        Journal.ask = lambda self: self.optuna.ask()  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        study = Search(
            name=f"scale{os.getpid()}",
            space=SPACE,
            training=Recipe(epochs=EPOCHS),
            trials=given.trials,
            sampler=given.sampler,
            resources=Resources(concurrent=given.workers),
            storage=given.storage,
            runs=folder,
        )
        study.folder.mkdir()
        rows, hours = work(study, given.block)
        gc.collect()
        start = time.process_time()
        engine = Engine(Journal(study), MadeUpNetworks())
        reopened = time.process_time() - start
        assert engine.finished
    frame = pd.DataFrame(rows)
    print(frame.to_string(index=False))
    name = "-".join(filter(None, ("scale", given.sampler, given.save)))
    write_csv(name, rows, f"cpu{os.cpu_count()}", "float32")
    first, last = rows[0], rows[-1]
    figures = {
        "trials": len(engine.journal.trials),
        "workers": given.workers,
        "virtual_hours": round(hours, 1),
        "reopened_busy_s": round(reopened, 1),
        **{f"{name}_{end}": row[name] for name in first for end, row in (("first", first), ("last", last))},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
