"""Runs made up in memory: real networks of a space, costs and curves that only look like real ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import optuna

from repmlp.networks import config_to_dict, deploy_id, training_id
from results.frames import Run, epochs_frame, trials_frame
from spaces.cifar_mlp import CifarMLPSpace

IMAGES = 5000
SPACE = CifarMLPSpace(channels=((8, 16), (16, 32), (32, 64)), groups=(1, 2, 4), head=64)
STUDY: dict[str, Any] = {
    "name": "made",
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


def made_run(
    outcomes: Sequence[str],
    objectives: Mapping[str, bool] | None = None,
    seed: int = 0,
    **study: Any,
) -> Run:
    """Return a run with a trial for each outcome.

    Args:
        outcomes: such as complete, stopped, running, failed.
        objectives: name to whether more is better; accuracy and throughput otherwise.
        seed: of everything random.
        study: keys that differ from those of `STUDY`.
    """
    objectives = objectives or {"accuracy": True, "throughput": True}
    rng = np.random.default_rng(seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = optuna.create_study(directions=["maximize"] * 2, sampler=optuna.samplers.RandomSampler(seed))
    attributes = {"study": STUDY | study}
    trials = []
    for outcome in outcomes:
        trial = asked.ask()
        config = SPACE.suggest(trial, 3, (32, 32), 10)
        record = made_record(config_to_dict(config), outcome, rng, attributes["study"]["training"]["epochs"])
        record |= {"training_id": training_id(config), "deploy_id": deploy_id(config), "seed": trial.number}
        trials.append(frozen(trial, record, outcome))
    return Run(
        name=attributes["study"]["name"],
        study=attributes["study"],
        objectives=list(objectives),
        maximise=list(objectives.values()),
        reference={"accuracy": 10.0, "throughput": 0.0} if set(objectives) == {"accuracy", "throughput"} else {},
        environments=[ENVIRONMENT],
        trials=trials_frame(trials, attributes),
        epochs=epochs_frame(trials),
    )


def made_record(config: Mapping[str, Any], outcome: str, rng: np.random.Generator, epochs: int) -> dict[str, Any]:
    """Return what a journal notes of a trial: wider stages with RepMLP are more accurate, and slower."""
    stages = config["stages"]
    size = sum(s["channels"] * s["blocks"] * (3 if s["block"]["kind"] == "repmlp" else 2) for s in stages)
    best = 50 + 40 * (1 - np.exp(-size / 300)) + rng.normal(0, 3)
    done = {"complete": epochs, "infeasible": 0, "failed": 1}.get(outcome, int(rng.integers(1, epochs)))
    curve = best * (1 - np.exp(-np.arange(1, done + 1) / 2)) + rng.normal(0, 1, done)
    median = float(2e6 / size * rng.uniform(0.8, 1.2))
    record: dict[str, Any] = {
        "config": config,
        "costs": {"params": size * 1_000 + int(rng.integers(1000)), "macs": size * 20_000 + int(rng.integers(1000))},
        "throughput": {
            "median": median,
            "p10": 0.9 * median,
            "p90": 1.1 * median,
            "batch": 64,
            "relative": median / 8000,
            "steady": True,
        },
    }
    for epoch, accuracy in enumerate(curve, start=1):
        record[f"epoch {epoch}"] = {"epoch": epoch, "accuracy": round(accuracy, 2), "loss": 1.0, "seconds": size / 20}
    if outcome == "complete":
        record["final"] = {"accuracy": round(100 * round(curve[-1] / 100 * IMAGES) / IMAGES, 2), "images": IMAGES}
    if outcome == "failed":
        record["reason"] = "the loss is not finite </script>"
    if outcome not in ("running", "paused"):
        record["outcome"] = outcome
    if outcome == "paused":
        record["granted"] = done
    return record


def frozen(trial: optuna.Trial, record: dict[str, Any], outcome: str) -> optuna.trial.FrozenTrial:
    """Return a trial as Optuna's storage would give it."""
    states = {"complete": "COMPLETE", "stopped": "PRUNED", "running": "RUNNING", "paused": "RUNNING"}
    state = optuna.trial.TrialState[states.get(outcome, "FAIL")]
    start = datetime(2026, 1, 1) + timedelta(minutes=trial.number)
    return optuna.trial.FrozenTrial(
        number=trial.number,
        state=state,
        value=None,
        values=[0.0, 0.0] if outcome == "complete" else None,
        datetime_start=start,
        datetime_complete=start + timedelta(minutes=5) if state.is_finished() else None,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=record,
        system_attrs={},
        intermediate_values={},
        trial_id=trial.number,
    )


def mixed_run(count: int, epochs: int = 9) -> Run:
    """Return a run of so many trials with every outcome among them, as a halving leaves them."""
    shares = {"complete": 0.35, "stopped": 0.59, "failed": 0.02, "running": 0.01, "paused": 0.02, "infeasible": 0.01}
    outcomes = np.random.default_rng(1).choice(list(shares), count, p=list(shares.values()))
    return made_run(outcomes.tolist(), training={"epochs": epochs, "precision": "float32"})
