"""Accuracies by what a network is: two parameters against each other (as Table 2), and where RepMLP goes (Table 3)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from record.run import Run, RunError
from repmlp import config_from_dict
from results.front import complete
from results.parameters import NOT_ASKED, asked


def pivot(run: Run, rows: str, columns: str, value: str = "accuracy") -> pd.DataFrame:
    """Return the mean of `value` over the complete trials, with their number, for two parameters: cells `94.50 (3)`.

    Args:
        run: with the trials.
        rows: parameter of the space, such as stage1.groups; its values are the index.
        columns: another one; its values are the columns. Trials that were not asked are values of their own.
        value: column of the frame of trials.

    Raises:
        RunError: if the space has no such parameter.
    """
    trials, given = complete(run).dropna(subset=value), asked(run)
    for name in (rows, columns):
        if name not in given:
            raise RunError(f"{name} is not a parameter of {run.name}; it has {', '.join(map(str, given))}.")
    keys = [given.loc[trials.index, name] for name in (rows, columns)]
    groups = trials[value].astype(float).groupby(keys)
    cells = groups.mean().map("{:.2f}".format) + " (" + groups.count().astype(str) + ")"
    table = cells.unstack(fill_value="")
    return table.sort_index(key=in_order).sort_index(axis=1, key=in_order)


def in_order(index: pd.Index) -> pd.Index:
    """Sort numbers by value, before words, before what was not asked."""
    return pd.Index([(v == NOT_ASKED, isinstance(v, str), v) for v in index], tupleize_cols=False)


def placement(run: Run) -> pd.DataFrame:
    """Return a row for each choice of stages with RepMLP, over the complete trials, the best mean accuracy first.

    Columns: stages, trials, mean accuracy, best accuracy (percent) and median throughput (img/s).
    """
    trials = complete(run)
    groups = trials.groupby(trials["config"].map(holders, na_action="ignore"))
    table = pd.DataFrame(
        {
            "trials": groups.size(),
            "mean accuracy": groups["accuracy"].mean(),
            "best accuracy": groups["accuracy"].max(),
            "median img/s": groups["throughput"].median().round().astype("Int64"),
        }
    )
    return table.rename_axis("RepMLP in").sort_values("mean accuracy", ascending=False).reset_index()


def holders(config: Mapping[str, Any]) -> str:
    """Say where a network, given as plain values, holds a RepMLP, such as `c3 + c4`."""
    return config_from_dict(config).placement()
