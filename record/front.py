"""The Pareto front of trials, and its hypervolume: the one definition that every floor uses."""

from collections.abc import Iterable, Mapping, Sequence

import moocore
import numpy as np

from record.run import Run
from record.study import Study
from record.trial import State, Trial


def front_of(run: Run) -> list[int]:
    """Return the numbers of the complete trials that no other one beats in all objectives."""
    done = complete(run.study, run.entries)
    numbers, points = list(done), np.array(list(done.values()), dtype=float)
    return [numbers[row] for row in np.flatnonzero(undominated(points, run.study.maximised))]


def complete(study: Study, trials: Iterable[Trial]) -> dict[int, list[float]]:
    """Return the objectives of the trials at full budget, by number, but of those that another one answered for.

    One without a value for an objective, such as a throughput that was not measured, is left out.
    """
    values = {t.number: [q.value(t) for q in study.quantities] for t in trials if t.state is State.complete}
    return {number: [v for v in row if v is not None] for number, row in values.items() if None not in row}


def undominated(points: np.ndarray, maximised: Sequence[bool]) -> np.ndarray:
    """Return which rows of `(n, objectives)` no other one beats, `(n,)`; equal rows are all kept."""
    if not len(points):
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(points, maximise=list(maximised), keep_weakly=True)


def hypervolume(study: Study, points: Sequence[Sequence[float]], reference: Mapping[str, float]) -> float:
    """Return that of some rows of objectives against the study's reference point, in the product of their units."""
    if not len(points):
        return 0.0
    at = [reference[q.name] for q in study.quantities]
    return float(moocore.hypervolume(np.array(points, dtype=float), ref=at, maximise=study.maximised))
