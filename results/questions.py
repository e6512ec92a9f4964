"""What a search says of its parameters, as an ablation would: their importance, and accuracies by what a network is."""

import pandas as pd

from record.run import Run, RunError
from results.front import complete
from results.importance import LEAST, importance
from results.pivots import pivot, placement

MOST = 15
"""Parameters whose importance is listed."""


def questions(run: Run, rows: str | None = None, columns: str | None = None) -> dict[str, pd.DataFrame]:
    """Return tables by title: a pivot of two parameters if they are given, else importance and placement.

    Raises:
        RunError: if there are too few complete trials, or no such parameters.
    """
    done = len(complete(run))
    if (rows is None) != (columns is None):
        raise RunError("--rows and --columns go together, such as --rows c4.r --columns c4.groups.")
    if done < LEAST:
        raise RunError(f"{run.name} has {done} complete trials; at least {LEAST} are needed to tell what matters.")
    if rows is not None and columns is not None:
        table = pivot(run, rows, columns)
        table.columns = [f"{columns} {value}" for value in table.columns]
        return {f"Mean accuracy in percent, and complete trials, of {run.name}": table.reset_index()}
    shares = importance(run).head(MOST)
    shares[run.objectives] = 100 * shares[run.objectives]
    return {
        f"Importance of parameters in {done} complete trials, percent of each objective (PED-ANOVA)": shares,
        "Accuracy by the stages that hold a RepMLP": placement(run),
    }
