"""What figures show of a trial: names, units and scales, and how sure an accuracy is."""

from dataclasses import dataclass, replace

import pandas as pd

from results.frames import Run
from results.statistics import accuracy_interval


@dataclass(frozen=True)
class Quantity:
    """A column of the frame of trials, as it is shown."""

    name: str
    unit: str
    divisor: float = 1
    """Of the column, for the unit."""

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name} ({self.unit})"


QUANTITIES = {
    "accuracy": Quantity("accuracy", "%"),
    "throughput": Quantity("throughput", "img/s"),
    "latency": Quantity("latency", "ms a batch"),
    "relative": Quantity("throughput", "x base"),
    "macs": Quantity("FLOPs", "M", 1e6),
    "params": Quantity("params", "M", 1e6),
    "seconds": Quantity("training", "s"),
}
SEGMENTATION = ("segmentation_folder", "cityscapes")
"""Data whose accuracy is the mIoU."""
UNDER_WAY = ("running", "paused")


def segments(run: Run) -> bool:
    """Whether the accuracy of a run is the mIoU, which no interval of shares holds for."""
    return run.study["data"]["name"] in SEGMENTATION


def quantities(run: Run) -> dict[str, Quantity]:
    """Return what is known of any trial, by column; accuracy and training time once an epoch is done."""
    found = {
        n: q for n, q in QUANTITIES.items() if run.trials[n].fillna(0).any() or (n == "accuracy" and len(run.epochs))
    }
    if segments(run) and "accuracy" in found:
        found["accuracy"] = replace(found["accuracy"], name="mIoU")
    return found


def points(run: Run) -> pd.DataFrame:
    """Return the trials that a figure shows: with a result at full budget, stopped, or under way with an epoch done.

    The accuracy of the latter two is that of their last epoch. Columns `low` and `high`, in percent, are the 95 %
    interval of an accuracy at full budget where the number of validation images is known, else missing.
    """
    trials = run.trials
    last = run.epochs.groupby("trial")["accuracy"].last().reindex(trials.index).astype(float)
    unfinished = trials["outcome"].isin(["stopped", *UNDER_WAY])
    shown = trials.assign(accuracy=trials["accuracy"].mask(unfinished, last))
    shown = shown[unfinished | (trials["outcome"] == "complete")].dropna(subset="accuracy")
    known = ~shown["outcome"].isin(["stopped", *UNDER_WAY]) & shown["images"].notna() & (not segments(run))
    pairs = [
        accuracy_interval(accuracy, images) if sure else (None, None)
        for accuracy, images, sure in zip(shown["accuracy"], shown["images"], known, strict=True)
    ]
    bounds = pd.DataFrame(pairs, index=shown.index, columns=["low", "high"], dtype=float)
    return shown.join(bounds)
