"""A program of the user's own that times the exported file: on this machine, or on a device that it reaches."""

import json
import math
import shlex
import subprocess
import time
from pathlib import Path

from search.measuring.runtimes import MeasureError, Runner, Runtime, Subject, Turn
from search.measuring.runtimes.onnx import written

BLOCKS = 5
"""Into which the samples of one start are parted."""
WAIT = 1.0
"""Seconds until a command that failed is tried again."""


class Command(Runtime):
    """Runs a shell command, and reads seconds from its last line."""

    def written(self, subject: Subject) -> Path:
        return written(subject)

    def prepared(self, subject: Subject) -> Runner:
        return Program(subject)


class Program(Runner):
    """Times one file by starting the command."""

    turns = 2

    def __init__(self, subject: Subject) -> None:
        self.point, self.file = subject.point, subject.file

    def turn(self, calls: int) -> Turn:
        each = self.singly(BLOCKS * calls)
        return Turn([sum(each[i * calls : (i + 1) * calls]) / calls for i in range(BLOCKS)], each)

    def singly(self, calls: int) -> list[float]:
        """Start the command for so many samples, again if it fails.

        Raises:
            MeasureError: if it fails as often as it is tried.
        """
        for left in reversed(range(1 + self.point.retries)):
            try:
                return self.started(calls)
            except MeasureError:
                if not left:
                    raise
                time.sleep(WAIT)
        raise AssertionError

    def started(self, calls: int) -> list[float]:
        """Start the command once."""
        given = {"file": shlex.quote(str(self.file)), "samples": str(calls), "batch": str(self.point.batch)}
        line = self.point.command
        for name, value in given.items():
            line = line.replace(f"{{{name}}}", value)
        try:
            done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=self.point.timeout)
        except subprocess.TimeoutExpired:
            raise MeasureError(f"`{line}` took more than timeout={self.point.timeout:g} s.") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise MeasureError(f"`{line}` ended with exit code {done.returncode}: {said[-1] if said else 'no word'}")
        return samples(done.stdout, calls, line)


def samples(printed: str, calls: int, line: str) -> list[float]:
    """Return the seconds that a command printed in its last line.

    Raises:
        MeasureError: if they are not so many positive numbers.
    """
    last = printed.strip().splitlines()[-1] if printed.strip() else ""
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    fits = isinstance(found, list) and all(isinstance(v, int | float) and 0 < v < math.inf for v in found)
    if not fits or len(found) < calls:
        raise MeasureError(
            f"`{line}` must print the seconds of {calls} batches as a JSON list in its last line, such as "
            f"[0.012, 0.011]; it printed {last[:80] or 'nothing'}"
        )
    return [float(v) for v in found[:calls]]
