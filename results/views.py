"""The tables that are shown: of the front and of all trials."""

import pandas as pd

from record.run import Run
from repmlp import config_from_dict
from results.front import front


def front_table(run: Run) -> pd.DataFrame:
    """Return the front: trial, accuracy (%), throughput (img/s, and times the baseline's), params, FLOPs, network."""
    return table(front(run))


def table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that are shown of some trials; FLOPs are the paper's, multiply-accumulates.

    A spread above the study's limit is marked with "!", and with "h" a network whose operators the host of a GPU
    launches more slowly than they run, so that its speed holds for replays of a CUDA graph alone.
    """
    rows = trials.reset_index()
    unsteady, host = rows["steady"].eq(False).fillna(False), rows["host_bound"].fillna(False)
    spreads = zip(rows["throughput_p10"], rows["throughput_p90"], unsteady, host, strict=True)
    return pd.DataFrame(
        {
            "trial": rows["trial"],
            "accuracy": rows["accuracy"],
            "img/s": rows["throughput"].round().astype("Int64"),
            "p10-p90": [spread(low, high) + "!" * bool(u) + "h" * bool(h) for low, high, u, h in spreads],
            "x base": rows["relative"].round(2),
            "params": rows["params"].astype("Int64"),
            "FLOPs (M)": rows["macs"] / 1e6,
            "network": [config_from_dict(c).describe() if isinstance(c, dict) else "" for c in rows["config"]],
        }
    )


def spread(low: float | None, high: float | None) -> str:
    return "" if low is None or pd.isna(low) else f"{low:,.0f}-{high:,.0f}"
