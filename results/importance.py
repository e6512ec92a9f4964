"""Which parameters matter for each objective (PED-ANOVA, arXiv 2304.10255)."""

import warnings

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from record.run import Run
from results.front import complete
from results.parameters import asked

LEAST = 8
"""Complete trials below which nothing is said."""
TOP = 5
"""Trials that the evaluator wants to call good."""


def importance(run: Run) -> pd.DataFrame:
    """Return columns `parameter` and one an objective, whose shares sum to 1; the most important for accuracy first.

    A share says how much a parameter tells the best trials (a tenth of the complete ones, but at least five) from all
    of them. Spaces are conditional, so that not being asked counts as a value of its own. The frame is empty with fewer
    than `LEAST` complete trials.
    """
    trials = complete(run)
    given = asked(run).loc[trials.index].map(str)
    if len(trials) < LEAST or given.empty:
        return pd.DataFrame(columns=["parameter", *run.objectives])
    shares = {
        objective: evaluate(given, trials[objective].astype(float), more)
        for objective, more in zip(run.objectives, run.maximise, strict=True)
    }
    frame = pd.DataFrame(shares).rename_axis("parameter").sort_values("accuracy", ascending=False, kind="stable")
    return frame.reset_index()


def evaluate(given: pd.DataFrame, values: "pd.Series[float]", more: bool) -> dict[str, float]:
    """Return the share of each column of `given` in reaching the best of `values`."""
    names, known = [str(name) for name in given], values.dropna()
    if known.nunique() < 2:
        return dict.fromkeys(names, 0.0)
    offers: dict[str, BaseDistribution] = {name: CategoricalDistribution(sorted(set(given[name]))) for name in names}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if more else "minimize")
    for row, value in zip(given.loc[known.index].to_numpy(), known, strict=True):
        params = dict(zip(names, row, strict=True))
        study.add_trial(optuna.create_trial(params=params, distributions=offers, value=value))
    good = min(0.5, max(0.1, TOP / len(known)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Target and region quantiles select the same")  # then no parameter tells them
        shares = PedAnovaImportanceEvaluator(target_quantile=good).evaluate(study, names)
    total = sum(shares.values())
    return {name: shares[name] / total if total else 0.0 for name in names}
