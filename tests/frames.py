"""Runs made of rows, for what reads them."""

from typing import Any

import pandas as pd

from record.run import Run, typed
from record.study import study_of
from tests.made_runs import STUDY

SMALL = {
    "kind": "cifar",
    "stages": [{"channels": 4, "blocks": 1, "block": {"kind": "conv", "kernel": [3, 3], "groups": 1}}],
    "in_channels": 1,
    "size": [8, 8],
    "classes": 10,
    "head": 8,
}


def run_of(*rows: dict[str, Any], **study: Any) -> Run:
    """Return a run of trials; what a row leaves out is as in a complete trial."""
    complete = {"outcome": "complete", "config": SMALL, "params": 100, "macs": 1000, "training_macs": 2000, "seed": 0}
    frame = pd.DataFrame([{**complete, **row} for row in rows])
    frame.index.name = "trial"
    return run_with(frame, **study)


def run_with(frame: pd.DataFrame, **study: Any) -> Run:
    """Return a run that has this frame of trials, whatever its trials are."""
    run = Run(study_of(STUDY | study), [])
    run.trials = typed(frame)
    return run
