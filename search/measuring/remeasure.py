"""The throughput of a finished network once more: alone on its device, beside the plainest network of its study."""

from collections.abc import Mapping
from typing import Any

from record.measure import Throughput
from record.study import Study
from repmlp import build, config_from_dict
from search.measuring.costs import input_shape
from search.measuring.locks import DeviceLock
from search.measuring.throughput import measure
from search.networks import SpaceNetworks


def remeasured(study: Study, config: Mapping[str, Any], device: str) -> Throughput:
    """Measure the converted form of `config` as `study` measures, while no trial trains on `device`.

    Args:
        study: its space gives the network that is measured beside it.
        config: the network, as plain values.
        device: "cpu" or "cuda".
    """
    network = config_from_dict(config)
    channels, *size = input_shape(network)
    image = channels, (size[0], size[1]), network.classes
    baseline = config_from_dict(SpaceNetworks(study.space, image).baseline())
    alone = DeviceLock(device).alone
    return measure(build(network, True), input_shape(network), study.measure, device, build(baseline, True), alone)
