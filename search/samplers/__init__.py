"""Samplers by name: Optuna's, ours, which propose whole networks from what the journal holds, and a user's own.

Every parameter of a space is a choice, and which are asked may depend on earlier ones. Optuna's random, TPE and NSGA-II
samplers cope with that; its GP sampler needs the same parameters in every trial.
"""

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from record import plugins
from record.study import Search, StudyError
from record.trial import Trial
from search.networks import Networks
from search.samplers.proposing import STARTUP, Draw, Proposing

OURS = {"surrogate": "search.samplers.surrogate:SurrogateSampler", "local": "search.samplers.local:LocalSampler"}
OPTUNAS = {
    "random": optuna.samplers.RandomSampler,
    "tpe": partial(optuna.samplers.TPESampler, n_startup_trials=STARTUP),
    "nsga2": partial(optuna.samplers.NSGAIISampler, population_size=20),
    "gp": partial(optuna.samplers.GPSampler, n_startup_trials=STARTUP),
}


def named(name: str) -> type:
    """Return the class of a known sampler.

    Raises:
        ValueError: if there is none.
    """
    if name in OURS:
        module, _, kind = OURS[name].partition(":")
        return getattr(importlib.import_module(module), kind)
    if name not in OPTUNAS:
        raise ValueError(
            f"must be one of {', '.join([*OURS, *OPTUNAS])}, or my_package.module:Name of your own sampler"
        )
    return BaseSampler


def make_sampler(study: Search, trials: Mapping[int, Trial], networks: Networks, seed: int) -> BaseSampler:
    """Return the sampler that a study names.

    A user's own is a `Proposing`, made as ours are, or any of Optuna's kind, which is given the seed.

    Raises:
        StudyError: if it cannot search the study's space.
    """
    given: dict[str, Any] = dict(study.sampler) if isinstance(study.sampler, dict) else {"name": study.sampler}
    name, arguments = given.pop("name"), given
    if name == "gp":
        check_unconditional(networks)
    kind: Any = OPTUNAS.get(name) or plugins.named("sampler", name)
    try:
        if name not in OPTUNAS and issubclass(kind, Proposing):
            return kind(study, trials, networks, seed, **arguments)
        return kind(seed=seed, **arguments)
    except TypeError as error:
        raise StudyError(f"sampler={study.sampler}: {error}") from None


def check_unconditional(networks: Networks, draws: int = 100) -> None:
    """Raise StudyError if some parameter is not asked in each of some random trials."""
    generator = np.random.default_rng(0)
    asked: list[set[str]] = []
    for _ in range(draws):
        draw = Draw(generator)
        networks.suggest(draw)
        asked.append(set(draw.params))
    sometimes = {name for names in asked for name in names if not all(name in others for others in asked)}
    if sometimes:
        raise StudyError(
            f"sampler=gp needs the same parameters in every trial, but {min(sometimes)} is asked in some only; "
            "use surrogate, tpe, nsga2, local or random, or narrow the space."
        )
