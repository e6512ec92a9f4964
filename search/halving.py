"""Successive halving over several objectives: which trials go on from a rung. Pure: values in, decisions out."""

import math

import moocore
import numpy as np
from numpy.typing import NDArray


def goes_on(losses: NDArray[np.float64], candidate: int, factor: int) -> bool:
    """Decide whether a trial goes on from a rung, as stopping asynchronous halving does (Li et al. 2020).

    It does if it is among the best 1/factor of the trials that have reached the rung so far, rounded up.

    Args:
        losses: `(trials, objectives)`, to be minimised, as of the rung; the candidate's row included.
        candidate: row of the trial to decide on.
        factor: the halving factor.
    """
    return best_first(losses).index(candidate) < math.ceil(len(losses) / factor)


def best_first(losses: NDArray[np.float64]) -> list[int]:
    """Order rows by non-dominated rank, then crowding distance, largest first; earlier rows first among equals."""
    rank = moocore.pareto_rank(losses)
    spread = np.zeros(len(losses))
    for value in np.unique(rank):
        members = np.flatnonzero(rank == value)
        spread[members] = crowding_distance(losses[members])
    return [int(row) for row in np.lexsort((np.arange(len(losses)), -spread, rank))]


def crowding_distance(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far apart the neighbours of each row of one front are; infinite at its ends (Deb et al. 2002)."""
    distance = np.zeros(len(losses))
    for column in losses.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance
