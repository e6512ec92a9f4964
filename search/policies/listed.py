"""What a study that lists its networks trains: all of them with the first seed, then with the next."""

from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from search.journal import Entry
from search.samplers.proposing import ByName
from search.study import Study


class Training(NamedTuple):
    """A network by name, and the seed that it is trained with."""

    network: str
    seed: int


def planned(study: Study, entries: Iterable[Entry]) -> deque[Training] | None:
    """Return the trainings that a study lists and that are not in its journal, in order; None for a search."""
    if not study.listed:
        return None
    known = {Training(e.trial.params.get("network", study.listed[0]), e.seed) for e in entries}
    seeds = range(study.seed, study.seed + (study.seeds or 0))
    wanted = (Training(name, seed) for seed in seeds for name in study.listed)
    return deque(training for training in wanted if training not in known)


class PlannedSampler(ByName):
    """Chooses the network at the head of a plan."""

    def __init__(self, plan: deque[Training]) -> None:
        self.plan = plan

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the network's name, which is all that is asked."""
        return self.plan[0].network
