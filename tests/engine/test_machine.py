"""The engine under any order of reports, the power cut at any write: nothing finished is lost, changed or redone."""

from typing import Any
from zlib import crc32

import optuna
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from record.measure import Measurement, Point
from record.resources import Resources
from record.study import study_of
from record.trial import EpochResult, Final, State
from search.candidate import Job, Report
from search.engine import Engine
from search.journal import Journal
from search.networks import SpaceNetworks

EPOCHS, TRIALS = 4, 5
optuna.logging.set_verbosity(optuna.logging.ERROR)
STUDY = study_of(
    {
        "name": "machine",
        "space": {"name": "cifar_mlp", "channels": [[4, 8]], "blocks": [1], "partitions": [4, 8], "groups": [1, 2]}
        | {"kernels": [[], [1], [1, 3]], "reductions": [1], "head": 8},
        "data": {"name": "mnist5k", "size": 8},
        "training": {"epochs": EPOCHS, "batch": 25, "precision": "float32"},
        "trials": TRIALS,
        "sampler": "random",
        "scheduler": {"first_rung": 1, "factor": 2},
        "measure": {"default": Point(batch=8)},
        "resources": Resources(concurrent=2, backend="local"),
    }
)
NETWORKS = SpaceNetworks(STUDY.space, (1, (8, 8), 10))


FAILS = st.integers(0, 19).map(lambda number: number == 0)
"""Rarely."""


class PowerCut(Exception):
    """The process ends here."""


