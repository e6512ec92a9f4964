"""Random networks of a study's space: to check its limits, to fix its reference point, to show before training."""

from collections.abc import Iterator

import optuna

from record.quantities import excess
from record.study import Study, StudyError
from repmlp.networks import NetworkConfig
from search.networks import Image, networks_of

DRAWS = 200


def random_networks(study: Study, image: Image) -> Iterator[tuple[NetworkConfig, dict[str, float]]]:
    """Yield networks drawn at random from the study's seed, with their counts; nothing is recorded.

    Raises:
        StudyError: if the space has no network for such images.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dummy, networks = (
        optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=study.seed)),
        networks_of(study, image),
    )
    while True:
        try:
            config = study.space.suggest(dummy.ask(), *image)
        except ValueError as error:
            raise StudyError(f"the space has no network for {image[1][0]}x{image[1][1]} images: {error}") from None
        yield config, networks.describe(config).costs


def listed_networks(study: Study, image: Image) -> list[tuple[str, NetworkConfig, dict[str, float]]]:
    """Return name, network and counts of all that a study lists.

    Raises:
        StudyError: if one does not fit such images.
    """
    try:
        networks = [(name, study.space.network(name, *image)) for name in study.listed]
    except ValueError as error:
        raise StudyError(str(error)) from None
    describe = networks_of(study, image).describe
    return [(name, network, describe(network).costs) for name, network in networks]


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
    while all(max(excess(costs, study.limits).values(), default=0.0) > 0 for costs in drawn):
        if len(drawn) >= DRAWS:
            least = {name: min(costs[name] for costs in drawn) for name in ("params", "macs")}
            raise StudyError(
                f"none of {DRAWS} random networks of the space keeps the limits "
                f"{limits_text(study)}; the least seen are params={least['params']:,} and "
                f"macs={least['macs']:,}. Raise the limits or widen the space."
            )
        drawn.append(next(networks)[1])
    point = {"accuracy": 100 / image[2]}
    for q in study.quantities:
        known = [costs[q.name] for costs in drawn if q.name in costs]
        worst = (min if q.maximised else max)(known, default=0.0)
        point.setdefault(q.name, study.limits.get(q.limit, worst))
    return {q.name: point[q.name] for q in study.quantities}


def limits_text(study: Study) -> str:
    """Write the limits of a study."""
    return ", ".join(f"{name}={limit:,g}" for name, limit in study.limits.items())
