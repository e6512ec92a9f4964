"""Searches that are stopped, and workers that die: real processes, real Ray, small studies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.engine.stopping import alive, below
from record.run import open_run
from tests.conftest import ROOT
from tests.driving import run_folder, searched


def start(tiny: Path, *overrides: str) -> subprocess.Popen[str]:
    line = [sys.executable, str(ROOT / "run_search.py"), str(tiny), *overrides]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for(process: subprocess.Popen[str], tiny: Path, outcome: str) -> None:
    """Wait until a trial has that outcome."""
    for _ in range(600):
        time.sleep(0.2)
        assert process.poll() is None, process.communicate()
        if (run_folder(tiny) / "journal.log").exists() and outcome in (run_folder(tiny) / "journal.log").read_text():
            return
    raise AssertionError(f"no trial became {outcome}")


LONG = ("trials=40", "training.epochs=30", "halving=null")


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, id="kill", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, id="kill -9", marks=pytest.mark.slow),
    ],
)
def test_nothing_finished_is_lost_when_a_search_is_stopped(tiny: Path, how: signal.Signals, backend: str) -> None:
    process = start(tiny, *LONG, f"resources.backend={backend}")
    wait_for(process, tiny, '"outcome":"complete"')
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how is not signal.SIGKILL:
        assert process.returncode == 128 + how
        assert "Stopping.\n" in errors
        assert "the same command continues" in errors
        assert not any(word in errors for word in ("Traceback", "***", "PC: @"))  # no dump of a stack
        assert not list(run_folder(tiny).rglob("*.part"))
    before = open_run(str(run_folder(tiny))).trials
    finished = before[before["outcome"] == "complete"]
    budget = int(before["outcome"].isin(["complete", "running"]).sum()) + 1
    again = searched(tiny, *LONG, f"trials={budget}")
    assert again.exit_code == 0, again.stderr
    after = open_run(str(run_folder(tiny))).trials
    pd.testing.assert_frame_equal(after.loc[finished.index, finished.columns], finished)
    assert (after["outcome"] != "running").all()
    assert after["outcome"].eq("complete").sum() == budget


def workers(driver: int) -> list[int]:
    """Return the Ray workers below a driver process that have run a task."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def descends(pid: int) -> bool:
        return pid == driver or (pid in parents and descends(parents[pid]))

    return [
        int(pid) for pid, _, args in rows if args.startswith("ray::") and "Agent" not in args and descends(int(pid))
    ]


def test_a_trial_whose_worker_is_killed_goes_on_elsewhere(tiny: Path) -> None:
    overrides = ("trials=2", "training.epochs=30", "halving={first_rung: 2, factor: 20}", "resources.concurrent=1")
    overrides += ("resources.backend=ray",)
    process = start(tiny, *overrides)
    wait_for(process, tiny, '"epoch":4')
    found = workers(process.pid)
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    run = open_run(str(run_folder(tiny)))
    assert not set(run.trials["outcome"]) & {"failed", "running"}
    for _, curve in run.epochs.groupby("trial"):
        assert curve["epoch"].tolist() == list(range(1, len(curve) + 1))


def test_workers_end_with_a_driver_that_is_killed_while_they_begin(tiny: Path) -> None:
    process = start(tiny, *LONG)
    while not (begun := below(process.pid)):
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    time.sleep(1)
    assert not [pid for pid in begun if alive(pid)]
