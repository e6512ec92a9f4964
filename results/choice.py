"""The choice of a trial: those that keep some limits, and the best of them by a rule."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import moocore
import pandas as pd

from record.run import Run, RunError


class Rule(StrEnum):
    """What is best among the trials that keep the limits."""

    max_accuracy = "max-accuracy"
    """The highest accuracy; ties go to the higher throughput, then to fewer parameters."""
    max_throughput = "max-throughput"
    """The highest throughput; ties go to the higher accuracy."""
    knee = "knee"
    """Of the front, the largest sum of the objectives, each scaled to 0 (worst on it) to 1; ties: higher accuracy."""


ORDER = {
    Rule.max_accuracy: {"accuracy": False, "throughput": False, "params": True},
    Rule.max_throughput: {"throughput": False, "accuracy": False},
    Rule.knee: {"total": False, "accuracy": False},
}
"""What each rule sorts by, and whether ascending; what is missing comes last."""


def keeps(trials: pd.DataFrame, limits: Mapping[str, float]) -> "pd.Series[bool]":
    """Return whether each trial keeps all limits; a value that is not known keeps none.

    Args:
        trials: with the columns of `record.run.trials_frame`.
        limits: key, such as max_params, to the last value that keeps it.
    """
    kept = pd.Series(True, index=trials.index)
    for name, limit in limits.items():
        bound, _, column = name.partition("_")
        values = trials[column].astype(float)
        kept &= values <= limit if bound == "max" else values >= limit
    return kept


def choose(trials: pd.DataFrame, rule: Rule, objectives: Sequence[str], maximise: Sequence[bool]) -> int:
    """Return the number of the best complete trial; of equal ones the first.

    Args:
        trials: those that keep the limits, in any state, with the columns of `record.run.trials_frame`.
        rule: what is best.
        objectives: columns that `Rule.knee` weighs against each other.
        maximise: whether more is better, one an objective.

    Raises:
        ValueError: if no trial is complete, or none has the values that the rule looks at.
    """
    objectives = list(objectives)
    done = trials[trials["outcome"] == "complete"]
    if done.empty:
        raise ValueError("no complete trial keeps these limits; loosen them.")
    needed = {Rule.max_throughput: ["throughput"], Rule.knee: objectives}.get(rule, ["accuracy"])
    known = done.dropna(subset=needed).sort_index()
    if known.empty:
        raise ValueError(f"{rule} needs {' and '.join(needed)}, which no complete trial has; use another rule.")
    if rule is Rule.knee:
        best = moocore.is_nondominated(known[objectives].to_numpy(float), maximise=list(maximise), keep_weakly=True)
        known = known[best].assign(total=totals(known.loc[best, objectives], maximise))
    return int(known.sort_values(list(ORDER[rule]), ascending=list(ORDER[rule].values()), kind="stable").index[0])


def best_trial(run: Run) -> int:
    """Return the trial that is meant where none is named: of all complete ones the best by `Rule.max_accuracy`.

    Raises:
        RunError: if no trial is complete.
    """
    if "complete" not in set(run.trials["outcome"]):
        raise RunError(f"{run.source} has no complete trial yet.")
    return choose(run.trials, Rule.max_accuracy, run.objectives, run.maximise)


def totals(front: pd.DataFrame, maximise: Sequence[bool]) -> "pd.Series[float]":
    """Return the sum of the columns of a front, each scaled from 0, its worst, to 1, its best; all the same: 0."""
    total = pd.Series(0.0, index=front.index)
    for (_, values), more in zip(front.astype(float).items(), maximise, strict=True):
        worst, best = (values.min(), values.max()) if more else (values.max(), values.min())
        if best != worst:
            total += (values - worst) / (best - worst)
    return total
