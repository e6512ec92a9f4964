"""What a user sees while a study runs: a live table on a terminal, a line a trial elsewhere."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from search.journal import Entry

SHOWN = 12
"""Trials in the live table: all that run, and the last that ended."""


class Display:
    """Shows entries as they change; use as a context."""

    def __init__(self, console: Console, trials: int, epochs: int, entries: Iterable[Entry]) -> None:
        self.console, self.epochs = console, epochs
        self.entries = {e.number: e for e in entries}
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        )
        self.task = self.bar.add_task("trained", total=trials)
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
            print(" ".join(part for part in ("trial", *self.cells(entry)) if part), file=self.console.file, flush=True)

    def view(self) -> Group:
        """Draw the bar and the latest trials."""
        ended = [e for e in self.entries.values() if e.outcome in ("complete", "stopped", "failed")]
        self.bar.update(self.task, completed=len(ended))
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
            f"{len(entry.curve)}/{self.epochs}" if entry.curve else "",
            f"{accuracy:.2f}%" if accuracy is not None else "",
            f"{entry.throughput.median:,.0f}" if entry.throughput else "",
            f"{entry.costs['params']:,}",
            f"{entry.costs['macs'] / 1e6:.2f}",
            entry.reason,
        ]
