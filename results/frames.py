"""A run as pandas frames: one row a trial, one row an epoch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from record.stored import upgraded


class RunError(ValueError):
    """A run that cannot be read; the message says what to give."""


BEFORE = ("training_macs", "training_params")
"""Counts of the network before its conversion, which are known of listed networks."""
DTYPES = {
    "outcome": "str",
    "reason": "str",
    "twin": "Int64",
    "origin": "str",
    "accuracy": "float64",
    "images": "Int64",
    "test": "float64",
    "test_images": "Int64",
    "throughput": "float64",
    "throughput_p10": "float64",
    "throughput_p90": "float64",
    "latency": "float64",
    "relative": "float64",
    "steady": "boolean",
    "host_bound": "boolean",
    "device": "str",
    "macs": "Int64",
    "params": "Int64",
    "training_macs": "Int64",
    "training_params": "Int64",
    "epochs": "Int64",
    "seconds": "float64",
    "start": "datetime64[us]",
    "end": "datetime64[us]",
    "seed": "Int64",
    "config": "object",
    "training_id": "str",
    "deploy_id": "str",
}
"""Columns of the frame of trials, apart from the parameters, and their types."""


@dataclass(frozen=True)
class Run:
    """A study that has been started, as its storage holds it."""

    name: str
    study: dict[str, Any]
    """What defined it."""
    objectives: list[str]
    maximise: list[bool]
    reference: dict[str, float]
    """Reference point of the hypervolume, fixed when the study started."""
    environments: list[dict[str, Any]]
    """Where and how it was run, one entry each time."""
    trials: pd.DataFrame
    epochs: pd.DataFrame


def read_run(run: str) -> Run:
    """Read a run.

    Args:
        run: a run folder, such as runs/default, or an Optuna storage URL and study name as URL#NAME.

    Raises:
        RunError: if there is no such run, or it holds no study.
    """
    study = open_study(run)
    attributes = study.user_attrs
    if "objectives" not in attributes:
        raise RunError(f"{run} holds the Optuna study {study.study_name}, but not one of run_search.py.")
    frozen = [t for t in study.get_trials(deepcopy=False) if t.state is not optuna.trial.TrialState.WAITING]
    return Run(
        name=study.study_name,
        study=upgraded(attributes["study"]),
        objectives=attributes["objectives"],
        maximise=[d == optuna.study.StudyDirection.MAXIMIZE for d in study.directions],
        reference=attributes.get("reference", {}),
        environments=attributes.get("environments", []),
        trials=trials_frame(frozen, attributes),
        epochs=epochs_frame(frozen),
    )


def open_study(run: str) -> optuna.Study:
    """Open the Optuna study of a run for reading."""
    url, _, name = run.rpartition("#")
    if "://" in run:
        if not url:
            raise RunError(f"{run} names a storage; add its study, as in {run}#NAME.")
        try:
            return optuna.load_study(study_name=name, storage=url)
        except (KeyError, ImportError, OSError) as error:
            raise RunError(f"{run} cannot be opened: {error}") from None
    path = Path(run) / "journal.log"
    if not path.is_file():
        known = sorted(str(p.parent) for p in Path("runs").glob("*/journal.log"))
        there = f"runs here: {', '.join(known)}" if known else "start one with run_search.py"
        raise RunError(f"{run} is not a run folder, since {path} does not exist; {there}.")
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        studies = storage.get_all_studies()
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError) as error:
        raise RunError(f"{path} is damaged ({error}); take it from a backup, or start anew with name=NEW.") from None
    if not studies:
        raise RunError(f"{path} holds no study.")
    return optuna.load_study(study_name=studies[0].study_name, storage=storage)


def trials_frame(trials: list[optuna.trial.FrozenTrial], attributes: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a trial, indexed by number.

    Columns: outcome, reason, twin, origin (the trial of an earlier run that answered); accuracy (percent, converted, at
    full budget; else missing) and the number of validation images judged, test (accuracy on the test images, where the
    study asks for it) and their number; throughput with p10 and p90 (img/s; the second measurement where there is one),
    latency (ms a batch), relative (to the baseline, measured in turn), steady (its spread was within the study's
    limit), host_bound (a GPU waits for its host where operators are launched one by one), device ("cpu" or the GPU that
    was measured); macs, params, and of listed networks the same in training; epochs trained, seconds of training;
    start, end; seed; config, training_id, deploy_id; and `param.NAME` for each
    parameter of the space. `attributes` are the study's.
    """
    twice = {
        trial.user_attrs["deploy_id"]: attributes[f"confirmed {trial.number}"]
        for trial in trials
        if f"confirmed {trial.number}" in attributes
    }
    rows = {trial.number: trial_row(trial, attributes["study"]["training"]["epochs"], twice) for trial in trials}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "trial"
    parameters = sorted(c for c in frame.columns if c not in DTYPES)
    return frame.reindex(columns=[*DTYPES, *parameters]).astype(DTYPES)


def trial_row(trial: optuna.trial.FrozenTrial, epochs: int, twice: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a trial of at most `epochs`; `twice` has second measurements by deploy id."""
    record, curve = trial.user_attrs, curve_of(trial)
    throughput = twice.get(record.get("deploy_id", "")) or record.get("throughput") or {}
    final = record.get("final") or {}
    unfinished = "paused" if 0 < record.get("granted", 0) <= len(curve) < epochs else "running"
    return {
        "outcome": record.get("outcome", "failed") if trial.state.is_finished() else unfinished,
        "reason": record.get("reason", ""),
        "twin": record.get("twin"),
        "origin": record.get("origin", ""),
        "accuracy": final.get("accuracy"),
        "images": final.get("images"),
        "test": (final.get("test") or {}).get("accuracy"),
        "test_images": final.get("test_images"),
        "throughput": throughput.get("median"),
        "throughput_p10": throughput.get("p10"),
        "throughput_p90": throughput.get("p90"),
        "latency": 1000 * throughput["batch"] / throughput["median"] if throughput else None,
        "relative": throughput.get("relative"),
        "steady": throughput.get("steady"),
        "host_bound": throughput.get("host_bound"),
        "device": throughput.get("device", ""),
        **{name: record.get("costs", {}).get(name) for name in ("macs", "params", *BEFORE)},
        "epochs": len(curve),
        "seconds": sum(r["seconds"] for r in curve),
        "start": trial.datetime_start,
        "end": trial.datetime_complete,
        **{name: record.get(name) for name in ("seed", "config", "training_id", "deploy_id")},
        **{f"param.{name}": value for name, value in trial.params.items()},
    }


def epochs_frame(trials: list[optuna.trial.FrozenTrial]) -> pd.DataFrame:
    """Return one row an epoch: trial, epoch, accuracy (percent, validation, unconverted), loss, seconds, waited.

    `waited` is how many of the seconds passed in waiting for measurements; 0 in runs that did not record it.
    """
    rows = [{"trial": t.number, **result} for t in trials for result in curve_of(t)]
    frame = pd.DataFrame(rows, columns=["trial", "epoch", "accuracy", "loss", "seconds", "waited"])
    return frame.fillna({"waited": 0.0})


def curve_of(trial: optuna.trial.FrozenTrial) -> list[dict[str, Any]]:
    """Return what each epoch gave."""
    record = trial.user_attrs
    curve: list[dict[str, Any]] = []
    while f"epoch {len(curve) + 1}" in record:
        curve.append(record[f"epoch {len(curve) + 1}"])
    return curve
