"""The way of a candidate: asked, costed, compared with what is known, handed out, judged, told.

It knows neither Ray nor a clock: a backend takes tasks with `next` and gives back reports with `report`.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.candidate import Job, Report, checkpoint_path
from search.costs import network_costs
from search.draws import Image
from search.halving import goes_on
from search.journal import Entry, Journal
from search.study import DIRECTIONS, Study

PATIENCE = 200
"""Candidates in a row that need no training before the space counts as exhausted."""
Next = Job | Literal["wait", "finished"]


class Engine:
    """Runs a study over its journal.

    Args:
        study: what to search.
        journal: opened for this study; trials that were under way are taken up first.
        image: (channels, (H, W), classes) of the data.
        watch: called with each entry whose state or curve changed.
    """

    def __init__(
        self,
        study: Study,
        journal: Journal,
        image: Image,
        watch: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.study, self.journal, self.image, self.watch = study, journal, image, watch
        self.rungs = study.halving.rungs(study.training.epochs) if study.halving else ()
        self.running: set[int] = set()
        self.places = study.resources.concurrent
        """How many tasks may be out at once; a backend with fewer places lowers it."""
        self.rejected = 0
        """Candidates in a row that needed no training."""
        entries = list(journal.entries.values())
        self.left = deque(e for e in entries if e.outcome == "running" and e.twin is None)
        for entry in entries:
            if entry.outcome == "running" and entry.twin is not None:
                journal.answered(entry, journal.entries[entry.twin])

    def trained(self) -> int:
        """Return how many trials count against the budget: all but duplicates and infeasible ones."""
        counted = ("running", "complete", "stopped", "failed")
        return sum(e.outcome in counted and e.twin is None for e in self.journal.entries.values())

    @property
    def exhausted(self) -> bool:
        """Whether the space seems to have nothing new within the limits."""
        return self.rejected >= PATIENCE

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not self.running and not self.left and (self.exhausted or self.trained() >= self.study.trials)

    def next(self) -> Next:
        """Return the next task; "wait" while all workers are busy, "finished" when the budget is used."""
        if len(self.running) >= self.places:
            return "wait"
        if self.left:
            return self.start(self.left.popleft())
        if not self.exhausted and self.trained() < self.study.trials:
            entry = self.candidate()
            if entry is not None:
                return self.start(entry)
        return "wait" if self.running else "finished"

    def candidate(self) -> Entry | None:
        """Ask until a network comes that keeps the limits and is new; None if that takes too long."""
        while not self.exhausted:
            trial = self.journal.optuna.ask()
            config = self.study.space.suggest(trial, *self.image)
            entry = self.journal.add(trial, config, network_costs(config), self.study.seed)
            for other in self.journal.entries.values():
                if other.deploy_id == entry.deploy_id and other.throughput is not None:
                    self.journal.measured(entry, other.throughput)
                    break
            if self.over_limit(entry):
                continue
            twin = self.twin(entry)
            if twin is None:
                return entry
            self.rejected += 1
            self.journal.answered(entry, twin)
            self.watch(entry)
        return None

    def twin(self, entry: Entry) -> Entry | None:
        """Return the trial that trains, or trained, the same network."""
        for other in self.journal.entries.values():
            if other.training_id == entry.training_id and other is not entry and other.twin is None:
                return other
        return None

    def over_limit(self, entry: Entry) -> bool:
        """Tell the sampler about the limits, and end an entry that exceeds one."""
        excess = self.study.limits.excess(entry.known_costs())
        self.journal.constrain(entry, excess)
        over = [f"{name} by {share:.0%}" for name, share in excess.items() if share > 0]
        if over:
            self.rejected += 1
            self.journal.end(entry, "infeasible", f"exceeds {', '.join(over)}")
            self.watch(entry)
        return bool(over)

    def start(self, entry: Entry) -> Job:
        """Hand a trial out."""
        self.running.add(entry.number)
        self.watch(entry)
        study = self.study
        return Job(
            number=entry.number,
            config=entry.config,
            seed=entry.seed,
            data=study.data,
            recipe=study.training,
            rungs=self.rungs,
            measure=None if entry.throughput else study.measure,
            device=study.resources.device,
            threads=max(1, int(study.resources.cpus)),
            folder=str(study.folder.resolve()),
            workers=study.resources.workers,
            gpus=study.resources.gpus,
        )

    def report(self, number: int, report: Report) -> Literal["continue", "stop"]:
        """Record what a worker says, and decide."""
        entry = self.journal.entries[number]
        if report.throughput is not None:
            self.journal.measured(entry, report.throughput)
            if self.over_limit(entry):
                return self.ended(entry)
        if report.epoch is not None:
            self.rejected = 0
            self.journal.trained(entry, report.epoch)
        if report.failure is not None:
            self.journal.end(entry, "failed", report.failure)
        elif report.final is not None:
            self.journal.completed(entry, report.final)
        elif report.epoch is not None and report.epoch.epoch in self.rungs and self.stops(entry, report.epoch.epoch):
            self.journal.end(entry, "stopped", f"not among the best 1/{self.factor} after epoch {report.epoch.epoch}")
        if entry.outcome != "running":
            return self.ended(entry)
        self.watch(entry)
        return "continue"

    def fail(self, number: int, reason: str) -> None:
        """End a trial whose worker was lost for good."""
        self.report(number, Report(failure=reason))

    def ended(self, entry: Entry) -> Literal["stop"]:
        """Free the place of a trial, and answer for the same networks that wait for it."""
        self.running.discard(entry.number)
        checkpoint_path(self.study.folder, entry.number).unlink(missing_ok=True)
        self.watch(entry)
        for other in list(self.journal.entries.values()):
            if other.twin == entry.number and other.outcome == "running":
                self.journal.answered(other, entry)
                self.watch(other)
        return "stop"

    @property
    def factor(self) -> int:
        """The halving factor."""
        return self.study.halving.factor if self.study.halving else 1

    def stops(self, entry: Entry, epoch: int) -> bool:
        """Whether the scheduler stops a trial after `epoch`."""
        reached = [e for e in self.journal.entries.values() if len(e.curve) >= epoch]
        losses = np.array([self.losses(e, e.curve[epoch - 1].accuracy) for e in reached])
        return not goes_on(losses, reached.index(entry), self.factor)

    def losses(self, entry: Entry, accuracy: float) -> NDArray[np.float64]:
        """Return the objectives as of a rung, to be minimised; costs are exact before training."""
        signs = [-1.0 if DIRECTIONS[o] == "maximize" else 1.0 for o in self.study.objectives]
        return np.array(signs) * self.journal.values(entry, accuracy)
