"""Runs made of rows, for what reads them."""

from typing import Any

import pandas as pd

from results.frames import DTYPES, Run

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
    frame = frame.reindex(columns=[*DTYPES, *(c for c in frame if c not in DTYPES)]).astype(
        {name: kind for name, kind in DTYPES.items() if not name.startswith(("start", "end"))}
    )
    return Run(
        name="made",
        study={"space": {}, "limits": {}, "data": {}, "training": {}, "measure": {}, **study},
        objectives=["accuracy", "throughput"],
        maximise=[True, True],
        reference={},
        environments=[],
        trials=frame,
        epochs=pd.DataFrame({"trial": [], "epoch": [], "accuracy": [], "loss": [], "seconds": []}),
    )
