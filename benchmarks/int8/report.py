"""Claim: what 8 bits cost, as tables: from the rows of `python -m benchmarks.int8` to `results/measured/int8.md`.

`python -m benchmarks.int8.report results/measured/int8 > results/measured/int8.md`
"""

import argparse
import platform
from pathlib import Path

import pandas as pd

from benchmarks.int8.methods import DEFAULT, FLOAT
from results.statistics import difference
from search.environment import processor

TOLD = "weights alone, per tensor", "weights alone", "whole range", DEFAULT
GOAL = -0.5
"""Points that a network may lose."""


def losses(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return for each network and method the differences to float32, a row a seed."""
    scores = rows.pivot(index=["run", "network", "seed"], columns="method", values=split)
    return scores.sub(scores[FLOAT], axis=0).drop(columns=FLOAT)


def interval(rows: pd.DataFrame, method: str) -> str:
    """Return the mean difference of a method over seeds with its 95 % interval, where seeds allow one."""
    both = rows.pivot(index="seed", columns="method", values="test")[[method, FLOAT]].dropna()
    if both.empty:
        return ""
    found = difference(both[method], both[FLOAT])
    around = "" if found.low is None else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{around}"


def networks(rows: pd.DataFrame, speeds: pd.DataFrame) -> pd.DataFrame:
    """Return a row a network: its accuracy on the test images in float32, what methods change, and the speed-up."""
    found = []
    for name, group in rows.groupby("network", sort=False):
        exact = group[group["method"] == FLOAT]
        fast = speeds[speeds["network"] == name].set_index("batch")["speed_up"] if len(speeds) else pd.Series()
        found.append(
            {
                "network": name,
                "seeds": exact["seed"].nunique(),
                FLOAT: f"{exact['test'].mean():.2f}" + (f" ± {exact['test'].std():.2f}" if len(exact) > 1 else ""),
                **{method: interval(group, method) for method in TOLD},
                "max / rms of FC3": "" if pd.isna(crest := exact["fc3_alone"].mean()) else f"{crest:.1f}",
                "merged": "" if pd.isna(crest := exact["fc3_merged"].mean()) else f"{crest:.1f}",
                "of convs": f"{exact['others'].mean():.1f}",
                **{f"x, batch {batch}": f"{value:.2f}" for batch, value in fast.items()},
            }
        )
    return pd.DataFrame(found).fillna("")


def methods(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method and a column a network: the mean difference over seeds on the test images."""
    full = rows.groupby("network")["method"].nunique()
    known = rows[rows["network"].isin(full[full == full.max()].index)]
    order = [name for name in known["method"].unique() if name != FLOAT]
    test = losses(known, "test").groupby("network", sort=False).mean().T.loc[order]
    test.insert(0, "validation, mean", losses(known, "validation").groupby("network").mean().mean())
    return test.map("{:+.2f}".format).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="FILE of FILE.csv and FILE-speed.csv")
    given = parser.parse_args().rows
    rows = pd.read_csv(f"{given}.csv")
    speed = Path(f"{given}-speed.csv")
    speeds = pd.read_csv(speed) if speed.is_file() else pd.DataFrame()
    print(networks(rows, speeds).to_markdown(index=False, disable_numparse=True))
    print()
    print(methods(rows).to_markdown(index=False, disable_numparse=True))
    print(f"\nMeasured on {processor()}, {platform.machine()}.")


if __name__ == "__main__":
    main()
