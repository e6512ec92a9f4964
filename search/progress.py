"""What a user sees while a study runs: a live table on a terminal, a line a trial elsewhere."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

import moocore
import numpy as np
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

from search.journal import Entry
from search.study import DIRECTIONS, Study

SHOWN = 12
"""Trials in the live table: all that run, and the last that ended."""


class Display:
    """Shows entries as they change; use as a context."""

    def __init__(
        self, console: Console, study: Study, reference: Mapping[str, float], entries: Iterable[Entry]
    ) -> None:
        self.console, self.study, self.reference = console, study, reference
        self.entries = {e.number: e for e in entries}
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
        self.live = Live(self.view(), console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def changed(self, entry: Entry) -> None:
        """Show a change of one trial."""
        self.entries[entry.number] = entry
        if self.console.is_terminal:
            self.live.update(self.view())
        elif not entry.open:
            parts = ["trial", *self.cells(entry)]
            if entry.outcome == "complete":
                parts.append(f"hypervolume {self.hypervolume():,.0f}")
            print(" ".join(part for part in parts if part), file=self.console.file, flush=True)

    def hypervolume(self) -> float:
        """Return that of the complete trials, against the study's reference point."""
        done = [e for e in self.entries.values() if e.outcome == "complete" and e.final]
        if not done:
            return 0.0
        values = [{**e.known_costs(), "accuracy": e.final.accuracy} for e in done if e.final]
        return float(
            moocore.hypervolume(
                np.array([[v[o] for o in self.study.objectives] for v in values]),
                ref=[self.reference[o] for o in self.study.objectives],
                maximise=[DIRECTIONS[o] == "maximize" for o in self.study.objectives],
            )
        )

    def view(self) -> Group:
        """Draw the bar and the latest trials."""
        counted = {"complete", "stopped", "failed"} | ({"duplicate", "infeasible"} if self.study.listed else set())
        ended = [e for e in self.entries.values() if e.outcome in counted]
        self.bar.update(self.task, completed=len(ended), hypervolume=self.hypervolume())
        table = Table(box=None, header_style="bold")
        for name in ("trial", "state", "epoch", "accuracy", "img/s", "params", "FLOPs (M)", "note"):
            table.add_column(name, justify="left" if name in ("state", "note") else "right", no_wrap=True)
        latest = sorted(self.entries.values(), key=lambda e: (e.outcome == "running", e.number))[-SHOWN:]
        for entry in sorted(latest, key=lambda e: e.number):
            table.add_row(*self.cells(entry), style=None if entry.outcome in ("running", "complete") else "dim")
        return Group(table, self.bar)

    def cells(self, entry: Entry) -> list[str]:
        """Write one trial."""
        accuracy = entry.final.accuracy if entry.final else entry.curve[-1].accuracy if entry.curve else None
        return [
            str(entry.number),
            entry.outcome,
            f"{len(entry.curve)}/{self.study.training.epochs}" if entry.curve else "",
            f"{accuracy:.2f}%" if accuracy is not None else "",
            f"{entry.throughput.median:,.0f}" if entry.throughput else "",
            f"{entry.costs['params']:,}",
            f"{entry.costs['macs'] / 1e6:.2f}",
            entry.reason or entry.note,
        ]
