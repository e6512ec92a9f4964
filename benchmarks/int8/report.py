"""Claim: what 8 bits cost, as tables: from the rows of `python -m benchmarks.int8`.

Differences are of accuracies on the test images, in points, means over seeds with their 95 % interval where there are
three. `python -m benchmarks.int8.report results/measured/int8`
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.int8.methods import DEFAULT, FLOAT, METHODS
from results.statistics import difference

TOLD = "weights alone, per tensor", "weights alone", "whole range", DEFAULT


def differences(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the differences of methods to float32, in points, a row a trained network."""
    scores = rows.pivot(index=["network", "seed"], columns="method", values=split)
    return scores.drop(columns=FLOAT).sub(scores[FLOAT], axis=0)


def told(found: "pd.Series[float]") -> str:
    """Return a mean difference over seeds with its interval."""
    found = found.dropna()
    if found.empty:
        return ""
    of_seeds = difference(found, [0.0] * len(found))
    around = "" if of_seeds.low is None else f" [{of_seeds.low:+.2f}, {of_seeds.high:+.2f}]"
    return f"{of_seeds.mean:+.2f}{around}"


def by_network(rows: pd.DataFrame, speeds: pd.DataFrame) -> pd.DataFrame:
    """Return a row a network: accuracy in float32, what some methods change, how wide rows are, the speed-up."""
    test, found = differences(rows, "test"), []
    for name, group in rows[rows["method"] == FLOAT].groupby("network", sort=False):
        spread = f" ± {group['test'].std():.2f}" if len(group) > 1 else ""
        row = {"network": name, "seeds": len(group), FLOAT: f"{group['test'].mean():.2f}{spread}"}
        row |= {method: told(test.loc[name][method]) for method in TOLD if method in test}
        for title, column in (("FC3", "fc3_alone"), ("merged", "fc3_merged"), ("others", "others")):
            row[title] = "" if pd.isna(width := group[column].mean()) else f"{width:.1f}"
        for _, speed in speeds[speeds["network"] == name].iterrows() if len(speeds) else ():
            row[f"x, batch {speed['batch']}"] = f"{speed['speed_up']:.2f}"
        found.append(row)
    return pd.DataFrame(found).fillna("")


def by_method(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method: mean differences over seeds on the test images, and over all on the validation images."""
    counts = rows.groupby("network")["method"].nunique()
    full = rows[rows["network"].isin(counts.index[counts > len(METHODS) // 2])]
    order = [method for method in METHODS if method in set(full["method"]) - {FLOAT}]
    table = differences(full, "test").groupby("network", sort=False).mean().T.loc[order]
    validation = differences(full, "validation").groupby("network").mean().mean()[order]
    table.insert(0, "all, validation", validation)
    return table.map(lambda value: "" if pd.isna(value) else f"{value:+.2f}").reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", help="FILE of FILE.csv and FILE-speed.csv")
    given = parser.parse_args().rows
    rows, speed = pd.read_csv(f"{given}.csv"), Path(f"{given}-speed.csv")
    penalised = rows["run"].str.contains("range")
    rows["network"] = rows["network"].where(~penalised, rows["network"] + ", range kept")
    for table in (by_network(rows, pd.read_csv(speed) if speed.is_file() else pd.DataFrame()), by_method(rows)):
        print(table.to_markdown(index=False, disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
