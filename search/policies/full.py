"""Every candidate is trained to the end; what the other policies start from."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from optuna.samplers import BaseSampler
from pydantic import BaseModel, ConfigDict

from record.front import undominated
from record.study import Search
from record.trial import Trial
from search.journal import Journal
from search.networks import Networks
from search.samplers import make_sampler


class Policy:
    """Decides what is trained next, and how far: asks the sampler, and trains every candidate to the end.

    Args:
        journal: of the study; its trials tell what is done.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal, self.study = journal, journal.study

    def sampler(self, networks: Networks, seed: int) -> BaseSampler:
        """Return what chooses new networks."""
        assert isinstance(self.study, Search)
        return make_sampler(self.study, self.journal.trials, networks, seed)

    def spent(self, exhausted: bool) -> bool:
        """Whether no new trial is to start; `exhausted` if the space seems to have nothing new."""
        return exhausted or trained(self.journal) >= self.study.budget

    def seed(self) -> int:
        """Return the seed of the network that was just asked for."""
        return self.study.seed

    def budget_after(self, epochs: int) -> int:
        """Return the epochs that a trial is granted next, once it has so many."""
        return next(budget for budget in self.study.budgets if budget > epochs)

    def reached(self, trial: Trial, epoch: int) -> None:
        """Hear that a trial has reached a rung."""

    def waits(self, trial: Trial) -> None:
        """Hear that a trial is paused."""

    def promoted(self, last: bool) -> Trial | None:
        """Return the paused trial that goes on, if one does; with `last`, no new one will start."""
        return None

    def waiting(self) -> list[Trial]:
        """Return the paused trials."""
        return []

    def counts(self, done: Iterable[Trial], trial: Trial) -> bool:
        """Whether a trial that was trained to the end matters, so that it is measured twice: it is on the front."""
        return any(t is trial for t in self.front([*done, trial]))

    def front(self, done: Iterable[Trial]) -> list[Trial]:
        """Return those of some trials at full budget that no other one of them beats."""
        known = [t for t in done if t.final]
        points = [self.journal.values(t, t.final.accuracy) for t in known if t.final]
        kept = undominated(np.array(points), self.study.maximised)
        return [trial for trial, best in zip(known, kept, strict=True) if best]


class Full(BaseModel):
    """Train every candidate to the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["full"] = "full"

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return none."""
        return ()

    def policy(self, journal: Journal) -> Policy:
        """Return what decides."""
        return Policy(journal)


def trained(journal: Journal) -> int:
    """Return how many trials count against the budget: all but duplicates, infeasible ones and earlier runs'."""
    return len(journal.counted)
