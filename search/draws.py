"""Random networks of a study's space: to check its limits, to fix its reference point, to show before training."""

from collections.abc import Iterator, Sequence
from itertools import islice

import optuna

from record.quantities import excess
from record.study import Study, StudyError
from repmlp.networks import NetworkConfig
from search.measuring.costs import parameters_of
from search.networks import Image, networks_of
from spaces.choices import Plainest, Preset, Trial

FEW, DRAWS = 16, 200
"""Random networks for a reference point, and the most that are drawn for one that keeps the limits."""
SOME, FAR = 5, 10
"""If even the least of so few networks is so many times over a limit, no more are drawn."""
Costs = dict[str, float]


def random_networks(study: Study, image: Image) -> Iterator[tuple[NetworkConfig, Costs]]:
    """Yield networks drawn at random from the study's seed, with their counts; nothing is recorded.

    Raises:
        StudyError: if the space has no network for such images.
    """
    describe = networks_of(study, image).describe
    for config in random_configs(study, image):
        yield config, describe(config).costs


def random_configs(study: Study, image: Image) -> Iterator[NetworkConfig]:
    """Yield networks drawn at random from the study's seed; StudyError if the space has none for such images."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dummy = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seed))
    while True:
        yield suggested(study, image, dummy.ask())


def suggested(study: Study, image: Image, trial: Trial) -> NetworkConfig:
    """Return the network that a trial asks for; StudyError if the space has none for such images."""
    try:
        return study.space.suggest(trial, *image)
    except ValueError as error:
        raise StudyError(f"the space has no network for {image[1][0]}x{image[1][1]} images: {error}") from None


def listed_configs(study: Study, image: Image) -> dict[str, NetworkConfig]:
    """Return all networks that a study lists, by name; StudyError if one does not fit such images."""
    try:
        return {name: study.space.network(name, *image) for name in study.listed}
    except ValueError as error:
        raise StudyError(str(error)) from None


def listed_networks(study: Study, image: Image) -> list[tuple[str, NetworkConfig, Costs]]:
    """Return name, network and counts of all that a study lists.

    Raises:
        StudyError: if one does not fit such images.
    """
    describe = networks_of(study, image).describe
    return [(name, network, describe(network).costs) for name, network in listed_configs(study, image).items()]


def reference_point(study: Study, image: Image) -> dict[str, float]:
    """Return the point that the hypervolume is taken against, by objective.

    It is chance accuracy, and for a cost its limit; without one, 0 images/s, or the largest count of the networks that
    are listed, or of 16 drawn at random.

    Raises:
        StudyError: if no listed network, or none of `DRAWS` drawn at random, keeps the limits on params and macs.
    """
    drawn = counted(study, image)
    point = dict.fromkeys(("accuracy", "accuracy_int8"), 100 / image[2])
    for q in study.quantities:
        known = [costs[q.name] for costs in drawn if q.name in costs]
        worst = (min if q.maximised else max)(known, default=0.0)
        point.setdefault(q.name, study.bounds.get(q.limit, worst))
    return {q.name: point[q.name] for q in study.quantities}


def counted(study: Study, image: Image) -> list[Costs]:
    """Return the counts of listed or random networks, some of which keep the limits.

    Where limits are far below what there is, few networks are counted, and their parameters first, which takes little.

    Raises:
        StudyError: if none keeps the limits.
    """
    describe, configs = networks_of(study, image).describe, random_configs(study, image)
    drawn = list(listed_configs(study, image).values()) or list(islice(configs, FEW))
    names = getattr(study.space, "names", ())
    there = [suggested(study, image, Preset({"network": name})) for name in names]
    few = there or [suggested(study, image, Plainest()), *drawn]
    most = 1 if there else FAR
    if study.limits:
        refuse(study, [{"params": parameters_of(config)} for config in few], most)
        refuse(study, [describe(config).costs for config in there or few[:SOME]], most)
    counts = [describe(config).costs for config in drawn]
    while not any(excess_of(study, costs) <= 1 for costs in counts):
        if len(counts) >= DRAWS:
            refuse(study, counts, 1)
        drawn.append(next(configs))
        costs: Costs = {"params": parameters_of(drawn[-1])}
        counts.append(describe(drawn[-1]).costs if excess_of(study, costs) <= 1 else costs)
    return counts if len(drawn) <= FEW else [describe(config).costs for config in drawn]


def excess_of(study: Study, costs: Costs) -> float:
    """Return how many times costs are what the limits allow, at most."""
    return 1 + max(excess(costs, study.bounds).values(), default=0.0)


def refuse(study: Study, counts: Sequence[Costs], most: float) -> None:
    """Raise StudyError if all of these costs are over the limits so many times."""
    if any(excess_of(study, costs) <= most for costs in counts):
        return
    names = [name for name in ("params", "macs") if any(name in costs for costs in counts)]
    least = " and ".join(f"{name}={min(c[name] for c in counts if name in c):,}" for name in names)
    listed = hasattr(study.space, "names")
    raise StudyError(
        f"none of {len(counts)}{'' if listed else ' random'} networks of the space keeps the limits "
        f"{limits_text(study)}; the least seen are {least}. Raise the limits or widen the space."
    )


def limits_text(study: Study) -> str:
    """Write the limits of a study."""
    return ", ".join(f"{name}={limit:,g}" for name, limit in study.limits.items())
