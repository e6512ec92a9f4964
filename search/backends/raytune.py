"""Ray Tune as the backend: it places trials on workers and keeps nothing that is needed."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
}
"""Read by Ray when it is imported: no state, log or result files of its own, no change of folder,
and actors that start side by side (the engine says how many run)."""
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray import tune  # noqa: E402
from ray.tune.experiment import Trial  # noqa: E402
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # noqa: E402
from ray.tune.search import Searcher  # noqa: E402

from record.measure import Measurement  # noqa: E402
from record.resources import Resources  # noqa: E402
from record.study import StudyError  # noqa: E402
from search.backends.places import scratch  # noqa: E402
from search.backends.raycluster import connect, room  # noqa: E402
from search.backends.raytrain import Team  # noqa: E402
from search.candidate import Candidate, Job, Report  # noqa: E402
from search.engine import Engine  # noqa: E402
from search.stopping import SIGNALS  # noqa: E402

UNREACHED = "temporarily unavailable"
"""What Ray says of a worker whose node does not answer, until that counts as lost and gets no more workers."""
LATER = 30.0
"""Seconds after which a trial of such a worker is begun anew."""
TIMES = 5
"""How often that is done for a trial."""
PLACED = 60.0
"""Seconds within which the measuring process must have found its place."""


class Worker(tune.Trainable):
    """A candidate on a Ray worker; one actor serves trial after trial."""

    kind: type[Candidate] = Candidate
    candidate: Candidate | Team
    elsewhere: Job | None
    """What is still to be measured, on another node."""

    def setup(self, config: dict[str, Any]) -> None:
        job: Job = config["job"]
        self.measurer = config["measurer"]
        self.elsewhere = job if self.measurer and job.measure else None
        if self.elsewhere:
            job = replace(job, measure={})
        self.candidate = Team(job, self.kind) if job.workers > 1 and job.trains else self.kind(job)

    def cleanup(self) -> None:
        if isinstance(self.candidate, Team):
            self.candidate.close()

    def step(self) -> dict[str, Any]:
        if self.elsewhere:
            found = ray.get_actor(self.measurer).measured.remote(self.elsewhere)
            report = Report(measured=ray.get(found))
            self.elsewhere = None
        else:
            report = self.candidate.advance()
        return {"report": report, "done": report.last}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        if isinstance(self.candidate, Candidate) and self.candidate.goes_on_with(new_config["job"]):
            return True
        self.cleanup()
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the candidate keeps its own checkpoint in the run folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: a trial that is placed anew finds its checkpoint by its number."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=2)
class Measurer:
    """Measures on the node that `resources.measure_on` names, where it holds a GPU if the study has them."""

    def measured(self, job: Job) -> dict[str, Measurement]:
        """Return what a job's network takes, by measurement point."""
        return Candidate(job).measured()

    def placed(self) -> None:
        """Nothing; answers once there is a place."""


class EngineLink:
    """Holds the engine, and leaves it out of the state that Tune pickles: the journal is the only state."""

    engine: Engine

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "engine"}


class AskEngine(EngineLink, Searcher):
    """Gives Tune the engine's next task, and hears of trials that are lost for good.

    Tune calls a scheduler's `on_trial_error` before each retry too, a searcher's `on_trial_complete` only at the end.
    """

    def __init__(self, engine: Engine, measurer: str) -> None:
        super().__init__()
        self.engine, self.measurer = engine, measurer
        self.numbers: dict[str, int] = {}
        self.errors: dict[str, str] = {}
        self.waits = 0
        """Calls in vain since the last task; Tune asks before it handles each event."""
        self.lost: Counter[int] = Counter()
        """Number of a trial to how often its worker was not reached."""
        self.later: list[tuple[float, int]] = []
        """When, by `time.monotonic`, trials are begun anew whose worker was not reached."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        while self.later and self.later[0][0] <= time.monotonic():
            self.engine.again(self.later.pop(0)[1])
        job = self.engine.next()
        if isinstance(job, Job):
            self.numbers[trial_id], self.waits = job.number, 0
            return {"job": job, "measurer": self.measurer}
        self.waits += 1
        if self.waits == 2:  # at the first, the worker of the last task has not been told to begin
            self.engine.prepare()
        return None if job == "wait" else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        number = self.numbers.pop(trial_id, None)
        if number not in self.engine.running:
            return
        reason = self.errors.get(trial_id, "its worker ended without a result")
        if UNREACHED in reason and self.lost[number] < TIMES:
            self.lost[number] += 1
            self.later.append((time.monotonic() + LATER, number))
        else:
            self.engine.fail(number, reason)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the journal holds the state."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal holds the state."""