class Fragile(InMemoryStorage):
    """Optuna's storage in memory, to which the power is cut after so many writes; None for never."""

    left: int | None = None

    def spend(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise PowerCut

    def create_new_trial(self, *args: Any, **kwargs: Any) -> int:
        self.spend()
        return super().create_new_trial(*args, **kwargs)

    def set_trial_user_attr(self, *args: Any, **kwargs: Any) -> None:
        self.spend()
        super().set_trial_user_attr(*args, **kwargs)

    def set_trial_system_attr(self, *args: Any, **kwargs: Any) -> None:
        self.spend()
        super().set_trial_system_attr(*args, **kwargs)

    def set_trial_param(self, *args: Any, **kwargs: Any) -> None:
        self.spend()
        super().set_trial_param(*args, **kwargs)

    def set_trial_state_values(self, *args: Any, **kwargs: Any) -> bool:
        self.spend()
        return super().set_trial_state_values(*args, **kwargs)

    def set_study_user_attr(self, *args: Any, **kwargs: Any) -> None:
        self.spend()
        super().set_study_user_attr(*args, **kwargs)


class Machine(RuleBasedStateMachine):
    """A study whose tasks are worked off by hand, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = Fragile()
        self.ended: dict[int, tuple[object, ...]] = {}
        """What is known of each trial that has ended, by number."""
        self.started: dict[tuple[str, int], int] = {}
        """The trial that trains each network."""
        self.open()

    def open(self) -> None:
        """Start the process, as after a cut."""
        self.storage.left = None
        self.engine = Engine(Journal(STUDY, self.storage), NETWORKS)
        self.jobs: dict[int, tuple[Job, int]] = {}
        """The tasks that are out, and how many epochs each worker has."""

    def guarded(self, step: Any, writes: int | None) -> None:
        """Take a step; if it needs more than so many writes, the power is cut in it."""
        self.storage.left = writes
        try:
            step()
        except PowerCut:
            self.open()
        finally:
            self.storage.left = None

    def take(self) -> None:
        """Ask for a task."""
        job = self.engine.next()
        if isinstance(job, Job):
            trial = self.engine.journal.trials[job.number]
            assert job.number not in self.ended
            assert job.number not in self.jobs
            assert not any(
                other.training == trial.training and other.state is State.complete
                for other in self.engine.journal.trials.values()
            )
            assert trial.granted > job.trained or not job.trains
            assert self.started.setdefault(trial.training, job.number) == job.number
            self.jobs[job.number] = job, job.trained

    def work(self, place: int, fails: bool) -> None:
        """Let a worker say the next that it has to say."""
        number = sorted(self.jobs)[place % len(self.jobs)]
        job, done = self.jobs[number]
        trial = self.engine.journal.trials[number]
        code = crc32(trial.training_id.encode())
        if fails:
            report = Report(failure="Diverged")
        elif job.measure and (not trial.measured or not job.trains):
            again = 0 if job.trains else crc32(b"again" + trial.deploy_id.encode()) % 50
            median = 100.0 + crc32(trial.deploy_id.encode()) % 100 - again
            speed = Measurement(median, median, median, 1, 8, "float32", "cpu", 1)
            report = Report(measured=dict.fromkeys(job.measure, speed))
        else:
            done += 1
            accuracy = 10.0 + code % 50 + done
            self.jobs[number] = job, done
            final = Final(accuracy) if done == EPOCHS else None
            report = Report(epoch=EpochResult(done, accuracy, 1.0, 1.0), final=final)
        if self.engine.report(number, report) == "stop":
            self.jobs.pop(number)

    writes = st.none() | st.integers(0, 16)

    @rule(writes=writes)
    def next(self, writes: int | None) -> None:
        self.guarded(self.take, writes)

    @precondition(lambda self: self.jobs)
    @rule(
        place=st.integers(0, 3), count=st.integers(1, 6), writes=writes, fails=st.integers(0, 19).map(lambda n: n == 0)
    )
    def report(self, place: int, count: int, writes: int | None, fails: bool) -> None:
        for _ in range(count - 1):
            if self.jobs:
                self.work(place, fails=False)
        if self.jobs:
            self.guarded(lambda: self.work(place, fails), writes)

    @rule(steps=st.integers(1, 40), writes=writes)
    def go_on(self, steps: int, writes: int | None) -> None:
        """Work off a good part of the study, then take a step in which the power may be cut."""
        for _ in range(steps):
            self.step()
        self.guarded(self.step, writes)

    def step(self) -> None:
        """Ask for a task if a worker is free, else let one speak."""
        before = len(self.jobs)
        if before < 2:
            self.take()
        if self.jobs and len(self.jobs) == before:
            self.work(0, fails=False)

    @precondition(lambda self: self.jobs)
    @rule(place=st.integers(0, 3))
    def lose(self, place: int) -> None:
        """A worker is lost, and its task begun anew, from a checkpoint that may be an epoch old."""
        number = sorted(self.jobs)[place % len(self.jobs)]
        self.jobs.pop(number)
        self.engine.again(number)

    @rule(prepares=st.booleans())
    def restart(self, prepares: bool) -> None:
        if prepares:
            self.engine.prepare()
        before = {t.number: t.state for t in self.engine.journal.trials.values()}
        self.open()
        assert {t.number: t.state for t in self.engine.journal.trials.values()} == before

    @invariant()
    def what_has_ended_stays(self) -> None:
        now = {
            t.number: (str(t.state), t.final, tuple(t.curve), t.measured, t.confirmed, self.told(t.number))
            for t in self.engine.journal.trials.values()
            if not t.open
        }
        assert {number: now.get(number) for number in self.ended} == self.ended
        self.ended = now

    def told(self, number: int) -> object:
        trial = self.engine.journal.optuna.get_trials(deepcopy=False)[number]
        return trial.state, trial.values

    def teardown(self) -> None:
        """Work all off, and look at what is left."""
        for _ in range(1000):
            self.step()
            self.what_has_ended_stays()
            if self.engine.finished:
                break
        assert self.engine.finished
        states = {t.number: t.state for t in self.engine.journal.optuna.get_trials(deepcopy=False)}
        assert TrialState.RUNNING not in states.values()
        assert self.engine.exhausted or self.engine.trained() == TRIALS
        complete = {t.number for t in self.engine.journal.trials.values() if t.state in ("complete", "duplicate")}
        assert {n for n, state in states.items() if state is TrialState.COMPLETE} <= complete
        again = Engine(Journal(STUDY, self.storage), NETWORKS)
        assert again.finished or again.exhausted or isinstance(again.next(), str)


Machine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMachine = Machine.TestCase
