"""The throughput of a finished network once more: alone on its device, beside the plainest network of its study."""

from collections.abc import Mapping
from typing import Any

from record.measure import Measurement
from record.study import Study
from repmlp import config_from_dict
from search.measuring.costs import input_shape
from search.measuring.points import measured
from search.networks import SpaceNetworks


def remeasured(study: Study, config: Mapping[str, Any], point: str) -> Measurement:
    """Measure the converted form of `config` as `study` measures at a point, while no trial trains on its device.

    Args:
        study: its space gives the network that is measured beside it.
        config: the network, as plain values.
        point: name of the measurement point.

    Raises:
        MeasureError: if that cannot be done here.
    """
    network = config_from_dict(config)
    channels, *size = input_shape(network)
    image = channels, (size[0], size[1]), network.classes
    baseline = config_from_dict(SpaceNetworks(study.space, image).baseline())
    return measured(network, baseline, {point: study.points[point]}, study.resources.device)[point]
