import optuna
import pytest

from repmlp.networks import config_to_dict
from repmlp.networks.baselines import TorchvisionNet
from repmlp.networks.cifar import pure_mlp
from repmlp.networks.resnet import resnet
from spaces.enumeration import outcomes
from spaces.fixed import FixedSpace


def test_networks_take_size_and_classes_from_the_data_unless_given() -> None:
    space = FixedSpace(
        networks={
            "ResNet": {"build": "resnet", "width": 0.25, "stem": "small"},
            "torchvision": {"kind": "torchvision", "name": "resnet50", "classes": 7},
        }
    )
    found = list(outcomes(lambda trial: space.suggest(trial, 3, (64, 64), 10)))
    assert found == [
        resnet(50, width=0.25, stem="small", size=(64, 64), classes=10).canonical(),
        TorchvisionNet(name="resnet50", size=(64, 64), classes=7),
    ]


def test_a_whole_configuration_is_a_network_and_equal_ones_count_once() -> None:
    values = config_to_dict(pure_mlp())
    space = FixedSpace(networks={"a": values, "b": values})
    assert space.suggest(optuna.create_study().ask(), 3, (32, 32), 10) == pure_mlp().canonical()
    assert space.count(3, (32, 32), 10) == 1


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"build": "resnt"}, "network 'x': build='resnt' must be one of resnet, face_resnet, pspnet"),
        ({"kind": "vgg"}, "network 'x': kind='vgg' must be one of"),
        ({"build": "resnet", "stages": {"c3": {"kind": "bottleneck", "r": 3}}}, "network 'x': stage c3: r=3"),
        ({"build": "resnet", "deptth": 50}, "network 'x': .*deptth"),
    ],
)
def test_a_wrong_description_names_its_network(network: dict[str, object], message: str) -> None:
    space = FixedSpace(networks={"x": network})
    with pytest.raises(ValueError, match=message):
        space.suggest(optuna.create_study().ask(), 3, (64, 64), 10)
