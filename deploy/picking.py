"""The pick, explained: why this network, which others are as good as far as can be told, what the neighbours cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
import yaml

from record.files import checked
from record.folders import whole
from record.measure import DEFAULT
from record.quantities import Quantity, excess
from record.quantities import limits as known_limits
from record.run import Run, RunError
from record.same import plain
from record.study import Comparison, Study
from repmlp import config_from_dict
from results.choice import Rule, choose, keeps
from results.front import front
from results.statistics import accuracy_interval, difference_noise
from search.measuring.remeasure import remeasured
from search.measuring.runtimes import MeasureError

Row = dict[str, Any]
"""Of the frame of trials."""
KEPT = ("data", "training", "objectives", "measure", "resources")
"""What the study that trains a pick has of the run's."""
SHOWN = 5
"""Ties in a table that people read."""


@dataclass(frozen=True)
class Pick:
    """The network to deploy, with the reasons."""

    run: Run
    limits: Mapping[str, float]
    """By key, such as max_params."""
    trial: int
    why: str
    """One or two sentences."""
    rivals: pd.DataFrame
    """The pick, then its ties, then its neighbours on the front; see `rivals`."""

    def study(self, seeds: int = 3, /, **changes: Any) -> Comparison:
        """Return the study that trains the network fully and ends in test accuracy, all else being as in the run.

        Args:
            seeds: trainings.
            changes: keys of the study that differ, those of a part in a mapping, such as `training={"epochs": 100}`.

        Raises:
            StudyError: if the changes do not fit it.
        """
        ours = plain(self.run.study)
        judged = {q.limit for q in self.run.study.quantities if q.when == "measured" and not q.maximised}
        values = {
            "name": f"{self.run.name}-pick",
            "space": {"name": "fixed", "networks": {f"trial-{self.trial}": self.run.trials["config"][self.trial]}},
            "seeds": seeds,
            **{name: ours[name] for name in KEPT},
            "limits": {name: limit for name, limit in self.run.study.bounds.items() if name in judged},
            "runs": str(self.run.folder.parent),
        }
        return cast(Comparison, checked(merged(values, changes)))

    def write(self, study: Study, path: Path) -> None:
        """Write the study that trains it as YAML with the reasons, whole or not at all."""
        values = study.model_dump(mode="json", exclude_unset=True)
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120)
        with whole(path) as part:
            part.write_text(f"# {self.why}\n# Train it fully: python run_search.py {path}\n{text}")

    def measured_again(self, say: Callable[[str], None] = lambda _: None) -> str:
        """Measure the network once more, quietly, and return what came of it beside what the run has."""
        study = self.run.study
        limited = {q.point for key, q in known_limits(study.known).items() if key in self.limits}
        counts = {q.point for q in study.counting if q.when == "measured"} | limited | {study.first}
        return "\n".join(self.again_at(name, say) for name in study.points if name in counts)

    def again_at(self, name: str, say: Callable[[str], None]) -> str:
        """Measure the network once more at a point, and return what came of it."""
        study, known = self.run.study, next(t for t in self.run.entries if t.number == self.trial)
        where = "" if list(study.points) == [DEFAULT] else f" at {name}"
        if study.points[name].device == "cuda" and not torch.cuda.is_available():
            return f"Not measured again{where}: the study measures on a GPU, and none is here."
        say(f"Measuring trial {self.trial} again{where}")
        try:
            again = remeasured(study, known.config, name)
        except MeasureError as error:
            return f"Not measured again{where}: {error}"
        text = f"Measured again{where}: {again.median:,.0f} img/s (p10-p90 {again.p10:,.0f}-{again.p90:,.0f})"
        if again.relative is not None:
            text += f", {again.relative:.2f} x base"
        text += "." if again.steady else ", unsteady: its spread is above the limit of the study."
        if before := known.measurement(name):
            text += f" The run had {before.median:,.0f} img/s."
        values = study.costs(replace(known, measured={name: again}, confirmed={}))
        limits = {key: limit for key, limit in self.limits.items() if key in known_limits(study.measured)}
        if any(share > 0 for share in excess(values, limits).values()):
            text += " This exceeds a limit: the machine is slower now, or the network too near to it."
        return text


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with some changed."""
    parts = {k: merged(values[k], v) for k, v in changes.items() if isinstance(v, Mapping) and k in values}
    return {**values, **changes, **parts}


def pick(run: Run, rule: str | Rule = Rule.max_accuracy, trial: int | None = None, **limits: float) -> Pick:
    """Pick one of the complete trials that keep `limits` by `rule`, or explain `trial`.

    Args:
        run: where the trials are.
        rule: max-accuracy, max-throughput or knee.
        trial: number of one that is taken instead of what the rule gives.
        limits: by key, such as max_params, also of a quantity of a user's own among the objectives.

    Raises:
        RunError: if no complete trial keeps the limits, `trial` is not complete, or there is no such rule or limit.
    """
    if rule not in list(Rule):
        raise RunError(f"rule={rule} must be one of {', '.join(Rule)}.")
    rule = Rule(rule)
    there = known_limits(run.study.known)
    limits = {name if name in there else run.study.first_limit(name): limit for name, limit in limits.items()}
    if unknown := [name for name in limits if name not in there]:
        raise RunError(f"limit {unknown[0]} is not there; use {', '.join(there)}.")
    if isinstance(run.study, Comparison) and trial is None:
        # a single training says little where there are several of a network
        raise RunError(f"{run.name} lists its networks; compare them with analyze.py ablation, then give --trial.")
    done = run.trials[run.trials["outcome"] == "complete"]
    if done.empty:
        states = ", ".join(f"{n} {outcome}" for outcome, n in run.trials["outcome"].value_counts().items())
        raise RunError(f"{run.name} has no complete trial to pick from ({states or 'no trial yet'}).")
    feasible = done[keeps(done, limits)]
    if trial is None:
        if feasible.empty:
            raise RunError(impossible(done, limits))
        try:
            number = choose(feasible, rule, run.objectives, run.maximise)
        except ValueError as error:
            raise RunError(str(error)) from None
    elif trial in done.index:
        number = trial
        feasible = done[keeps(done, limits) | (done.index == trial)]
    else:
        state = f"is {run.trials['outcome'][trial]}" if trial in run.trials.index else "is not in this run"
        raise RunError(f"trial {trial} {state}; complete are {', '.join(map(str, done.index))}.")
    table = rivals(run, feasible, number, rule)
    return Pick(run, limits, number, reason(feasible, number, rule, limits, table, asked=trial is not None), table)


def impossible(done: pd.DataFrame, limits: Mapping[str, float]) -> str:
    """Say which limits no trial keeps, and what the best of them is."""
    alone = {name: limit for name, limit in limits.items() if not keeps(done, {name: limit}).any()}
    parts = []
    for name, limit in (alone or limits).items():
        values = done[name.partition("_")[2]].astype(float)
        parts.append(
            f"{name}={limit:,g} (here {values.min() if name.startswith('max') else values.max():,.6g} at best)"
        )
    together = "" if alone else " all at once"
    return f"none of {len(done)} complete trials keeps {', '.join(parts)}{together}; loosen the limits or search on."


def rivals(run: Run, feasible: pd.DataFrame, number: int, rule: Rule) -> pd.DataFrame:
    """Return the pick, those that cannot be told from it, and the next ones on the front of what keeps the limits.

    Columns: role (pick, tie, neighbour), trial, accuracy with its 95 % interval, and the difference to the pick in
    accuracy (points), throughput, params, macs and what else counts (percent); network.
    """
    pick = row(feasible, number)
    by_speed = feasible.sort_values("throughput", ascending=False).index
    ties = [n for n in by_speed if n != number and tied(pick, row(feasible, n), rule)]
    on_front = front(run, feasible).sort_values("accuracy")
    above = on_front[on_front["accuracy"] > pick["accuracy"]].index[:1]
    below = on_front[on_front["accuracy"] < pick["accuracy"]].index[-1:]
    near = [n for n in [*above, *below] if n != number and n not in ties]
    roles = [("pick", number), *(("tie", n) for n in ties), *(("neighbour", n) for n in near)]
    return pd.DataFrame([rival(role, n, row(feasible, n), pick, run.study.extra) for role, n in roles])


def row(trials: pd.DataFrame, number: int) -> Row:
    """Return the row of a trial."""
    return {str(name): value for name, value in trials.loc[number].items()}


def rival(role: str, number: int, trial: Row, pick: Row, own: Sequence[Quantity]) -> dict[str, Any]:
    """Return a row of `rivals`."""
    known = pd.notna(trial["images"])
    found = {"role": role, "trial": number, "accuracy": trial["accuracy"], "low": None, "high": None}
    if known:
        found["low"], found["high"] = accuracy_interval(trial["accuracy"], int(trial["images"]))
    found["difference"] = trial["accuracy"] - pick["accuracy"]
    found["img/s"] = None if pd.isna(trial["throughput"]) else round(trial["throughput"])
    columns = {"img/s (%)": "throughput", "params (%)": "params", "FLOPs (%)": "macs"}
    for name, column in (columns | {f"{q.title} (%)": q.name for q in own}).items():
        known = pd.notna(trial[column]) and pd.notna(pick[column])
        found[name] = 100 * (trial[column] / pick[column] - 1) if known else None
    found["network"] = config_from_dict(trial["config"]).describe()
    return found


def tied(pick: Row, other: Row, rule: Rule) -> bool:
    """Whether two trials cannot be told apart in what a rule looks at.

    Accuracies within the 95 % noise of their difference on so many images, throughputs whose p10 to p90 overlap.
    """
    alike = {"accuracy": same_accuracy(pick, other), "throughput": same_throughput(pick, other)}
    looked_at = {Rule.max_accuracy: ["accuracy"], Rule.max_throughput: ["throughput"]}.get(rule, list(alike))
    return all(alike[name] for name in looked_at)


def same_accuracy(pick: Row, other: Row) -> bool:
    if pd.isna(pick["images"]):
        return bool(pick["accuracy"] == other["accuracy"])
    noise = difference_noise(pick["accuracy"], other["accuracy"], int(pick["images"]))
    return bool(abs(pick["accuracy"] - other["accuracy"]) <= noise)


def same_throughput(pick: Row, other: Row) -> bool:
    return bool(other["throughput_p90"] >= pick["throughput_p10"] and pick["throughput_p90"] >= other["throughput_p10"])


BEST = {
    Rule.max_accuracy: "the highest accuracy",
    Rule.max_throughput: "the highest throughput",
    Rule.knee: "the best balance of the objectives",
}


def reason(
    feasible: pd.DataFrame, number: int, rule: Rule, limits: Mapping[str, float], table: pd.DataFrame, asked: bool
) -> str:
    """Say why a trial was picked, and how sure that is."""
    kept = f" that keep {', '.join(f'{k}={v:,g}' for k, v in limits.items())}" if limits else ""
    text = (
        f"Trial {number} was asked for" if asked else f"Trial {number} has {BEST[rule]} of {len(feasible)} trials{kept}"
    )
    ties = int((table["role"] == "tie").sum())
    pick = row(feasible, number)
    if pd.isna(pick["images"]):
        return f"{text}. How far its accuracy, of one seed, is by chance is not known for this task or run."
    if not ties:
        return f"{text}; no other one is within the noise of it."
    low, high = accuracy_interval(pick["accuracy"], int(pick["images"]))
    others = f"{ties} other{'s' if ties > 1 else ''}"
    return (
        f"{text}. {others} cannot be told from it: on {int(pick['images'])} validation images and with one seed, its "
        f"{pick['accuracy']:.2f} % stand for {low:.1f} to {high:.1f} %."
    )


def readable_rivals(table: pd.DataFrame) -> pd.DataFrame:
    """Return rivals as people read them: at most `SHOWN` ties, the fastest, with signed differences."""
    ties = table[table["role"] == "tie"]
    shown = table.drop(index=ties.index[SHOWN:])
    accuracy = [
        f"{a:.2f}" if pd.isna(low) else f"{a:.2f} [{low:.1f}, {high:.1f}]"
        for a, low, high in zip(shown["accuracy"], shown["low"], shown["high"], strict=True)
    ]
    signed = {}
    for name in ("difference", *(c for c in shown.columns if c.endswith("(%)"))):
        others, digits = shown[name].where(shown["role"] != "pick"), 2 if name == "difference" else 0
        signed[name] = ["" if pd.isna(value) else f"{value:+.{digits}f}" for value in others]
    first = {"role": shown["role"], "trial": shown["trial"], "accuracy": accuracy}
    speed = {"difference": signed.pop("difference"), "img/s": shown["img/s"]}
    return pd.DataFrame({**first, **speed, **signed, "network": shown["network"]})
