"""The table of the front."""

import pandas as pd

from record.quantities import QUANTITIES
from record.run import Run
from repmlp import config_from_dict
from results.front import front


def front_table(run: Run) -> pd.DataFrame:
    """Return the front: trial, accuracy (%), throughput (img/s, and times the baseline's), counts, network.

    The counts are params, FLOPs, which are the paper's, multiply-accumulates, and what else the study judges by. A
    spread above the study's limit is marked with "!", and with "h" a network whose operators the host of a GPU launches
    more slowly than they run, so that its speed holds for replays of a CUDA graph alone.
    """
    rows = front(run).reset_index()
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
            **{q.axis: rows[q.name] / q.divisor for q in (QUANTITIES["macs"], *run.study.extra)},
            "network": [config_from_dict(c).describe() if isinstance(c, dict) else "" for c in rows["config"]],
        }
    )


def spread(low: float | None, high: float | None) -> str:
    return "" if low is None or pd.isna(low) else f"{low:,.0f}-{high:,.0f}"
