"""Our counts beside the paper's printed ones, cell by cell."""

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from importlib import resources

import pandas as pd

TABLES = (1,)
"""Tables of the paper that are in `results/paper/`."""


def compare(number: int, counts: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Set exact counts beside a table of the paper.

    Args:
        number: of the table.
        counts: row to `macs` and `params`.

    Returns:
        Columns row, macs, params, paper_macs_m, paper_params_m, match, paper_accuracy. The paper cuts its digits off
        instead of rounding, and so does the comparison.

    Raises:
        ValueError: if the table is not there.
    """
    if number not in TABLES:
        raise ValueError(f"--table {number} is not there; use one of {', '.join(map(str, TABLES))}.")
    file = resources.files("results.paper") / f"table{number}.csv"
    with file.open() as stream:
        printed = pd.read_csv(stream, dtype=str)
    rows = []
    for _, cells in printed.iterrows():
        ours = counts[cells["row"]]
        match = cut_as(ours["macs"], cells["macs_m"]) and cut_as(ours["params"], cells["params_m"])
        rows.append(
            {
                "row": cells["row"],
                "macs": ours["macs"],
                "params": ours["params"],
                "paper_macs_m": float(cells["macs_m"]),
                "paper_params_m": float(cells["params_m"]),
                "match": match,
                "paper_accuracy": float(cells["accuracy"]),
            }
        )
    return pd.DataFrame(rows)


def cut_as(count: int, printed: str) -> bool:
    """Whether `count`, in millions and cut to as many digits as `printed`, reads the same."""
    millions = Decimal(printed)
    return (Decimal(count) / 1_000_000).quantize(millions, rounding=ROUND_DOWN) == millions
