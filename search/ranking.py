"""Ranking over several objectives, and which paused trial goes on: values in, decisions out."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rung:
    """All trials that have reached one budget, with what was known of them there.

    Args:
        numbers: `(n,)`, of the trials; the lower one goes first among equals, whatever order they come in.
        losses: `(n, objectives)`, to be minimised: costs, which are exact, and the accuracy as of this rung.
        excess: `(n,)`, by how much limits are exceeded in all; 0 or less where all are kept.
    """

    numbers: NDArray[np.int64]
    losses: Floats
    excess: Floats

    @cached_property
    def rank(self) -> Floats:
        """Non-dominated rank of each row, 0 for the front of the feasible ones; infinite for infeasible rows."""
        return ranks(self.losses, self.excess)

    @cached_property
    def order(self) -> list[int]:
        """Rows from best to worst."""
        return best_first(self.losses, self.excess, self.numbers)

    def promotable(self, waiting: Collection[int], factor: int, last: bool) -> list[int]:
        """Return which of the trials that wait here may go on, best first."""
        count = len(self.order) // factor
        if last:
            count = max(-(-len(self.order) // factor), int((self.rank == 0).sum()))
        return [number for row in self.order[:count] if (number := int(self.numbers[row])) in waiting]


def promotion(rungs: Sequence[Rung], waiting: Sequence[Collection[int]], factor: int, last: bool = False) -> int | None:
    """Return the number of the trial that goes on, of the highest rung that has one; None if a new one should start.

    This is ASHA (Li et al., MLSys 2020, Alg. 2) with its ranking by one metric replaced by `best_first`: of a rung, no
    infeasible trial goes on while a feasible one waits, and no dominated one while one that dominates it does.

    Args:
        rungs: lowest first, the highest below the full budget.
        waiting: for each rung, the numbers of the trials that are paused there.
        factor: of the trials that have reached a rung, the best 1/factor go on, rounded down.
        last: whether no new trial will start. Then it is rounded up, and all feasible trials of a rung that no other
            one of it dominates go on, so that a small study too ends with a front.
    """
    for rung, paused in zip(reversed(rungs), reversed(waiting), strict=True):
        found = rung.promotable(paused, factor, last)
        if found:
            return found[0]
    return None


def best_first(losses: Floats, excess: Floats, numbers: NDArray[np.int64]) -> list[int]:
    """Order rows: feasible ones by non-dominated rank and then crowding distance, the rest by excess.

    Args:
        losses: `(n, objectives)`, to be minimised.
        excess: `(n,)`, above 0 for infeasible rows.
        numbers: `(n,)`, which decide among equals, lowest first.
    """
    rank, spread = ranks(losses, excess), np.zeros(len(losses))
    for value in np.unique(rank[np.isfinite(rank)]):
        members = np.flatnonzero(rank == value)
        spread[members] = crowding_distance(losses[members])
    return [int(row) for row in np.lexsort((numbers, -spread, np.maximum(excess, 0.0), rank))]


def ranks(losses: Floats, excess: Floats) -> Floats:
    """Return the non-dominated rank of each feasible row among these, from 0; infinite for the others."""
    rank = np.full(len(losses), np.inf)
    feasible = excess <= 0
    if feasible.any():
        rank[feasible] = moocore.pareto_rank(losses[feasible])
    return rank


def crowding_distance(losses: Floats) -> Floats:
    """Return how far apart the neighbours of each row of one front are; infinite at its ends (Deb et al. 2002).

    Rows of equal value share the larger distance, so that the order of rows means nothing.
    """
    distance = np.zeros(len(losses))
    for column in losses.T:
        values, place = np.unique(column, return_inverse=True)
        if len(values) > 1:
            gaps = np.diff(values, prepend=-np.inf, append=np.inf)
            distance += ((gaps[:-1] + gaps[1:]) / (values[-1] - values[0]))[place]
    return distance
