"""An ablation beside the paper's table: its cells, and where the order of the rows agrees."""

from importlib import resources
from itertools import combinations

import pandas as pd

from record.run import Run, RunError
from results.ablation import compared, p_value, results, split


def paper_rows(run: Run) -> pd.DataFrame:
    """Return the paper's table that the study names, indexed by row.

    Raises:
        RunError: if it names none.
    """
    number = getattr(run.study.space, "table", None)
    if number is None:
        raise RunError(f"{run.name} names no table of the paper; set space.table in the study, such as table: 1.")
    with (resources.files("results.paper") / f"table{number}.csv").open() as stream:
        return pd.read_csv(stream).set_index("row")


def beside_paper(table: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Return an ablation table with the paper's cells of the rows of the same names beside ours.

    They are accuracy and its difference to the base, percent, and FLOPs and params, in millions, as printed.
    """
    rows = paper.reindex(table["variant"]).reset_index(drop=True)
    base = rows["accuracy"].iloc[0]
    beside = {"accuracy": rows["accuracy"], "difference": (rows["accuracy"] - base).round(2).where(rows.index > 0)}
    beside |= {
        name: rows[column] for name, column in (("FLOPs (M)", "macs_m"), ("params (M)", "params_m")) if column in rows
    }
    return table.assign(**{f"paper {name}": values for name, values in beside.items()})


def agreement(run: Run, paper: pd.DataFrame) -> str:
    """Say in how many pairs of rows the order of accuracies is the paper's, and name the others."""
    scores = results(run)
    by_seed = scores.pivot(index="seed", columns="variant", values=split(scores))
    trained = scores.loc[scores["twin"].isna(), "variant"].unique()  # a row that is another one once more says nothing
    named = [name for name in trained if name in paper.index]
    pairs, reversed_ = 0, []
    for first, second in combinations(named, 2):
        printed = paper.loc[first, "accuracy"] - paper.loc[second, "accuracy"]
        found = compared(by_seed[[first, second]])
        if found is None or printed == 0:
            continue
        pairs += 1
        if found.mean * printed <= 0:
            above, below = (first, second) if found.mean > 0 else (second, first)
            sure = "p " + p_value(found.p) if found.p is not None else "too few seeds to tell"
            reversed_.append(f"{above} above {below} by {abs(found.mean):.2f} ({sure})")
    others = f" The others, with uncorrected p: {'; '.join(reversed_)}." if reversed_ else ""
    return f"{pairs - len(reversed_)} of {pairs} pairs of rows are in the paper's order.{others}"
