"""What a user sees while a study runs: a live table on a terminal and in a notebook, a line a trial elsewhere."""

import importlib.util
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from record.front import complete, hypervolume
from record.quantities import QUANTITIES, Quantity
from record.study import Comparison, Study
from record.trial import State, Trial

SHOWN = 12
"""Trials in the live table: all that run, and the last that ended."""


class Display:
    """Shows entries as they change; use as a context."""

    def __init__(self, console: Console, study: Study, reference: Mapping[str, float], trials: Iterable[Trial]) -> None:
        self.console, self.study, self.reference = console, study, reference
        self.trials = {t.number: t for t in trials}
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            TextColumn("hypervolume: {task.fields[hypervolume]:,.0f}"),
            console=console,
        )
        self.task = self.bar.add_task("trained", total=study.budget, hypervolume=0.0)
        self.shows = console.is_terminal or (console.is_jupyter and importlib.util.find_spec("ipywidgets") is not None)
        """Whether what is printed can be changed; rich needs ipywidgets for that in a notebook."""
        self.live = Live(self.view(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.shows:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def changed(self, trial: Trial) -> None:
        """Show a change of one trial."""
        self.trials[trial.number] = trial
        if self.shows:
            self.live.update(self.view())
        elif not trial.open:
            parts = ["trial", *self.cells(trial)]
            if trial.state is State.complete:
                parts.append(f"hypervolume {self.hypervolume():,.0f}")
            print(" ".join(part for part in parts if part), file=self.console.file, flush=True)

    def hypervolume(self) -> float:
        """Return that of the complete trials, against the study's reference point."""
        done = complete(self.study, self.trials.values())
        return hypervolume(self.study, list(done.values()), self.reference)

    def view(self) -> Group:
        """Draw the bar and the latest trials."""
        counted = {State.complete, State.stopped, State.failed}
        if isinstance(self.study, Comparison):
            counted |= {State.duplicate, State.infeasible}
        ended = sum(t.state in counted for t in self.trials.values())
        self.bar.update(self.task, completed=ended, hypervolume=self.hypervolume())
        table = Table(box=None, header_style="bold")
        own = [q.axis for q in self.study.extra]
        for name in ("trial", "state", "epoch", "accuracy", "img/s", "params", "FLOPs (M)", *own, "note"):
            table.add_column(name, justify="left" if name in ("state", "note") else "right", no_wrap=True)
        latest = sorted(self.trials.values(), key=lambda t: (t.state is State.running, t.number))[-SHOWN:]
        for trial in sorted(latest, key=lambda t: t.number):
            dim = trial.state not in (State.running, State.confirming, State.complete)
            table.add_row(*self.cells(trial), style="dim" if dim else None)
        return Group(table, self.bar)

    def cells(self, trial: Trial) -> list[str]:
        """Write one trial."""
        accuracy = trial.accuracy if trial.final else trial.curve[-1].accuracy if trial.curve else None
        return [
            str(trial.number),
            str(trial.state),
            f"{len(trial.curve)}/{self.study.training.epochs}" if trial.curve else "",
            f"{accuracy:.2f}%" if accuracy is not None else "",
            f"{measured.median:,.0f}" if (measured := trial.measurement(self.study.first)) else "",
            f"{trial.costs['params']:,}",
            *(written(q, trial) for q in (QUANTITIES["macs"], *self.study.extra)),
            trial.reason or trial.note,
        ]


def written(quantity: Quantity, trial: Trial) -> str:
    """Write a quantity of a trial in its unit; "" where it is not known."""
    value = quantity.value(trial)
    return "" if value is None else f"{value / quantity.divisor:,.2f}"
