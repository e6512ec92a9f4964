"""A journal on object storage, where nothing can be appended to: the last of its segments is written anew each time."""

import json
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from record.folders import opened, reaching, whole

SIZE = 2**18
"""Bytes from which on a segment is followed by the next one."""


class Segments(BaseJournalBackend):
    """Keeps lines in `journal/N.jsonl`, N being the number of lines before; each object is there whole or not at all.

    One process writes, which the study's lease sees to; from its first line on it knows what is there.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "journal"
        self.before = 0
        """Lines before the last segment that was read or written."""
        self.last: list[str] = []
        """Its lines."""
        self.writing = False

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """Return the lines from a number on, counted from 0."""
        if not self.writing or log_number_from < self.before:
            return self.fetched(log_number_from)
        return [json.loads(line) for line in self.last[log_number_from - self.before :]]

    def fetched(self, first: int) -> list[dict[str, Any]]:
        """Return the lines from a number on as they are there now."""
        starts = self.starts()
        found: list[str] = []
        for start in starts[max(0, bisect_right(starts, first) - 1) :]:
            found += self.lines(start)[max(0, first - start) :]
        return [json.loads(line) for line in found]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; they are kept once this returns."""
        if not self.writing:
            for start in self.starts()[-1:]:
                self.before, self.last = start, self.lines(start)
            self.writing = True
        if sum(map(len, self.last)) >= SIZE:
            self.before, self.last = self.before + len(self.last), []
        lines = [*self.last, *(json.dumps(log, separators=(",", ":")) for log in logs)]
        with whole(self.path(self.before)) as part:
            part.write_text("".join(f"{line}\n" for line in lines))
        self.last = lines

    def starts(self) -> list[int]:
        """Return the numbers of the lines that segments begin with."""
        with reaching(self.folder):
            return sorted(int(path.stem) for path in self.folder.glob("*.jsonl"))

    def lines(self, start: int) -> list[str]:
        """Return the lines of a segment."""
        with opened(self.path(start)) as file:
            return file.read().decode().splitlines()

    def path(self, start: int) -> Path:
        """Return where the segment of a first line is."""
        return self.folder / f"{start:09d}.jsonl"
