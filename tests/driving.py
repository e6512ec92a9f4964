"""A study worked off in this process, without Ray, or by its command, in another one."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from click.testing import Result
from typer.testing import CliRunner

import analyze
import run_search
from record.files import read_study
from record.measure import Measurement
from record.trial import EpochResult, Final, Trial
from search.candidate import Candidate, Job, Report
from search.engine import Engine
from search.journal import Journal
from search.networks import Image, networks_of
from tests.conftest import ROOT

RUNNER = CliRunner()
RUN_SEARCH = typer.Typer(add_completion=False)
RUN_SEARCH.command()(run_search.main)
IMAGE: Image = (1, (8, 8), 10)


def engine_of(path: Path, *overrides: str) -> Engine:
    study = read_study(path, overrides)
    study.folder.mkdir(parents=True, exist_ok=True)
    return Engine(Journal(study), networks_of(study, IMAGE))


def driven(engine: Engine) -> tuple[Job, Candidate]:
    """Take the next task, and report to the engine until it wants no more."""
    job = engine.next()
    assert isinstance(job, Job)
    candidate = Candidate(job)
    while engine.report(job.number, candidate.advance()) == "continue":
        pass
    return job, candidate


def work_off(engine: Engine, until: Callable[[Job, int], bool] = lambda _task, _reports: False) -> list[Job]:
    """Run tasks one by one; `until` cuts the power before a report of a task reaches the engine."""
    tasks = []
    while not isinstance(task := engine.next(), str):
        tasks.append(task)
        candidate, reports = Candidate(task), 0
        while True:
            report = candidate.advance()
            if until(task, reports):
                return tasks
            reports += 1
            if engine.report(task.number, report) == "stop":
                break
    return tasks


def scripted(engine: Engine, score: Callable[[Mapping[str, Any]], float]) -> list[Trial]:
    """Work a study off without training: `score` gives the accuracy of a configuration, and all have 1000 img/s.

    Returns the trials that were begun, in order.
    """
    begun = []
    while not isinstance(task := engine.next(), str):
        entry = engine.journal.trials[task.number]
        if task.measure:
            speed = Measurement(1000, 1000, 1000, 1, 8, "float32", "script", 1)
            engine.report(task.number, Report(measured=dict.fromkeys(task.measure, speed)))
        if task.trains:
            begun += [] if entry in begun else [entry]
            accuracy = score(task.config)
        for epoch in range(task.trained + 1, task.recipe.epochs + 1 if task.trains else 0):
            final = Final(accuracy, 0.0) if epoch == task.recipe.epochs else None
            if engine.report(task.number, Report(epoch=EpochResult(epoch, accuracy, 1.0, 1.0), final=final)) == "stop":
                break
    return begun


def analysis(*arguments: object) -> Result:
    """Run analyze.py in this process, which is sooner done than in a new one."""
    return RUNNER.invoke(analyze.app, [str(a) for a in arguments])


def searched(*arguments: object) -> Result:
    """Run run_search.py in this process; the workers of the local backend are others."""
    return RUNNER.invoke(RUN_SEARCH, [str(a) for a in arguments])


def command(script: str, *arguments: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=cwd or ROOT, env={**os.environ, **env})


def run_folder(tiny: Path) -> Path:
    return tiny.parent / "runs" / "tiny"
