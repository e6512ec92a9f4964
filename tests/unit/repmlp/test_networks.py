"""Every family of networks: converted against trained, built converted, and its identities."""

from dataclasses import replace

import pytest
import torch

from repmlp import build, config_from_dict, config_to_dict, convert, deploy_id, training_id
from repmlp.config import RepMLPBlock
from repmlp.networks import KINDS, NetworkConfig
from repmlp.networks.baselines import TorchvisionNet
from repmlp.networks.cifar import pure_mlp
from repmlp.networks.mixer import MixerNet
from repmlp.networks.mobilefacenet import MobileFaceNet
from repmlp.networks.pspnet import pspnet
from repmlp.networks.repmlpnet import RepMLPNet, RepMLPNetStage
from repmlp.networks.resnet import ResNet, ResNetStage, face_resnet, resnet
from repmlp.networks.timm_net import TimmNet
from tests.blocks import lived_in

MIXED = RepMLPBlock(partition=4, groups=2, kernels=(1, 3))


def small(kind: str, **changes: object) -> ResNet:
    stages = {name: {"kind": kind, "r": 2, "repmlp": MIXED, **changes} for name in ("c2", "c3", "c4")}
    if kind == "plain":
        stages = dict.fromkeys(("c3", "c4"), changes)
    return resnet(50, stages, width=0.125, stem="small", size=(32, 40), classes=7)


FAMILIES: dict[str, NetworkConfig] = {
    "pure MLP": pure_mlp(),
    "plain ResNet": small("plain"),
    "RepMLP Bottleneck": small("bottleneck"),
    "RepMLP Light": small("light"),
    "GLFP": small("glfp"),
    "Non-local": small("plain", context="nonlocal"),
    "GC": small("plain", context="gc"),
    "torchvision ResNet-50": TorchvisionNet(name="resnet50", size=32, classes=5),
    "timm RepGhost": TimmNet(model="repghostnet_050", size=(32, 32), classes=5),
    "torchvision EfficientNet-B1": TorchvisionNet(name="efficientnet_b1", size=32, classes=5),
    "RepMLP-FaceRes": face_resnet(
        {"c2": {"kind": "bottleneck", "r": 2, "repmlp": replace(MIXED, partition=(3, 3))}},
        width=0.125,
        size=48,
        classes=16,
        in_channels=1,
    ),
    "MobileFaceNet": MobileFaceNet(size=32, width=0.25, classes=8),
    "PSPNet": pspnet((49, 49), 4, {"c3": {"kind": "bottleneck", "repmlp": MIXED}}, width=0.125, channels=8),
    "RepMLPNet": RepMLPNet(
        stages=(
            RepMLPNetStage(channels=8, blocks=1, share_sets=2, partition=4),
            RepMLPNetStage(channels=16, blocks=2, share_sets=16, partition=4),
        ),
        size=32,
        classes=6,
    ),
    "MLP-Mixer with RepMLP": MixerNet(
        style="mixer", patch=4, channels=16, blocks=2, channel_hidden=32, mixing=MIXED, size=32, classes=5
    ),
    "ResMLP with RepMLP": MixerNet(
        style="resmlp", patch=4, channels=16, blocks=2, channel_hidden=32, mixing=MIXED, size=32, classes=5
    ),
}


def images(config: NetworkConfig, batch: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(batch, config.in_channels, *config.size, dtype=dtype)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_a_converted_network_computes_what_the_trained_one_does(
    family: str, dtype: torch.dtype, bound: float, batch: int
) -> None:
    torch.manual_seed(batch)
    config = FAMILIES[family]
    model = lived_in(build(config)).to(dtype)
    converted = convert(model)
    x = images(config, batch, dtype)
    expected = model(x)
    assert expected.abs().max() > 0
    assert (converted(x) - expected).abs().max() <= bound * expected.abs().max()
    left = [name for name in converted.state_dict() if name.endswith("running_mean")]
    assert not left or family in ("RepMLPNet", "timm RepGhost")  # whose BNs stand before blocks, and by themselves


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_deploy_form_takes_converted_weights(family: str) -> None:
    config = FAMILIES[family]
    converted = convert(lived_in(build(config)))
    deployed = build(config, deploy=True).eval()
    deployed.load_state_dict(converted.state_dict())
    x = images(config, 2, torch.float32)
    torch.testing.assert_close(deployed(x), converted(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_survives_json_and_keeps_its_identities(family: str) -> None:
    config = FAMILIES[family]
    again = config_from_dict(config_to_dict(config))
    assert again == config.canonical()
    assert (training_id(again), deploy_id(again)) == (training_id(config), deploy_id(config))


def test_every_kind_is_among_the_families() -> None:
    assert {config.kind for config in FAMILIES.values()} == set(KINDS)


def test_kernel_sets_change_training_but_not_what_is_deployed() -> None:
    other = {"kind": "bottleneck", "r": 2, "repmlp": replace(MIXED, kernels=())}
    a, b = (resnet(50, {"c3": stage}, size=32, stem="small") for stage in ({**other, "repmlp": MIXED}, other))
    assert training_id(a) != training_id(b)
    assert deploy_id(a) == deploy_id(b)


def test_what_has_no_effect_does_not_make_another_network() -> None:
    plain = resnet(50, {"c3": {"kind": "plain", "r": 4, "repmlp": MIXED}})
    assert training_id(plain) == training_id(resnet(50))
    light = resnet(50, {"c4": {"kind": "light", "r": 4, "repmlp": replace(MIXED, partition=(7, 7))}})
    assert training_id(light) == training_id(
        resnet(50, {"c4": {"kind": "light", "repmlp": replace(MIXED, partition=(7, 7))}})
    )
    alone = ResNetStage(channels=64, blocks=1, kind="bottleneck", repmlp=MIXED)
    assert alone.canonical((8, 8)).kind == "plain"


def test_which_blocks_a_stage_replaces() -> None:
    from repmlp import RepMLP

    model = build(small("bottleneck"))
    found = [sum(isinstance(m, RepMLP) for m in stage.modules()) for stage in model.stages]
    assert found == [3, 3, 5, 0]


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"kind": "bottleneck", "r": 3}, "stage c3: r=3 does not divide the width 128; use one of 1, 2, 4, 8"),
        ({"kind": "bottleneck", "replace_first": True}, "replace_first=True needs stride=1"),
        (
            {"kind": "bottleneck", "repmlp": RepMLPBlock(groups=3)},
            "stage c3: groups=3 does not divide C=128 and O=128",
        ),
        ({"kind": "bottleneck", "repmlp": RepMLPBlock(partition=29)}, "stage c3: partition=.29, 29. exceeds the map"),
    ],
)
def test_a_stage_that_cannot_be_built_says_what_works(stage: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet(50, {"c3": stage})


def test_the_auxiliary_classifier_of_pspnet_trains_and_is_not_deployed() -> None:
    model = build(FAMILIES["PSPNet"])
    x = images(FAMILIES["PSPNet"], 2, torch.float32)
    main, auxiliary = model.train()(x)
    assert main.shape == auxiliary.shape == (2, 4, 49, 49)
    assert not any("auxiliary" in name for name in convert(model).state_dict())
