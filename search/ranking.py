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
        return [number for number in self.numbers[self.order[:count]].tolist() if number in waiting]


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
    feasible = np.isfinite(rank)
    spread[feasible] = crowding_distance(losses[feasible], rank[feasible])
    return np.lexsort((numbers, -spread, np.maximum(excess, 0.0), rank)).tolist()


def ranks(losses: Floats, excess: Floats) -> Floats:
    """Return the non-dominated rank of each feasible row among these, from 0; infinite for the others."""
    rank = np.full(len(losses), np.inf)
    feasible = excess <= 0
    if feasible.any():
        rank[feasible] = moocore.pareto_rank(losses[feasible])
    return rank


def crowding_distance(losses: Floats, rank: Floats) -> Floats:
    """Return how far apart the neighbours of each row in its front are; infinite at its ends (Deb et al. 2002).

    Rows of equal value share the larger distance, so that the order of rows means nothing.

    Args:
        losses: `(n, objectives)`.
        rank: `(n,)`, which tells the fronts apart.
    """
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.lexsort((column, rank))
        fronts, values = rank[order], column[order]
        new_front = np.diff(fronts, prepend=-1.0) != 0
        new = new_front | (np.diff(values, prepend=-np.inf) != 0)
        values, first = values[new], new_front[new]  # of each front, its different values
        last = np.append(first[1:], True)[: len(first)]
        gaps = np.diff(values, prepend=-np.inf, append=np.inf)
        before, after = np.where(first, np.inf, gaps[:-1]), np.where(last, np.inf, gaps[1:])
        width = (values[last] - values[first])[np.cumsum(first) - 1]
        several = width > 0
        share = np.divide(before + after, width, out=np.zeros(len(values)), where=several)
        distance[order] += share[np.cumsum(new) - 1]
    return distance
