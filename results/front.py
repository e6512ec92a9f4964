"""The Pareto front of a run and its hypervolume over time."""

from collections.abc import Mapping
from typing import Any

import moocore
import numpy as np
import pandas as pd

from results.frames import Run


def front(run: Run) -> pd.DataFrame:
    """Return the trials that no other one beats in all objectives, one row a network, most accurate first."""
    done = complete(run)
    if done.empty:
        return done
    best = moocore.is_nondominated(done[run.objectives].to_numpy(float), maximise=run.maximise, keep_weakly=True)
    return done[best].sort_values("accuracy", ascending=False)


def complete(run: Run) -> pd.DataFrame:
    """Return the trials with a result at full budget, without those that another one answered for."""
    return run.trials[run.trials["outcome"] == "complete"]


def hypervolume_over_time(run: Run) -> pd.DataFrame:
    """Return columns `minutes` since the first trial and `hypervolume` after each complete trial.

    In the product of the objectives' units, against the reference point that the study fixed at its start, so that
    curves of one study compare.
    """
    done = complete(run).sort_values("end")
    if done.empty or not run.reference:
        return pd.DataFrame({"minutes": [], "hypervolume": []})
    points = done[run.objectives].to_numpy(float)
    reference = [run.reference[o] for o in run.objectives]
    volumes = [moocore.hypervolume(points[: i + 1], ref=reference, maximise=run.maximise) for i in range(len(points))]
    minutes = (done["end"] - run.trials["start"].min()).dt.total_seconds() / 60
    return pd.DataFrame({"minutes": minutes.to_numpy(), "hypervolume": np.array(volumes)})


def summary(config: Mapping[str, Any]) -> str:
    """Describe a network in one line, a stage at a time: width, depth, then h x w, g and kernels of its RepMLP."""
    return " | ".join(f"{s['channels']}x{s['blocks']} {block_summary(s['block'])}" for s in config["stages"])


def block_summary(block: Mapping[str, Any]) -> str:
    if block["kind"] == "conv":
        return "conv " + size(block["kernel"])
    parts = [f"RepMLP {size(block['partition'])} g{block['groups']}"]
    if block["kernels"]:
        parts.append("k" + "+".join(size(k) for k in block["kernels"]))
    if block["global_perceptron"]:
        parts.append(f"global/{block['reduction']}" if block["reduction"] > 1 else "global")
    return " ".join(parts)


def size(pair: list[int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
