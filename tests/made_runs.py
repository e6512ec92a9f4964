"""Runs made up in memory: real networks of a space, costs and curves that only look like real ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from record.measure import Measurement
from record.run import Run
from record.study import study_of
from record.trial import EpochResult, Final, State, Trial
from repmlp.networks import config_to_dict, deploy_id, training_id
from search.samplers.proposing import Draw
from spaces.cifar_mlp import CifarMLPSpace

IMAGES = 5000
SPACE = CifarMLPSpace(channels=((8, 16), (16, 32), (32, 64)), groups=(1, 2, 4), head=64)
STUDY: dict[str, Any] = {
    "name": "made",
    "space": {"name": "cifar_mlp", "groups": [1, 2, 4], "head": 64},
    "data": {"name": "cifar10"},
    "training": {"epochs": 9, "precision": "float32"},
    "measure": {"batch": 64, "dtype": "float32"},
    "seed": 0,
}
ENVIRONMENT: dict[str, Any] = {
    "date": "2026-01-01T00:00:00+00:00",
    "command": "python run_search.py studies/made.yaml",
    "commit": "0123abc",
    "processor": "a processor",
    "cores": 2,
    "gpu": None,
    "system": "Linux",
    "python": "3.11",
    "packages": {"torch": "2"},
}


def made_run(outcomes: Sequence[str], objectives: Sequence[str] = (), seed: int = 0, **study: Any) -> Run:
    """Return a run with a trial for each outcome.

    Args:
        outcomes: such as complete, stopped, running, failed.
        objectives: names; accuracy and throughput otherwise.
        seed: of everything random.
        study: keys that differ from those of `STUDY`.
    """
    objectives = list(objectives or ("accuracy", "throughput"))
    rng = np.random.default_rng(seed)
    made = study_of(STUDY | {"objectives": objectives} | study)
    trials = []
    for number, outcome in enumerate(outcomes):
        asked = Draw(rng)
        config = SPACE.suggest(asked, 3, (32, 32), 10)
        trial = made_trial(number, config_to_dict(config), State(outcome), rng, made.training.epochs)
        trial.params, trial.training_id, trial.deploy_id = asked.params, training_id(config), deploy_id(config)
        trials.append(trial)
    reference = {"accuracy": 10.0, "throughput": 0.0} if objectives == ["accuracy", "throughput"] else {}
    return Run(made, trials, reference, [ENVIRONMENT])


def made_trial(number: int, config: Mapping[str, Any], state: State, rng: np.random.Generator, epochs: int) -> Trial:
    """Return a trial: wider stages with RepMLP are more accurate, and slower."""
    stages = config["stages"]
    size = sum(s["channels"] * s["blocks"] * (3 if s["block"]["kind"] == "repmlp" else 2) for s in stages)
    best = 50 + 40 * (1 - np.exp(-size / 300)) + rng.normal(0, 3)
    done = {"complete": epochs, "infeasible": 0, "failed": 1}.get(state, int(rng.integers(1, epochs)))
    curve = best * (1 - np.exp(-np.arange(1, done + 1) / 2)) + rng.normal(0, 1, done)
    median = float(2e6 / size * rng.uniform(0.8, 1.2))
    start = datetime(2026, 1, 1) + timedelta(minutes=number)
    trial = Trial(
        number,
        config=dict(config),
        costs={"params": size * 1_000 + int(rng.integers(1000)), "macs": size * 20_000 + int(rng.integers(1000))},
        seed=number,
        granted=done if state is State.paused else 0,
        state=state,
        reason="the loss is not finite </script>" if state is State.failed else "",
        measured={
            "default": Measurement(
                median, 0.9 * median, 1.1 * median, 10, 64, "float32", "cpu", 1, relative=median / 8000, steady=True
            )
        },
        curve=[EpochResult(e, round(float(a), 2), 1.0, size / 20) for e, a in enumerate(curve, start=1)],
        start=start,
        end=None if state.open else start + timedelta(minutes=5),
    )
    if state is State.complete:
        trial.final = Final(round(100 * round(curve[-1] / 100 * IMAGES) / IMAGES, 2), images=IMAGES)
    return trial


def mixed_run(count: int, epochs: int = 9) -> Run:
    """Return a run of so many trials with every outcome among them, as a halving leaves them."""
    shares = {"complete": 0.35, "stopped": 0.59, "failed": 0.02, "running": 0.01, "paused": 0.02, "infeasible": 0.01}
    outcomes = np.random.default_rng(1).choice(list(shares), count, p=list(shares.values()))
    return made_run(outcomes.tolist(), training={"epochs": epochs, "precision": "float32"})
