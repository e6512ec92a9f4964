"""Random networks of a study's space: to check its limits, to fix its reference point, to show before training."""

from collections.abc import Iterator

import optuna

from repmlp.networks import NetworkConfig
from search.measuring.costs import network_costs
from search.networks import Image
from search.study import Study, StudyError
from spaces.ablations import AblationSpace
from spaces.fixed import FixedSpace

DRAWS = 200


def random_networks(study: Study, image: Image) -> Iterator[tuple[NetworkConfig, dict[str, int]]]:
    """Yield networks drawn at random from the study's seed, with their counts; nothing is recorded.

    Raises:
        StudyError: if the space has no network for such images.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dummy = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seed))
    while True:
        try:
            config = study.space.suggest(dummy.ask(), *image)
        except ValueError as error:
            raise StudyError(f"the space has no network for {image[1][0]}x{image[1][1]} images: {error}") from None
        yield config, network_costs(config)


def listed_networks(study: Study, image: Image) -> list[tuple[str, NetworkConfig, dict[str, int]]]:
    """Return name, network and counts of all that a study lists.

    Raises:
        StudyError: if one does not fit such images.
    """
    assert isinstance(study.space, AblationSpace | FixedSpace)
    try:
        networks = [(name, study.space.network(name, *image)) for name in study.listed]
    except ValueError as error:
        raise StudyError(str(error)) from None
    return [(name, network, network_costs(network)) for name, network in networks]


def reference_point(study: Study, image: Image) -> dict[str, float]:
    """Return the point that the hypervolume is taken against, by objective.

    It is chance accuracy, and for a cost its limit; without one, 0 images/s, or the largest count of the networks that
    are listed, or of 16 drawn at random.

    Raises:
        StudyError: if no network of `DRAWS` drawn at random keeps the limits on params and macs.
    """
    networks = random_networks(study, image)
    if study.listed:
        drawn = [costs for _, _, costs in listed_networks(study, image)]
    else:
        drawn = [next(networks)[1] for _ in range(16)]
    while all(max(study.limits.excess(costs).values(), default=0.0) > 0 for costs in drawn):
        if len(drawn) >= DRAWS:
            least = {name: min(costs[name] for costs in drawn) for name in ("params", "macs")}
            raise StudyError(
                f"none of {DRAWS} random networks of the space keeps the limits "
                f"{study.limits.model_dump(exclude_none=True)}; the least seen are params={least['params']:,} and "
                f"macs={least['macs']:,}. Raise the limits or widen the space."
            )
        drawn.append(next(networks)[1])
    largest = {name: max(costs[name] for costs in drawn) for name in ("params", "macs")}
    point = {
        "accuracy": 100 / image[2],
        "throughput": study.limits.min_throughput or 0.0,
        "latency": study.limits.max_latency or 0.0,
        "macs": study.limits.max_macs or largest["macs"],
        "params": study.limits.max_params or largest["params"],
    }
    return {name: point[name] for name in study.objectives}
