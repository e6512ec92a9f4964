"""Samplers that propose whole networks from what the journal holds, and what they are made of."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from record.study import Search
from record.trial import Trial
from search.networks import Networks
from search.ranking import Floats, ranks
from spaces.choices import plain_name

STARTUP = 10
"""Trials drawn at random before a sampler learns from them."""
Params = dict[str, Any]


class Draw:
    """A trial that takes `params` where they are offered, and else draws at random.

    Its own `params` are those that it was asked for, by the plain names of the parameters.
    """

    def __init__(self, generator: np.random.Generator, params: Mapping[str, Any] | None = None) -> None:
        self.generator, self.wanted = generator, params or {}
        self.params: Params = {}
        self.offered: dict[str, Sequence[Any]] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return a choice."""
        name = plain_name(name)
        value = self.wanted.get(name)
        if name not in self.wanted or value not in choices:
            value = choices[int(self.generator.integers(len(choices)))]
        self.params[name], self.offered[name] = value, choices
        return value


def mutated(generator: np.random.Generator, params: Mapping[str, Any], offered: Mapping[str, Sequence[Any]]) -> Params:
    """Return parameters with one or more changed: another is, again and again, with probability 1/2."""
    changed = dict(params)
    names = [n for n, choices in offered.items() if len(choices) > 1]
    for _ in range(min(len(names), int(generator.geometric(0.5)))):
        name = names[int(generator.integers(len(names)))]
        others = [v for v in offered[name] if v != params[name]]
        changed[name] = others[int(generator.integers(len(others)))]
    return changed


class ByName(BaseSampler):
    """An Optuna sampler that chooses each parameter by its name, as spaces are conditional."""

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return nothing."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}


class Proposing(ByName, ABC):
    """An Optuna sampler that chooses a whole network at once.

    Args:
        study: whose objectives count.
        trials: of its journal, by number.
        networks: where networks come from.
        seed: of all that is random.
    """

    proposal: Params

    def __init__(self, study: Search, trials: Mapping[int, Trial], networks: Networks, seed: int) -> None:
        self.study, self.trials, self.networks = study, trials, networks
        self.generator = np.random.default_rng(seed)
        costs = [q for q in study.quantities if q.when != "trained"]
        self.costs = [q.name for q in costs]
        self.signs = np.array([-1.0 if q.maximised else 1.0 for q in costs])

    @abstractmethod
    def propose(self, judged: list[Trial]) -> Params:
        """Return the parameters of the next network; those that it leaves out are drawn at random.

        Args:
            judged: trials that have reached the first rung, at least `STARTUP`.
        """

    def cost_losses(self, trial: Trial) -> Floats:
        """Return the cost objectives of a measured trial, to be minimised."""
        known = self.study.costs(trial)
        return self.signs * np.array([known[name] for name in self.costs])

    def parents(self, judged: list[Trial]) -> list[Trial]:
        """Return the trials that no other one of as many epochs dominates."""
        found: list[Trial] = []
        for epochs in sorted({len(e.curve) for e in judged}, reverse=True):
            alike = [e for e in judged if len(e.curve) == epochs]
            losses = np.array([[-e.curve[-1].accuracy, *self.cost_losses(e)] for e in alike])
            found += [alike[row] for row in np.flatnonzero(ranks(losses, np.zeros(len(alike))) == 0)]
        return found

    def mutants(self, parent: Trial, count: int) -> list[Draw]:
        """Return draws of networks that differ from a trial's in one choice or more, and in what depends on them."""
        known = Draw(self.generator, parent.params)
        self.networks.suggest(known)
        return [Draw(self.generator, mutated(self.generator, known.params, known.offered)) for _ in range(count)]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose a network."""
        first = self.study.budgets[0]
        judged = [e for e in self.trials.values() if len(e.curve) >= first]
        self.proposal = self.propose(judged) if len(judged) >= STARTUP else {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the proposal's value of a parameter."""
        assert isinstance(param_distribution, CategoricalDistribution)
        return Draw(self.generator, self.proposal).suggest_categorical(param_name, param_distribution.choices)
