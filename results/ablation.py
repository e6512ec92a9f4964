"""The ablation table: every variant against the base, seed by seed, with its costs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from record.quantities import Quantity
from record.run import Run, RunError
from record.study import Comparison
from results.statistics import LEAST, Difference, accuracy_interval, difference, holm


def ablation_table(run: Run) -> pd.DataFrame:
    """Return a row for each network that a study lists, the base first.

    Columns: variant; n, seeds that gave a result; mean accuracy (percent, test images where the study reads them, else
    validation) and its standard deviation; mean difference to the base, paired by seed, with its 95 % interval (low,
    high), p of the paired t-test, the same corrected for the number of variants (Holm), and p of Wilcoxon's
    signed-rank test; mean accuracy on the validation images; params and macs of the converted network, macs in
    training; throughput (img/s) and its ratio to the base, measured in turn; what else the study judges by; a note.
    Missing where nothing can be concluded. A row "before conversion" has the counts in training.

    Raises:
        RunError: if the study lists no networks, or none has a result yet.
    """
    scores = results(run)
    column = split(scores)
    base = scores["variant"].iloc[0]
    by_seed = scores.pivot(index="seed", columns="variant", values=column)
    rows: list[dict[str, Any]] = []
    for name, group in scores.groupby("variant", sort=False):
        measured = group["accuracy"].notna().any()
        before = change_of(run, str(name)) == "before_conversion"
        known = group.dropna(subset=[column])
        found = compared(by_seed[[name, base]]) if name != base and measured else None
        training = group["training_macs"].iloc[0]
        rows.append(
            {
                "variant": name,
                "n": len(known),
                "accuracy": known[column].mean(),
                "sd": known[column].std() if len(known) > 1 else None,
                "difference": found and found.mean,
                "low": found and found.low,
                "high": found and found.high,
                "p": found and found.p,
                "p_holm": None,
                "p_ranks": found and found.p_ranks,
                "validation": known["accuracy"].mean(),
                "params": group["training_params" if before else "params"].iloc[0],
                "macs": training if before else group["macs"].iloc[0],
                "training_macs": training,
                "throughput": None if before else group["throughput"].median(),
                "ratio": None if before else group["relative"].median(),
                **{q.name: group[q.name].median() for q in run.study.extra},
                "note": note(group, found, column),
            }
        )
    frame = pd.DataFrame(rows)
    frame["p_holm"] = holm([None if pd.isna(p) else float(p) for p in frame["p"]])
    return frame.astype(dict.fromkeys(("n", "params", "macs", "training_macs"), "Int64")).astype(
        dict.fromkeys(("sd", "difference", "low", "high", "p", "p_holm", "p_ranks", "ratio"), "float64")
    )


def results(run: Run) -> pd.DataFrame:
    """Return the trials of a study that lists networks, with their names as `variant`, the first seed first."""
    if not isinstance(run.study, Comparison):
        raise RunError(f"{run.name} is a search; it lists no networks that are trained with the same seeds.")
    trials = run.trials[run.trials["config"].notna()].copy()
    names = trials.get("param.network", pd.Series(pd.NA, index=trials.index))
    trials["variant"] = names.fillna(sole_name(run)).astype(str)
    if trials["accuracy"].notna().sum() == 0:
        raise RunError(f"{run.name} has no result yet: {', '.join(sorted(set(trials['outcome']))) or 'no trial'}.")
    return trials.drop_duplicates(["variant", "seed"], keep="last")  # what failed was tried again


def sole_name(run: Run) -> str:
    """Return what the network of a study that lists one is called, which is no parameter."""
    return run.study.listed[0]


def split(scores: pd.DataFrame) -> str:
    """Return the column of the accuracy that counts: that on the test images, if all trained networks have it."""
    return "test" if scores.dropna(subset=["accuracy"])["test"].notna().all() else "accuracy"


def change_of(run: Run, name: str) -> Any:
    """Return how the study describes a variant."""
    return getattr(run.study.space, "variants", {}).get(name)


def compared(pair: pd.DataFrame) -> Difference | None:
    """Compare the first column with the second over the seeds that have both."""
    both = pair.dropna()
    return difference(both.iloc[:, 0], both.iloc[:, 1]) if len(both) else None


def note(group: pd.DataFrame, found: Difference | None, column: str) -> str:
    """Say what a reader has to know of a row, whose accuracies are in a column."""
    parts = []
    known = group.dropna(subset=[column])
    if len(known) == 1 and pd.notna(count := known["test_images" if column == "test" else "images"].iloc[0]):
        low, high = accuracy_interval(known[column].iloc[0], int(count))
        parts.append(f"{low:.1f} to {high:.1f} (95 %) by its {int(count):,} images alone")
    if (group["twin"].notna()).all():
        parts.append("the same network and trainings as another row")
    failed = group[group["outcome"] == "failed"]
    if len(failed):
        parts.append(f"{len(failed)} failed: {failed['reason'].iloc[0]}")
    if found is not None and found.n < LEAST:
        parts.append(f"{found.n} of {LEAST} seeds: nothing can be concluded")
    return "; ".join(parts)


def title(run: Run, table: pd.DataFrame) -> str:
    """Say what a table shows."""
    tested = split(results(run)) == "test"
    seeds = f"{table['n'].max()} seeds" if table["n"].max() != 1 else "one seed"
    text = (
        f"{run.name}: accuracy of the converted networks on the {'test' if tested else 'validation'} images, mean and "
        f"standard deviation over {seeds}"
    )
    if len(table) == 1:
        return text
    return (
        f"{text}; difference to {table['variant'].iloc[0]} paired by seed with 95 % interval; "
        "p of the paired t-test, corrected for the number of variants (Holm)"
    )


def readable_table(table: pd.DataFrame, own: Sequence[Quantity] = ()) -> pd.DataFrame:
    """Return the columns of an ablation table that people read, as text; what nobody has is left out.

    Args:
        table: of `ablation_table`.
        own: other quantities that it has.
    """
    rows = table.to_dict("records")
    shown = pd.DataFrame(
        {
            "variant": table["variant"],
            "n": table["n"],
            "accuracy": [plus_minus(r["accuracy"], r["sd"]) for r in rows],
            "difference": [interval(r["difference"], r["low"], r["high"]) for r in rows],
            "p": [p_value(r["p_holm"]) for r in rows],
            "params": table["params"],
            "FLOPs (M)": table["macs"] / 1e6,
            "in training": table["training_macs"] / 1e6,
            "img/s": table["throughput"].round().astype("Int64"),
            "x base": table["ratio"].round(2),
            **{q.axis: table[q.name] / q.divisor for q in own},
            **{name: table[name] for name in table.columns if name.startswith("paper ")},
            "note": table["note"],
        }
    )
    empty = [name for name in shown if shown[name].isna().all() or (shown[name].astype(str) == "").all()]
    return shown.drop(columns=empty)


def plus_minus(mean: float, sd: float) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:.2f}" if pd.isna(sd) else f"{mean:.2f} ± {sd:.2f}"


def interval(mean: float, low: float, high: float) -> str:
    if pd.isna(mean):
        return ""
    return f"{mean:+.2f}" if pd.isna(low) else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def p_value(p: float) -> str:
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
