"""Our counts and speeds beside the paper's printed ones, cell by cell."""

import json
from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from importlib import resources

import pandas as pd

from results.table import Format, write

TITLES = {
    1: "CIFAR-10",
    2: "RepMLP in c4 of ResNet-50",
    3: "RepMLP in other stages of ResNet-50",
    4: "ImageNet",
    5: "faces, accuracy on MegaFace",
    6: "Cityscapes with PSPNet, accuracy is mIoU",
    7: "blocks in c3 and c4 of ResNet-50",
}
"""What each table of the paper in `results/paper/` is about."""
BASELINES = {2: "ResNet-50", 3: "none", 4: "ResNet-50 224", 5: "FaceResNet", 6: "ResNet-50", 7: "original"}
"""The row that the speeds of a table are compared with. Table 1 has no speeds."""
NOT_REBUILDABLE = {
    (5, "RepMLP-FaceRes"): "FLOPs and parameters: five 3x3 convolutions that the text keeps take 424.7M alone",
}
"""Rows that the paper's text does not describe as printed, and why."""
MEASURED = "paper_speed-cpu2-x86_64-float32-torch2.15.0.csv"
"""What `benchmarks.paper_speed` wrote, in `results/measured/`."""


def compare(number: int, counts: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """Set exact counts, and speeds where they were measured, beside a table of the paper.

    Args:
        number: of the table.
        counts: row to `macs` and `params`.

    Returns:
        Columns row, macs, params, paper_macs_m, paper_params_m, match and paper_accuracy; missing where the paper
        prints nothing. The paper cuts its digits off instead of rounding, and so does the comparison. `match` is a
        bool, or "not rebuildable" with the reason in the column `note`. Tables with speeds have paper_speed
        (images/s on a 1080Ti) and paper_ratio, to the speed of the baseline; ours, ours_low and ours_high are the
        measured ratio and its range.

    Raises:
        ValueError: if the table is not there.
    """
    if number not in TITLES:
        raise ValueError(f"--table {number} is not there; use one of {', '.join(map(str, TITLES))}.")
    with (resources.files("results.paper") / f"table{number}.csv").open() as stream:
        printed = pd.read_csv(stream, dtype=str).reindex(columns=["row", "accuracy", "speed", "macs_m", "params_m"])
    rows = printed["row"]
    notes = [NOT_REBUILDABLE.get((number, row)) for row in rows]
    cells = zip(rows, printed["macs_m"], printed["params_m"], notes, strict=True)
    frame = pd.DataFrame(
        {
            "row": rows,
            "macs": [counts[row]["macs"] for row in rows],
            "params": [counts[row]["params"] for row in rows],
            "paper_macs_m": printed["macs_m"].astype(float),
            "paper_params_m": printed["params_m"].astype(float),
            "match": ["not rebuildable" if note else matches(counts[row], m, p) for row, m, p, note in cells],
            "paper_accuracy": printed["accuracy"].astype(float),
        }
    )
    if number in BASELINES:
        frame["paper_speed"] = printed["speed"].astype(float)
        baseline = frame.loc[rows == BASELINES[number], "paper_speed"].item()
        frame["paper_ratio"] = (frame["paper_speed"] / baseline).round(3)
    speeds = measured(number)
    if not speeds.empty:
        ratios = speeds.set_index("row").reindex(rows)
        for name, column in (("ours", "ratio"), ("ours_low", "ratio_low"), ("ours_high", "ratio_high")):
            frame[name] = ratios[column].to_numpy()
    if any(notes):
        frame["note"] = notes
    return frame


def matches(ours: Mapping[str, int], macs_m: str, params_m: str) -> bool:
    """Whether counts read as the printed cells; one that is not printed agrees with any."""
    cells = ((ours["macs"], macs_m), (ours["params"], params_m))
    return all(cut_as(count, printed) for count, printed in cells if pd.notna(printed))


def cut_as(count: int, printed: str) -> bool:
    """Whether `count`, in millions and cut to as many digits as `printed`, reads the same."""
    millions = Decimal(printed)
    return (Decimal(count) / 1_000_000).quantize(millions, rounding=ROUND_DOWN) == millions


def measured(number: int) -> pd.DataFrame:
    """Return the measured speeds of a table, without rows if there are none."""
    file = resources.files("results.measured") / MEASURED
    if not file.is_file():
        return pd.DataFrame()
    with file.open() as stream:
        speeds = pd.read_csv(stream)
    return speeds[speeds["table"] == number]


def title(number: int) -> str:
    """Say what a compared table shows, and how its speeds were measured."""
    text = f"Table {number}, {TITLES[number]}: counted here, and as the paper prints them (cut, not rounded)"
    if number in BASELINES:
        text += f'; speeds as ratios to row "{BASELINES[number]}"'
    speeds = measured(number)
    if not speeds.empty:
        how = speeds.iloc[0]
        text += f", ours on {how['device']}, {how['dtype']}, batch {how['batch']}, torch {how['torch']}"
    return text


def write_table(number: int, frame: pd.DataFrame, style: Format) -> str:
    """Return one compared table as text."""
    heading = f"**{title(number)}**\n\n" if style is Format.md else ""
    return heading + write(frame, style, title(number))


def write_tables(frames: Mapping[int, pd.DataFrame], style: Format) -> str:
    """Return compared tables as one text: JSON by number, CSV with a first column `table`, or one below the other."""
    if style is Format.json:
        return json.dumps({n: json.loads(write(frame, style)) for n, frame in frames.items()}, indent=2)
    if style is Format.csv:
        return write(pd.concat(frames, names=["table"]).reset_index("table"), style)
    return "\n\n".join(write_table(number, frame, style) for number, frame in frames.items())
