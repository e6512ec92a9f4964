"""A network whose configuration is a class of the user's, named by where it is."""

from collections.abc import Mapping

import optuna
import pytest
import torch

from repmlp import build, config_from_dict, config_to_dict, convert, training_id
from repmlp.networks.resnet import resnet
from results.pivots import holders
from search.measuring.costs import network_costs
from spaces.fixed import FixedSpace
from tests.blocks import lived_in
from tests.own_networks import NamedResNet, Patches

KIND = "tests.own_networks:Patches"


def test_a_network_of_ones_own_survives_plain_values_under_where_its_class_is() -> None:
    values = config_to_dict(Patches(channels=6, block={"partition": 4, "kernels": [1, 3]}))
    assert values["kind"] == KIND
    assert values["block"]["kernels"] == [[1, 1], [3, 3]]
    config = config_from_dict(values)
    assert isinstance(config, Patches)
    assert config.channels == 6
    assert config_to_dict(config) == values
    assert config.describe() == "patches 6 4 g1 k1+3 global"
    assert holders(values) == "the middle"


def test_a_subclass_of_a_kind_is_a_network_of_its_own() -> None:
    plain = resnet(50)
    own = NamedResNet(stages=plain.stages, title="mine")
    values = config_to_dict(own)
    assert values["kind"] == "tests.own_networks:NamedResNet"
    assert config_from_dict(values) == own.canonical()
    assert training_id(own) != training_id(plain)


def test_a_study_names_a_network_of_ones_own() -> None:
    space = FixedSpace(networks={"mine": {"kind": KIND, "channels": 8}})
    config = space.suggest(optuna.create_study().ask(), 1, (16, 16), 7)
    assert config == Patches(channels=8, in_channels=1, size=(16, 16), classes=7)
    assert network_costs(config)["params"] == sum(p.numel() for p in build(config, deploy=True).parameters())


@torch.inference_mode()
def test_it_builds_and_converts_as_others_do() -> None:
    model = lived_in(build(Patches()))
    deployed = build(Patches(), deploy=True).eval()
    deployed.load_state_dict(convert(model).state_dict())
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(deployed(x), model(x))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "vgg"}, "kind='vgg' must be one of cifar, resnet, .*my_module:Name"),
        ({}, "kind='' must be one of"),
        ({"kind": "tests.not_there:Patches"}, "kind='tests.not_there:Patches' is not found: No module named"),
        ({"kind": "tests.own_networks:Patch"}, "is not found: .*has no attribute 'Patch'"),
        ({"kind": "tests.own_networks:resnet"}, "is not found"),
        ({"kind": "tests.own_networks:KIND.x"}, "is not found"),
        ({"kind": "tests.own_networks:made"}, "must be a frozen dataclass"),
        ({"kind": "tests.own_networks:Thawed"}, "must be a frozen dataclass"),
        ({"kind": "tests.own_networks:Half"}, "lacks classes, deployed, build, describe, placement"),
        ({"kind": KIND, "chanels": 4}, f"{KIND} has no chanels; it has block, channels"),
        ({"kind": KIND, "pooling": "mean"}, f"{KIND}: pooling='mean' must be one of average, max"),
        ({"kind": KIND, "block": {"groups": 0}}, f"{KIND}: block: groups=0 must be a positive integer"),
    ],
)
def test_a_class_that_is_not_a_network_is_refused(values: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_dict(values)
