"""What a comparison trains: all listed networks with the first seed, then with the next, each to the end."""

from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from record.study import Comparison
from record.trial import State, Trial
from search.journal import Journal
from search.networks import Networks
from search.policies.full import Policy
from search.samplers.proposing import ByName


class Training(NamedTuple):
    """A network by name, and the seed that it is trained with."""

    network: str
    seed: int


class Listed(Policy):
    """Works off a list of trainings, and measures each network twice."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        assert isinstance(self.study, Comparison)
        self.plan = planned(self.study, journal.trials.values())
        """What is to be trained yet."""

    def sampler(self, networks: Networks, seed: int) -> BaseSampler:
        """Return what chooses the next of the list."""
        return PlannedSampler(self.plan)

    def spent(self, exhausted: bool) -> bool:
        """Whether the list is worked off."""
        return not self.plan

    def seed(self) -> int:
        """Return the seed of the training that was just asked for, and take it off the list."""
        return self.plan.popleft().seed

    def counts(self, done: Iterable[Trial], trial: Trial) -> bool:
        """Return True: every listed network matters."""
        return True


def planned(study: Comparison, trials: Collection[Trial]) -> deque[Training]:
    """Return the trainings that a study lists and that no trial is of, in order; those that failed come again."""
    names = study.listed
    failed = {trial.number for trial in trials if trial.state is State.failed}
    tried = [trial for trial in trials if failed.isdisjoint((trial.number, trial.twin))]
    known = {Training(trial.params.get("network", names[0]), trial.seed) for trial in tried}
    wanted = (Training(name, seed) for seed in range(study.seed, study.seed + study.seeds) for name in names)
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
