"""What figures show of a run, in which colours: which quantities are known, the trials, and how sure an accuracy is."""

from dataclasses import replace

import pandas as pd

from record.quantities import Quantity
from record.run import Run
from results.statistics import accuracy_interval

# Colours that colour-blind readers tell apart (Okabe and Ito), and what each stands for.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#000000")
"""For values that are no numbers; without the yellow, which is too faint on white."""
STATES = {"front": "#d55e00", "complete": "#0072b2", "under way": "#009e73", "stopped": "#999999", "failed": "#cc79a7"}
ABSENT = "#999999"
"""Of a trial that was not asked."""
EXCLUDED = "#dddddd"
"""Of a trial that exceeds a limit."""

UNDER_WAY = ("running", "paused", "confirming")


def segments(run: Run) -> bool:
    """Whether the accuracy of a run is the mIoU, which no interval of shares holds for."""
    return run.study.data.task == "segmentation"


def quantities(run: Run) -> dict[str, Quantity]:
    """Return what is known of any trial, by column; accuracy and training time once an epoch is done."""
    every = {q.name: q for q in run.study.known}
    found = {n: q for n, q in every.items() if run.trials[n].fillna(0).any() or (n == "accuracy" and len(run.epochs))}
    if segments(run) and "accuracy" in found:
        found["accuracy"] = replace(found["accuracy"], title="mIoU")
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
