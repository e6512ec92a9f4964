"""Claim: the engine adds less than a tenth to 1,000 trials of a second on two workers, and asking takes under 50 ms.

On plain processes of this machine it adds at most a twentieth. Trials sleep and report made-up accuracies; everything
else is real: workers, the journal on disk, the surrogate sampler, and the counting of each network's operators. Beside
it, in the same run, plain Ray Tune with Optuna's multi-objective TPE, its actors reused, on the same space; it shares
the settings that silence Ray's own files and logs. Ray's own start is not counted, that of workers is. With the
defaults it takes half an hour: `python -m benchmarks.engine.overhead [--trials 1000] [--seconds 1] [--workers 2]`.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from typing import Any, Literal

import numpy as np
import optuna

from search.backends import raytune  # first, as Ray reads its settings from the environment when it is imported

from ray import tune  # isort: skip
from ray.tune.search.optuna import OptunaSearch  # isort: skip

from benchmarks.timing import write_csv
from record.recipe import Recipe
from record.resources import Resources
from record.study import Search
from record.trial import EpochResult, Final, Trial
from search.backends import run
from search.candidate import Candidate, Job, Report
from search.data import Shard
from search.engine import Engine
from search.journal import Journal
from search.networks import Description, SpaceNetworks
from spaces.cifar_mlp import CifarMLPSpace

IMAGE = (3, (32, 32), 10)
SPACE = CifarMLPSpace()


def made_up(number: int, seconds: float) -> Report:
    """Take a while, and return what a trial of one epoch would."""
    time.sleep(seconds)
    value = float(np.random.default_rng(number).uniform(10, 90))
    return Report(epoch=EpochResult(1, value, 0.0, seconds), final=Final(value, 0.0))


class Sleeper(Candidate):
    """A candidate that sleeps as long as SLEEP says."""

    def __init__(self, job: Job, shard: Shard = (0, 1)) -> None:
        super().__init__(job, shard)
        self.unmeasured = {}

    def advance(self) -> Report:
        return made_up(self.job.number, float(os.environ["SLEEP"]))


class PlainSleeper(tune.Trainable):
    """The same for plain Ray Tune."""

    def setup(self, config: dict[str, Any]) -> None:
        self.number = config["number"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        report = made_up(self.number, float(os.environ["SLEEP"]))
        assert report.final is not None
        return {"accuracy": report.final.accuracy, "macs": 1.0, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


class TimedNetworks(SpaceNetworks):
    """Notes how long it takes to count networks."""

    describing = 0.0

    def describe(self, network: Any) -> Description:
        start = time.perf_counter()
        try:
            return super().describe(network)
        finally:
            TimedNetworks.describing += time.perf_counter() - start


class TimedEngine(Engine):
    """Notes how long each new trial takes to choose, all told and without its counts."""

    def candidate(self) -> Trial | None:
        start, before = time.perf_counter(), TimedNetworks.describing
        trial = super().candidate()
        spent = time.perf_counter() - start
        CHOOSING.append((spent, spent - (TimedNetworks.describing - before)))
        return trial


CHOOSING: list[tuple[float, float]] = []


def ours(backend: Literal["ray", "local"], trials: int, workers: int, folder: str) -> float:
    """Return the seconds of a study on a backend."""
    from benchmarks.engine.overhead import Sleeper  # by the name under which workers find it, not __main__

    study = Search(
        name=backend,
        space=SPACE,
        training=Recipe(epochs=1),
        trials=trials,
        objectives=("accuracy", "macs"),
        resources=Resources(concurrent=workers, cpus=1, backend=backend),
        runs=folder,
    )
    study.folder.mkdir()
    engine = TimedEngine(Journal(study), TimedNetworks(SPACE, IMAGE))
    start = time.perf_counter()
    run(engine, Sleeper)
    spent = time.perf_counter() - start
    assert engine.trained() == trials
    return spent


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    SPACE.suggest(trial, *IMAGE)
    return {"number": trial.number}


def plain(trials: int, workers: int, folder: str) -> float:
    """Return the seconds of Ray Tune with OptunaSearch."""
    search = OptunaSearch(space=suggest, metric=["accuracy", "macs"], mode=["max", "min"], seed=0)
    tuner = tune.Tuner(
        tune.with_resources(PlainSleeper, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=trials, max_concurrent_trials=workers, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=folder, name="plain", verbose=0),
    )
    start = time.perf_counter()
    results = tuner.fit()
    spent = time.perf_counter() - start
    assert len(results) == trials
    return spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    os.environ["SLEEP"] = str(given.seconds)
    ideal, size = given.trials * given.seconds / given.workers, (given.trials, given.workers)
    found: dict[str, float] = {}

    def note(name: str, spent: float) -> None:
        found[name] = round(spent / ideal - 1, 4)
        print(f"{name}: {spent:.1f} s; {ideal:.1f} s would be ideal", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        note("local_overhead_share", ours("local", *size, folder))
        asked = list(CHOOSING)
        raytune.connect(Search(name="ray", resources=Resources(concurrent=given.workers)))
        note("overhead_share", ours("ray", *size, folder))
        note("plain_overhead_share", plain(*size, folder))
    last, at = asked[-max(1, given.trials // 10) :], given.trials
    found[f"ask_ms_at_{at}"] = round(1000 * statistics.mean(ask for _, ask in last), 1)
    found[f"ask_ms_longest_at_{at}"] = round(1000 * max(ask for _, ask in last), 1)
    found[f"choose_and_count_ms_at_{at}"] = round(1000 * statistics.mean(whole for whole, _ in last), 1)
    found["driver_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    write_csv("engine_overhead", [dict(found)], f"cpu{os.cpu_count()}", "float32")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
