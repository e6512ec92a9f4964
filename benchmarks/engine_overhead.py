"""Claim: the engine adds less than a tenth to 1,000 trials of a second on two workers, and asking takes under 50 ms.

Trials sleep and report made-up accuracies; everything else is real: Ray, the journal on disk, the surrogate sampler,
and the counting of each network's operators. Beside it, in the same run, plain Ray Tune with Optuna's multi-objective
TPE, its actors reused, on the same space; it shares the settings that silence Ray's own files and logs. Ray's own start
is not counted, that of its actors is. With the defaults it takes 20 minutes:
`python -m benchmarks.engine_overhead [--trials 1000] [--seconds 1] [--workers 2]`.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import optuna

from search import raytune  # first, as Ray reads its settings from the environment when it is imported

from ray import tune  # isort: skip
from ray.tune.search.optuna import OptunaSearch  # isort: skip

from benchmarks.timing import write_csv
from search.candidate import Final, Report
from search.engine import Engine
from search.journal import Entry, Journal
from search.networks import Description, SpaceNetworks
from search.study import Resources, Study
from search.training import EpochResult, Recipe
from spaces.cifar_mlp import CifarMLPSpace

IMAGE = (3, (32, 32), 10)
SPACE = CifarMLPSpace()


class Sleeper(tune.Trainable):
    """Takes its time and reports what a trial of one epoch would."""

    seconds: float

    def setup(self, config: dict[str, Any]) -> None:
        self.given = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.given = new_config
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(self.seconds)
        number = self.given["job"].number if "job" in self.given else self.given["number"]
        value = float(np.random.default_rng(number).uniform(10, 90))
        report = Report(epoch=EpochResult(1, value, 0.0, self.seconds), final=Final(value, 0.0))
        return {"report": report, "accuracy": value, "macs": 1.0, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


def sleeper(length: float) -> type[Sleeper]:
    class Sleeping(Sleeper):
        seconds = length

    return Sleeping


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

    def candidate(self) -> Entry | None:
        start, before = time.perf_counter(), TimedNetworks.describing
        entry = super().candidate()
        spent = time.perf_counter() - start
        CHOOSING.append((spent, spent - (TimedNetworks.describing - before)))
        return entry


CHOOSING: list[tuple[float, float]] = []


def ours(trials: int, seconds: float, workers: int, folder: str) -> float:
    """Return the seconds of a study."""
    study = Study(
        name="overhead",
        space=SPACE,
        training=Recipe(epochs=1),
        trials=trials,
        objectives=("accuracy", "macs"),
        resources=Resources(concurrent=workers, cpus=1),
        runs=folder,
    )
    study.folder.mkdir()
    engine = TimedEngine(study, Journal(study), TimedNetworks(SPACE, IMAGE))
    start = time.perf_counter()
    raytune.run(engine, study.resources, sleeper(seconds))
    spent = time.perf_counter() - start
    assert engine.trained() == trials
    return spent


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    SPACE.suggest(trial, *IMAGE)
    return {"number": trial.number}


def plain(trials: int, seconds: float, workers: int, folder: str) -> float:
    """Return the seconds of Ray Tune with OptunaSearch."""
    search = OptunaSearch(space=suggest, metric=["accuracy", "macs"], mode=["max", "min"], seed=0)
    tuner = tune.Tuner(
        tune.with_resources(sleeper(seconds), {"cpu": 1}),
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
    given = vars(parser.parse_args())
    ideal = given["trials"] * given["seconds"] / given["workers"]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        raytune.connect(Resources(concurrent=given["workers"]))
        for name, side in (("overhead_share", ours), ("plain_overhead_share", plain)):
            spent = side(**given, folder=folder)
            found[name] = round(spent / ideal - 1, 4)
            print(f"{side.__name__}: {spent:.1f} s; {ideal:.1f} s would be ideal", flush=True)
    last = CHOOSING[-max(1, given["trials"] // 10) :]
    at = given["trials"]
    found[f"ask_ms_at_{at}"] = round(1000 * statistics.mean(ask for _, ask in last), 1)
    found[f"ask_ms_longest_at_{at}"] = round(1000 * max(ask for _, ask in last), 1)
    found[f"choose_and_count_ms_at_{at}"] = round(1000 * statistics.mean(whole for whole, _ in last), 1)
    found["driver_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    write_csv("engine_overhead", [dict(found)], f"cpu{os.cpu_count()}", "float32")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
