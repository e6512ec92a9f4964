"""Costs as sums over the parts of a network, which are those that its whole count has."""

from typing import Any

import numpy as np
import pytest

from repmlp.networks import NetworkConfig
from repmlp.networks.pspnet import pspnet
from repmlp.networks.resnet import face_resnet, resnet
from repmlp.paper import TABLES
from search.measuring.costs import network_costs, part_costs, summed_costs
from search.samplers.proposing import Draw
from spaces.cifar_mlp import CifarMLPSpace
from spaces.mixer import MixerSpace
from spaces.repmlpnet import RepMLPNetSpace
from spaces.resnet import ResNet50Space


def drawn(space: Any, count: int) -> list[NetworkConfig]:
    generator = np.random.default_rng(0)
    return [space.suggest(Draw(generator), *space.images) for _ in range(count)]


@pytest.mark.parametrize("space", [CifarMLPSpace(), MixerSpace(), RepMLPNetSpace(), ResNet50Space()])
def test_the_networks_of_every_space_cost_what_their_parts_do(space: Any) -> None:
    for config in drawn(space, 4):
        assert hasattr(config, "parts")
        assert summed_costs(config) == network_costs(config)


NAMED: dict[str, NetworkConfig] = {
    "flat head": face_resnet(width=0.25, classes=16),
    "small stem": resnet(width=0.25, stem="small", size=(48, 48), classes=7),
    "context": resnet(width=0.25, stages={"c4": {"context": "nonlocal"}, "c5": {"context": "gc"}}, size=(64, 64)),
    "no head": resnet(width=0.25, head="none", size=(64, 64)),
    "maps": pspnet(width=0.25, size=(64, 64), classes=5),
    "pure MLP": TABLES[1]["Pure MLP"],
    "conv9": TABLES[1]["D) FC3 as conv9"],
}


@pytest.mark.parametrize("name", NAMED)
def test_networks_of_every_shape_cost_what_their_parts_do(name: str) -> None:
    assert summed_costs(NAMED[name]) == network_costs(NAMED[name])


def test_equal_parts_are_counted_once() -> None:
    part_costs.cache_clear()
    networks = drawn(CifarMLPSpace(), 30)
    for config in networks:
        summed_costs(config)
    assert part_costs.cache_info().misses < sum(len(list(c.deployed().parts())) for c in networks) / 2
