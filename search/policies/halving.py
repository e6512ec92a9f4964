"""Asynchronous successive halving over several objectives: trials are paused at rungs, and the best go on."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from record.quantities import excess
from record.trial import State, Trial
from search.journal import Journal
from search.policies.full import Policy
from search.ranking import Rung, promotion


class Halving(BaseModel):
    """Stop trials early: at each rung the best 1/factor of those that reached it go on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Literal["halving"] = "halving"
    first_rung: int | None = Field(default=None, ge=1)
    """Epochs before trials are first compared; later rungs come after `factor` times as many. null takes a 27th of the
    full budget, at least 1."""
    factor: int = Field(default=3, ge=2)
    """The best 1/factor of the trials that reached a rung go on."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which trials are compared, all below `epochs`."""
        found, rung = [], self.first_rung or max(1, round(epochs / 27))
        while rung < epochs:
            found.append(rung)
            rung *= self.factor
        return tuple(found)

    def policy(self, journal: Journal) -> "HalvingPolicy":
        """Return what decides."""
        return HalvingPolicy(journal, self.factor)


class Reached:
    """The trials that reached a rung, a row each; there is room for more, so that a new one moves no other."""

    def __init__(self, objectives: int) -> None:
        self.rows: dict[int, int] = {}
        """Number of a trial to its row."""
        self.values = np.empty((64, objectives + 1))
        """Losses and excess."""

    def add(self, number: int, losses: list[float], excess: float) -> None:
        """Add a trial, or change what is known of it."""
        row = self.rows.setdefault(number, len(self.rows))
        if row == len(self.values):
            self.values = np.concatenate([self.values, np.empty_like(self.values)])
        self.values[row] = *losses, excess

    def rung(self) -> Rung:
        """Return what is compared."""
        count = len(self.rows)
        numbers = np.fromiter(self.rows, np.int64, count)
        return Rung(numbers=numbers, losses=self.values[:count, :-1], excess=self.values[:count, -1])


class HalvingPolicy(Policy):
    """Pauses trials at rungs, and lets the best go on."""

    def __init__(self, journal: Journal, factor: int) -> None:
        super().__init__(journal)
        self.factor, self.rungs = factor, self.study.rungs
        self.there = {epoch: Reached(len(self.study.early)) for epoch in self.rungs}
        """For each rung, the trials that reached it."""
        self.ranked: dict[int, Rung] = {}
        """The same as it is compared, until another trial gets there."""
        self.paused: dict[int, set[int]] = {epoch: set() for epoch in self.rungs}
        """For each rung, the trials that wait there."""

    def reached(self, trial: Trial, epoch: int) -> None:
        """Compare a trial with the others that reached the rung at `epoch`."""
        over = excess(self.study.costs(trial), self.study.bounds)
        values = zip(self.journal.early(trial, trial.curve[epoch - 1].accuracy), self.study.early, strict=True)
        losses = [-value if q.maximised else value for value, q in values]
        self.there[epoch].add(trial.number, losses, sum(max(0.0, e) for e in over.values()))
        self.ranked.pop(epoch, None)

    def waits(self, trial: Trial) -> None:
        """Put a trial among those that wait at its rung."""
        self.paused[trial.granted].add(trial.number)

    def promoted(self, last: bool) -> Trial | None:
        """Return the trial that goes on."""
        number = promotion(
            [self.rung(epoch) for epoch in self.rungs], [self.paused[epoch] for epoch in self.rungs], self.factor, last
        )
        if number is None:
            return None
        trial = self.journal.trials[number]
        self.paused[trial.granted].remove(number)
        return trial

    def waiting(self) -> list[Trial]:
        """Return the paused trials, by number."""
        found = (self.journal.trials[number] for number in sorted(set().union(*self.paused.values())))
        return [trial for trial in found if trial.state is State.paused]

    def rung(self, epoch: int) -> Rung:
        """Return what is compared at a rung."""
        if epoch not in self.ranked:
            self.ranked[epoch] = self.there[epoch].rung()
        return self.ranked[epoch]
