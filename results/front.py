"""The Pareto front of a run and its hypervolume over time."""

import numpy as np
import pandas as pd

from record.front import hypervolume, undominated
from record.run import Run


def front(run: Run, trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the trials that no other one beats in all objectives, one row a network, most accurate first.

    Of all trials of a run, or of those given.

    A trial without a value for an objective, such as a throughput that was not measured, is left out.
    """
    done = complete(run) if trials is None else trials[trials["outcome"] == "complete"]
    done = done.dropna(subset=run.objectives)
    if done.empty:
        return done
    best = undominated(done[run.objectives].to_numpy(float), run.maximise)
    return done[best].sort_values("accuracy", ascending=False)


def complete(run: Run) -> pd.DataFrame:
    """Return the trials with a result at full budget, without those that another one answered for."""
    return run.trials[run.trials["outcome"] == "complete"]


def hypervolume_over_time(run: Run) -> pd.DataFrame:
    """Return columns `minutes` since the first trial and `hypervolume` after each complete trial.

    In the product of the objectives' units, against the reference point that the study fixed at its start, so that
    curves of one study compare.
    """
    done = complete(run).dropna(subset=run.objectives).sort_values("end")
    if done.empty or not run.reference:
        return pd.DataFrame({"minutes": [], "hypervolume": []})
    points = done[run.objectives].to_numpy(float)
    volumes = [hypervolume(run.study, points[: i + 1].tolist(), run.reference) for i in range(len(points))]
    minutes = (done["end"] - run.trials["start"].min()).dt.total_seconds() / 60
    return pd.DataFrame({"minutes": minutes.to_numpy(), "hypervolume": np.array(volumes)})
