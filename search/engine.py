"""The way of a candidate: asked, costed, compared with what is known, handed out, judged, told.

It knows neither Ray nor a clock: a backend takes tasks with `next` and gives back reports with `report`.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np

from search.candidate import Job, Report, checkpoint_path
from search.journal import Entry, Journal
from search.networks import Networks
from search.policies.halving import Floats, Rung, promotion, ranks
from search.policies.listed import PlannedSampler, planned
from search.samplers.proposing import make_sampler
from search.study import DIRECTIONS
from search.warmstart import begin

PATIENCE = 200
"""Candidates in a row that need no training before the space counts as exhausted."""
Next = Job | Literal["wait", "finished"]


class Engine:
    """Runs a study over its journal.

    Args:
        journal: opened for the study to run; trials that were under way are taken up first.
        networks: where candidates come from.
        watch: called with each entry whose state or curve changed.
    """

    def __init__(
        self,
        journal: Journal,
        networks: Networks,
        watch: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.study, self.journal, self.networks, self.watch = journal.study, journal, networks, watch
        study = self.study
        self.rungs = study.rungs
        begin(study, networks, journal)
        seed = study.seed + len(journal.entries)
        self.plan = planned(study, journal.entries.values())
        """For a study that lists its networks, what is to be trained yet; None for a search."""
        journal.optuna.sampler = (
            make_sampler(study, journal.entries, networks, seed) if self.plan is None else PlannedSampler(self.plan)
        )
        self.reached: dict[int, dict[int, tuple[Floats, float]]] = {epoch: {} for epoch in self.rungs}
        """For each rung, the losses and the excess of the trials that reached it, by number."""
        self.ranked: dict[int, Rung] = {}
        """The same as the scheduler sees it, until another trial gets there."""
        self.paused: dict[int, set[int]] = {epoch: set() for epoch in self.rungs}
        """For each rung, the trials that wait there."""
        self.prepared: Entry | None = None
        """The next new trial, asked for while all workers were busy, so that none of them waits for the sampler."""
        self.running: set[int] = set()
        self.places = study.resources.concurrent
        """How many tasks may be out at once; a backend with fewer places lowers it."""
        self.rejected = 0
        """Candidates in a row that needed no training."""
        self.confirming: set[int] = set()
        """Trials that are, or were, measured again by this engine."""
        self.baseline = networks.baseline()
        self.left: deque[Entry] = deque()
        for entry in list(journal.entries.values()):
            for epoch in self.rungs:
                self.rank(entry, epoch)
            if entry.outcome == "paused":
                self.paused[entry.granted].add(entry.number)
            if entry.twin is not None and entry.open:
                journal.answered(entry, journal.entries[entry.twin])
            elif entry.outcome == "running":
                self.left.append(entry)

    def trained(self) -> int:
        """Return how many trials count against the budget: all but duplicates, infeasible ones and earlier runs'."""
        return sum(
            e.outcome not in ("duplicate", "infeasible") and e.twin is None and e.origin is None
            for e in self.journal.entries.values()
        )

    @property
    def exhausted(self) -> bool:
        """Whether the space seems to have nothing new within the limits."""
        return self.rejected >= PATIENCE

    @property
    def spent(self) -> bool:
        """Whether no new trial will start."""
        if self.plan is not None:
            return not self.plan
        return self.exhausted or self.trained() >= self.study.trials

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        waiting = self.left or self.prepared or any(self.paused.values())
        return not self.running and not waiting and self.spent and self.unconfirmed() is None

    def next(self) -> Next:
        """Return the next task; "wait" while all workers are busy, "finished" when the budget is used."""
        if len(self.running) >= self.places:
            return "wait"
        entry = self.cut_off() or self.promoted() or self.fresh() or self.promoted()
        if entry is not None:
            return self.start(entry)
        if self.running:
            return "wait"
        for number in sorted(number for numbers in self.paused.values() for number in numbers):
            entry = self.journal.entries[number]
            self.journal.end(entry, "stopped", f"not promoted after epoch {len(entry.curve)}")
            self.ended(entry)
        self.paused = {epoch: set() for epoch in self.rungs}
        entry = self.unconfirmed()
        if entry is not None:
            self.confirming.add(entry.number)
            return self.start(entry)
        return "finished"

    def unconfirmed(self) -> Entry | None:
        """Return a member of the front, or a listed one, whose throughput, an objective, was not measured twice yet."""
        if not self.study.measure.confirm or not {"throughput", "latency"} & set(self.study.objectives):
            return None
        done = [e for e in self.journal.entries.values() if e.outcome == "complete" and e.final and e.throughput]
        if not done:
            return None
        losses = np.array([self.losses(e, e.final.accuracy) for e in done if e.final])
        best = np.ones(len(done)) if self.plan is not None else ranks(losses, np.zeros(len(done))) == 0
        front = [done[row] for row in np.flatnonzero(best)]
        twice = {e.deploy_id for e in done if e.confirmed is not None or e.number in self.confirming}
        return next((e for e in front if e.deploy_id not in twice), None)

    def prepare(self) -> None:
        """Choose the next new trial, if none is ready yet; a backend calls it while all workers are busy."""
        if self.prepared is None and not self.left and not self.spent:
            self.prepared = self.candidate()

    def fresh(self) -> Entry | None:
        """Return a new trial, if there is to be one."""
        self.prepare()
        entry, self.prepared = self.prepared, None
        return entry

    def cut_off(self) -> Entry | None:
        """Return a trial that was under way when the study was last interrupted."""
        while self.left:
            entry = self.left.popleft()
            if entry.granted or self.admitted(entry):
                return entry
        return None

    def promoted(self) -> Entry | None:
        """Return the paused trial that goes on, with its next budget."""
        if self.study.halving is None:
            return None
        rungs = [self.rung(epoch) for epoch in self.rungs]
        waiting = [self.paused[epoch] for epoch in self.rungs]
        number = promotion(rungs, waiting, self.study.halving.factor, self.spent)
        if number is None:
            return None
        entry = self.journal.entries[number]
        self.paused[entry.granted].remove(number)
        self.journal.grant(entry, self.budget_after(entry.granted))
        return entry

    def rung(self, epoch: int) -> Rung:
        """Return what the scheduler is told of a rung."""
        if epoch not in self.ranked:
            reached = self.reached[epoch]
            self.ranked[epoch] = Rung(
                numbers=np.array(list(reached), dtype=np.int64),
                losses=np.array([losses for losses, _ in reached.values()]).reshape(-1, len(self.study.objectives)),
                excess=np.array([excess for _, excess in reached.values()]),
            )
        return self.ranked[epoch]

    def rank(self, entry: Entry, epoch: int) -> None:
        """Let the scheduler compare a trial with the others that reached the rung at `epoch`, if it did."""
        if len(entry.curve) >= epoch:
            losses = self.losses(entry, entry.curve[epoch - 1].accuracy)
            excess = sum(max(0.0, e) for e in self.study.limits.excess(entry.known_costs()).values())
            self.reached[epoch][entry.number] = losses, excess
            self.ranked.pop(epoch, None)

    def budget_after(self, epochs: int) -> int:
        """Return the epochs of the next rung, or of the full budget."""
        return next(budget for budget in self.study.budgets if budget > epochs)

    def candidate(self) -> Entry | None:
        """Ask until a network comes that keeps the limits and is new; None if that takes too long."""
        while not self.exhausted if self.plan is None else self.plan:
            trial = self.journal.optuna.ask()
            network = self.networks.suggest(trial)
            seed = self.plan.popleft().seed if self.plan is not None else self.study.seed
            entry = self.journal.add(trial, self.networks.describe(network), seed)
            if self.admitted(entry):
                return entry
        return None

    def admitted(self, entry: Entry) -> bool:
        """Grant a trial its first budget, unless its network exceeds a limit or another trial answers for it."""
        known = self.journal.throughputs.get(entry.deploy_id)
        if known is not None:
            self.journal.measured(entry, known)
        if self.over_limit(entry):
            return False
        twin = self.journal.first[entry.training]
        if twin is entry:
            self.journal.grant(entry, self.budget_after(0))
            return True
        self.rejected += 1
        self.journal.answered(entry, twin)
        self.watch(entry)
        return False

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
        again = entry.number in self.confirming
        if not again:
            self.watch(entry)
        study = self.study
        return Job(
            number=entry.number,
            config=entry.config,
            seed=entry.seed,
            data=study.data,
            recipe=study.training,
            rungs=self.rungs,
            measure=study.measure if again or entry.throughput is None else None,
            device=study.resources.device,
            threads=max(1, int(study.resources.cpus)),
            folder=str(study.folder.resolve()),
            workers=study.resources.workers,
            gpus=self.gpus(entry),
            trained=len(entry.curve),
            reference=self.baseline,
            trains=not again,
            tests=bool(study.listed) and study.test,
        )

    def gpus(self, entry: Entry, again: bool = False) -> float:
        """Return the GPUs that each worker of a trial gets: twice the share once it has run out of memory."""
        share = self.study.resources.gpus
        return min(1.0, 2 * share) if 0 < share < 1 and (again or entry.retried) else share

    def report(self, number: int, report: Report) -> Literal["continue", "stop"]:
        """Record what a worker says; "stop" frees the worker, as the trial has ended or waits to be promoted."""
        entry = self.journal.entries[number]
        if number in self.confirming:
            self.running.discard(number)
            if report.throughput is not None:
                self.journal.confirm(entry, report.throughput)
            return "stop"
        if report.note and report.note != entry.note:
            self.journal.remark(entry, report.note)
        if report.throughput is not None:
            self.journal.measured(entry, report.throughput)
            if self.over_limit(entry):
                return self.ended(entry)
        if report.epoch is not None:
            self.rejected = 0
            self.journal.trained(entry, report.epoch)
        if report.out_of_memory and self.gpus(entry) < self.gpus(entry, again=True):
            self.journal.retry(entry)
            self.again(number)
            return "stop"
        if report.failure is not None:
            self.journal.end(entry, "failed", report.failure)
        elif report.final is not None:
            self.journal.completed(entry, report.final)
        if not entry.open:
            return self.ended(entry)
        if report.epoch is not None and report.epoch.epoch in self.rungs:
            self.rank(entry, report.epoch.epoch)
            if report.epoch.epoch == entry.granted:
                entry.outcome = "paused"
                self.paused[entry.granted].add(number)
                self.running.discard(number)
        self.watch(entry)
        return "stop" if entry.outcome == "paused" else "continue"

    def again(self, number: int) -> None:
        """Take a trial up once more whose worker was lost; it goes on from its checkpoint."""
        self.running.discard(number)
        if number not in self.confirming:
            self.left.append(self.journal.entries[number])

    def fail(self, number: int, reason: str) -> None:
        """End a trial whose worker was lost for good."""
        self.report(number, Report(failure=reason))

    def ended(self, entry: Entry) -> Literal["stop"]:
        """Free the place of a trial, and answer for the same networks that wait for it."""
        self.running.discard(entry.number)
        checkpoint_path(self.study.folder, entry.number).unlink(missing_ok=True)
        self.watch(entry)
        for other in list(self.journal.entries.values()):
            if other.twin == entry.number and other.open:
                self.journal.answered(other, entry)
                self.watch(other)
        return "stop"

    def losses(self, entry: Entry, accuracy: float) -> Floats:
        """Return the objectives as of a rung, to be minimised; costs are exact before training."""
        signs = [-1.0 if DIRECTIONS[o] == "maximize" else 1.0 for o in self.study.objectives]
        return np.array(signs) * self.journal.values(entry, accuracy)
