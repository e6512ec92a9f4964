"""The way of a candidate: asked, costed, compared with what is known, handed out, judged, told.

It knows neither Ray nor a clock: a backend takes tasks with `next` and gives back reports with `report`. What is next
is a queue; what goes on is its policy's to say; which states follow which, `record.trial` has.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from record.folders import removed
from record.measure import Point
from record.quantities import excess
from record.same import training
from record.study import Comparison
from record.trial import State, Trial
from search.candidate import Job, Report
from search.journal import Journal
from search.networks import Networks
from search.policies.full import Policy, trained
from search.storage import BROKEN, reason
from search.training.checkpoints import checkpoint_path
from search.warmstart import begin
from spaces.choices import Recorded

PATIENCE = 200
"""Candidates in a row that need no training before the space counts as exhausted."""
Next = Job | Literal["wait", "finished"]


class Engine:
    """Runs a study over its journal.

    Args:
        journal: opened for the study to run; trials that were under way are taken up first.
        networks: where candidates come from.
        watch: called with each trial whose state or curve changed.
        lost: says, in a sentence, why nothing may be recorded any more, such as that another process took over.
    """

    def __init__(
        self,
        journal: Journal,
        networks: Networks,
        watch: Callable[[Trial], None] = lambda _: None,
        lost: Callable[[], str] = str,
    ) -> None:
        self.study, self.journal, self.networks, self.watch, self.lost = journal.study, journal, networks, watch, lost
        begin(self.study, networks, journal)
        self.policy = policy_of(journal)
        journal.optuna.sampler = self.policy.sampler(networks, self.study.seed + len(journal.trials))
        self.baseline = networks.baseline()
        self.training = training(self.study)
        self.queue: deque[Trial] = deque()
        """Trials to hand out before anything else: cut off, lost, or to be measured once more."""
        self.prepared: Trial | None = None
        """The next new trial, asked for while all workers were busy, so that none of them waits for the sampler."""
        self.running: set[int] = set()
        self.places = self.study.resources.concurrent
        """How many tasks may be out at once; a backend with fewer places lowers it."""
        self.rejected = 0
        """Candidates in a row that needed no training."""
        self.complete: list[Trial] = []
        """Complete trials, but for those that others were seen to beat."""
        self.halted = ""
        """Why nothing more is recorded or handed out: a disk or a storage that takes no more, in a sentence."""
        for trial in list(journal.trials.values()):
            self.take_up(trial)

    def take_up(self, trial: Trial) -> None:
        """Go on with a trial of the journal."""
        for epoch in self.study.rungs:
            if len(trial.curve) >= epoch:
                self.policy.reached(trial, epoch)
        if trial.state is State.complete:
            self.complete.append(trial)
        elif trial.state is State.paused:
            self.policy.waits(trial)
        elif trial.state is State.confirming:
            self.done(trial)
        elif trial.twin is not None and trial.open:
            self.journal.answered(trial, self.journal.trials[trial.twin])
        elif trial.open:
            self.queue.append(trial)

    @property
    def exhausted(self) -> bool:
        """Whether the space seems to have nothing new within the limits."""
        return self.rejected >= PATIENCE

    @property
    def spent(self) -> bool:
        """Whether no new trial will start."""
        return self.policy.spent(self.exhausted)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return not (self.running or self.queue or self.prepared or self.policy.waiting()) and self.spent

    def trained(self) -> int:
        """Return how many trials count against the budget."""
        return trained(self.journal)

    def next(self) -> Next:
        """Return the next task; "wait" while all workers are busy, "finished" when the budget is used."""
        with self.halting():
            if not self.halts():
                return self.chosen()
        return "wait" if self.running else "finished"

    @contextmanager
    def halting(self) -> Iterator[None]:
        """Let all tasks end at their next report once something cannot be recorded, as what follows could not be."""
        try:
            yield
        except BROKEN as error:
            self.halted = reason(error, self.study)

    def halts(self) -> bool:
        """Whether nothing may be recorded or handed out any more."""
        self.halted = self.halted or self.lost()
        return bool(self.halted)

    def chosen(self) -> Next:
        """Return what is next."""
        if len(self.running) >= self.places:
            return "wait"
        trial = self.queued() or self.promoted() or self.fresh() or self.promoted()
        if trial is not None:
            return self.start(trial)
        if self.running:
            return "wait"
        for trial in self.policy.waiting():
            self.end(trial, State.stopped, f"not promoted after epoch {len(trial.curve)}")
        return "finished"

    def queued(self) -> Trial | None:
        """Return a trial that is to go on; one that was cut off before it was admitted may not be."""
        while self.queue:
            trial = self.queue.popleft()
            if trial.granted or self.admitted(trial):
                return trial
        return None

    def promoted(self) -> Trial | None:
        """Return the paused trial that goes on, with its next budget."""
        trial = self.policy.promoted(self.spent)
        if trial is not None:
            self.journal.grant(trial, self.policy.budget_after(trial.granted))
        return trial

    def prepare(self) -> None:
        """Choose the next new trial, if none is ready yet; a backend calls it while all workers are busy."""
        with self.halting():
            self.ready()

    def ready(self) -> None:
        """Choose the next new trial, if none is chosen yet and there is to be one."""
        if self.prepared is None and not self.queue and not self.halts() and not self.spent:
            self.prepared = self.candidate()

    def fresh(self) -> Trial | None:
        """Return a new trial, if there is to be one."""
        self.ready()
        trial, self.prepared = self.prepared, None
        return trial

    def candidate(self) -> Trial | None:
        """Ask until a network comes that keeps the limits and is new; None if that takes too long."""
        while not self.spent:
            live = self.journal.ask()
            asked, given = Recorded(live), live.user_attrs.get("given")
            network = self.networks.given(given) if given else self.networks.suggest(asked)
            description = self.networks.describe(network)
            trial = self.journal.add(live, asked.params, description, self.policy.seed())
            if self.admitted(trial):
                return trial
        return None

    def admitted(self, trial: Trial) -> bool:
        """Grant a trial its first budget, unless its network exceeds a limit or another trial answers for it."""
        known = self.journal.speeds.get(trial.deploy_id, {})
        if missing := {point: found for point, found in known.items() if point not in trial.measured}:
            self.journal.measured(trial, missing)
        if self.over_limit(trial):
            return False
        twin = self.journal.first[trial.training]
        if twin is trial:
            self.journal.grant(trial, self.policy.budget_after(0))
            return True
        self.rejected += 1
        self.journal.answered(trial, twin)
        self.watch(trial)
        return False

    def over_limit(self, trial: Trial) -> bool:
        """Tell the sampler about the limits, and end a trial that exceeds one."""
        found = excess(self.study.costs(trial), self.study.bounds)
        self.journal.constrain(trial, found)
        over = [f"{name} by {share:.0%}" for name, share in found.items() if share > 0]
        if over:
            self.rejected += 1
            self.journal.end(trial, State.infeasible, f"exceeds {', '.join(over)}")
            self.watch(trial)
        return bool(over)

    def start(self, trial: Trial) -> Job:
        """Hand a trial out."""
        self.running.add(trial.number)
        study, again = self.study, trial.state is State.confirming
        needed = {n: p for n, p in study.needed.items() if trial.measurement(n) is None}
        self.watch(trial)
        return Job(
            number=trial.number,
            config=trial.config,
            seed=trial.seed,
            data=study.data,
            recipe=study.training,
            rungs=study.rungs,
            measure=self.remaining(trial) if again else needed,
            device=study.resources.device,
            threads=max(1, int(study.resources.cpus)),
            folder=str(study.folder.resolve()),
            workers=study.resources.workers,
            gpus=self.gpus(trial),
            owner={**self.training, "network": trial.training_id, "seed": trial.seed},
            trained=len(trial.curve),
            reference=self.baseline,
            trains=not again,
            asked=study.asked_at_the_end,
            tests=isinstance(study, Comparison) and study.test,
        )

    def gpus(self, trial: Trial, again: bool = False) -> float:
        """Return the GPUs that each worker of a trial gets: twice the share once it has run out of memory."""
        share = self.study.resources.gpus
        return min(1.0, 2 * share) if 0 < share < 1 and (again or trial.retried) else share

    def report(self, number: int, report: Report) -> Literal["continue", "stop"]:
        """Record what a worker says; "stop" frees the worker, as its task is done."""
        self.halted = self.halted or report.halt
        with self.halting():
            if not self.halts():
                return self.recorded(number, report)
        self.running.discard(number)
        return "stop"

    def recorded(self, number: int, report: Report) -> Literal["continue", "stop"]:
        """Record a report, and say whether its task goes on."""
        trial = self.journal.trials[number]
        if trial.state is State.confirming:
            return self.confirmed(trial, report)
        if report.note and report.note != trial.note:
            self.journal.note(trial, note=report.note)
        if report.measured:
            self.journal.measured(trial, report.measured)
            if self.over_limit(trial):
                return self.freed(trial)
        if report.epoch is not None:
            self.rejected = 0
            self.journal.trained(trial, report.epoch)
        if report.out_of_memory and self.gpus(trial) < self.gpus(trial, again=True):
            self.journal.note(trial, retried=True)
            self.again(number)
            return "stop"
        if report.failure is not None:
            return self.end(trial, State.failed, report.failure)
        if report.final is not None:
            self.journal.finished(trial, report.final)
            return self.done(trial)
        if report.epoch is not None and report.epoch.epoch in self.study.rungs:
            self.policy.reached(trial, report.epoch.epoch)
            if report.epoch.epoch == trial.granted:
                self.journal.move(trial, State.paused)
                self.policy.waits(trial)
                self.running.discard(number)
        self.watch(trial)
        return "stop" if trial.state is State.paused else "continue"

    def done(self, trial: Trial) -> Literal["stop"]:
        """End a trial that was trained to the end, or have it measured once more before it counts.

        That is for those of the front, of what has ended: what ends is told with its last measurement, so that whoever
        reads the storage sees one front, all of whose members were measured twice.
        """
        remaining = self.remaining(trial)
        if self.study.confirmed or len(self.study.needed) < len(self.study.points):
            self.complete = self.policy.front(self.complete)  # what is beaten decides nothing again
        if not remaining or not self.policy.counts(self.complete, trial):
            return self.end(trial, State.complete)
        if trial.state is not State.confirming:
            self.journal.move(trial, State.confirming)
        self.queue.append(trial)
        self.running.discard(trial.number)
        self.watch(trial)
        return "stop"

    def remaining(self, trial: Trial) -> dict[str, Point]:
        """Return the points at which a trial of the front is still to be measured: for the second time, or at all."""
        study, twice = self.study, self.journal.twice.get(trial.deploy_id, {})
        return {
            name: point
            for name, point in study.points.items()
            if (name in study.confirmed and name not in twice) or trial.measurement(name) is None
        }

    def confirmed(self, trial: Trial, report: Report) -> Literal["stop"]:
        """End a trial with its last measurements; where the second ones failed, the first count."""
        if report.measured:
            self.journal.measured_again(trial, report.measured)
        elif report.failure:
            self.journal.note(trial, note=f"not measured again: {report.failure}")
        return self.end(trial, State.complete)

    def again(self, number: int) -> None:
        """Take a trial up once more whose worker was lost; it goes on from its checkpoint."""
        self.running.discard(number)
        self.queue.append(self.journal.trials[number])

    def fail(self, number: int, reason: str) -> None:
        """End a trial whose worker was lost for good."""
        self.report(number, Report(failure=reason))

    def end(self, trial: Trial, state: State, reason: str = "") -> Literal["stop"]:
        """End a trial."""
        self.journal.end(trial, state, reason)
        if state is State.complete:
            self.complete.append(trial)
        return self.freed(trial)

    def freed(self, trial: Trial) -> Literal["stop"]:
        """Free the place of a trial that has ended, and answer for the same networks that wait for it."""
        self.running.discard(trial.number)
        removed(checkpoint_path(self.study.folder, trial.number))
        self.watch(trial)
        for other in self.journal.asking.pop(trial.number, ()):
            self.journal.answered(other, trial)
            self.watch(other)
        return "stop"


def policy_of(journal: Journal) -> Policy:
    """Return the policy of a study: that of its scheduler, or the list of a comparison."""
    if isinstance(journal.study, Comparison):
        from search.policies.listed import Listed

        return Listed(journal)
    return journal.study.scheduler.policy(journal)  # type: ignore[attr-defined]
