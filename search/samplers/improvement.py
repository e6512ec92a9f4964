"""Expected hypervolume improvement where only the accuracy is uncertain, and the costs are known."""

import moocore
import numpy as np
from scipy.special import ndtr

from search.ranking import Floats


def expected_improvement(mean: Floats, deviation: Floats, best: Floats) -> Floats:
    """Return E[max(0, y - best)] of normal y, broadcast (Jones et al. 1998); deviations are positive."""
    z = (mean - best) / deviation
    return (mean - best) * ndtr(z) + deviation * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)


def expected_hypervolume_improvement(
    mean: Floats, deviation: Floats, costs: Floats, front: Floats, front_costs: Floats, reference: tuple[float, Floats]
) -> Floats:
    """Return how much each candidate is expected to add to the hypervolume, exactly.

    Above a point of the space of costs, a front reaches the accuracy of its best member that costs no more in any way.
    A candidate adds, over the box from its costs to the reference point, what it reaches beyond that; so its expected
    addition is a sum, over the cells into which the front cuts that box, of volume times expected improvement.

    Args:
        mean: `(n,)`, of the candidates' accuracy.
        deviation: `(n,)`, positive.
        costs: `(n, d)`, to be minimised.
        front: `(m,)`, accuracies; only the members that no other one dominates cost time.
        front_costs: `(m, d)`.
        reference: lowest accuracy and highest costs `(d,)` that count.

    Returns:
        `(n,)`, in units of accuracy times those of the costs. Time and memory grow as n times m^d.
    """
    lowest, highest = reference
    if len(front):  # the rest changes nothing
        members = moocore.is_nondominated(np.column_stack([-front, front_costs]))
        front, front_costs = front[members], front_costs[members]
    levels = np.unique(np.append(np.maximum(front, lowest), lowest))
    gains = expected_improvement(mean[:, None], deviation[:, None], levels)
    return (volumes(costs, front, front_costs, levels, highest) * gains).sum(1)


def volumes(costs: Floats, front: Floats, front_costs: Floats, levels: Floats, highest: Floats) -> Floats:
    """Return, of the box from each candidate's costs to `highest`, the volume above which the front is at each level.

    Returns:
        `(n, levels)`.
    """
    first = front_costs[:, 0]
    edges = np.unique(np.append(first[first < highest[0]], -np.inf))
    ends = np.append(edges[1:], highest[0])
    found = np.zeros((len(costs), len(levels)))
    for edge, end in zip(edges, ends, strict=True):
        width = np.maximum(0.0, end - np.maximum(edge, costs[:, 0]))
        there = first <= edge
        if costs.shape[1] > 1:
            found += width[:, None] * volumes(costs[:, 1:], front[there], front_costs[there, 1:], levels, highest[1:])
        else:
            level = np.searchsorted(levels, max(front[there].max(initial=levels[0]), levels[0]))
            found[:, level] += width
    return found