class TellEngine(EngineLink, FIFOScheduler):
    """Passes each report to the engine and its decision to Tune.

    A trial that pauses ends for Tune, and is a new trial there when it goes on, perhaps before the old one is put away;
    so whatever Tune says of the old one after that does not count.
    """

    def __init__(self, engine: Engine, asking: AskEngine) -> None:
        super().__init__()
        self.engine, self.asking = engine, asking

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "asking"}

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if self.engine.report(self.asking.numbers[trial.trial_id], result["report"]) == "continue":
            return TrialScheduler.CONTINUE
        del self.asking.numbers[trial.trial_id]
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        number = self.asking.numbers.get(trial.trial_id)
        if number in self.engine.running and "report" in result:
            self.engine.report(number, result["report"])

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        written = Path(trial.error_file or "")  # `get_error` looks where it is copied later
        lines = written.read_text().strip().splitlines() if written.is_file() else []
        told = [line for line in lines if not line.startswith("The actor never ran")]  # which Ray says of lost ones too
        self.asking.errors[trial.trial_id] = told[-1].partition(" Some common")[0] if told else "its worker was lost"


class NodeGone(EngineLink, tune.Stopper):
    """Ends a search whose only node, started here, has died, as nobody brings another."""

    ASKED = 5.0
    """Seconds between two looks."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.asked, self.gone = engine, time.monotonic(), False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if time.monotonic() - self.asked > self.ASKED:
            self.asked, self.gone = time.monotonic(), not any(node["Alive"] for node in ray.nodes())
            if self.gone:
                self.engine.halted = "Ray's processes on this machine have died."
        return self.gone


def run(engine: Engine, candidate: type[Candidate] = Candidate) -> None:
    """Run the engine to its end on Ray; Ctrl-C ends its workers, with the trials under way left to continue.

    A trial whose worker dies is placed anew up to twice and resumes from its checkpoint.

    Args:
        engine: gives the tasks, and hears what came of them.
        candidate: what a worker makes of a job.

    Raises:
        StudyError: if no Ray cluster can be reached, or it can never offer what a trial asks for.
    """
    resources = engine.study.resources
    worker = Worker if candidate is Candidate else type("Worker", (Worker,), {"kind": candidate})
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGUSR1)}
    started = connect(engine.study)
    try:
        take_back(handlers)
        there = room(resources)
        if resources.address is None:
            engine.places = min(engine.places, there)
        measurer, _held = measuring(resources)
        asking = AskEngine(engine, measurer)
        with scratch(engine.study) as folder:
            tuner = tune.Tuner(
                tune.with_resources(worker, lambda config: held_by_trial(resources, config["job"].gpus)),
                tune_config=tune.TuneConfig(
                    search_alg=asking, scheduler=TellEngine(engine, asking), num_samples=-1, reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    stop=NodeGone(engine) if resources.address is None else None,
                    storage_path=str(folder),
                    name="tune",
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=2),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            )
            tuner.fit()
    finally:
        if started:
            ray.shutdown()
        take_back(handlers)


def take_back(handlers: Mapping[int, Any]) -> None:
    """Put signal handlers back: Ray's own dumps the stack at SIGTERM, and Tune leaves one for SIGUSR1 behind."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)


def measuring(resources: Resources) -> tuple[str, Any]:
    """Start the process that measures on the nodes that `measure_on` names; return its name and its handle.

    The name is "" where trials measure themselves. It is placed before any trial, so that none can wait for it while it
    holds what it needs, and ends with its last handle.

    Raises:
        StudyError: if no such node has room.
    """
    if not resources.measure_on:
        return "", None
    name = f"repmlp-measurer-{uuid4().hex}"
    gpus = 1 if resources.gpus else 0
    actor = Measurer.options(  # type: ignore[attr-defined]
        name=name, num_gpus=gpus, resources=resources.measure_on, scheduling_strategy="DEFAULT"
    ).remote()
    try:
        ray.get(actor.placed.remote(), timeout=PLACED)
    except ray.exceptions.GetTimeoutError:
        beside = " and a free GPU" if gpus else ""
        raise StudyError(f"resources.measure_on={resources.measure_on}: no node has that{beside} free.") from None
    return name, actor


def held_by_trial(resources: Resources, gpus: float) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial; for a group of workers, which Ray Train places, just not nothing."""
    if resources.workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])
    return tune.PlacementGroupFactory([{"CPU": resources.cpus, "GPU": gpus}])
