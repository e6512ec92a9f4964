"""Rivals from timm: converted exactly, counted, and named in studies."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp import convert
from repmlp.convert import foldable
from repmlp.networks import build, config_from_dict, config_to_dict, deploy_id
from repmlp.networks.timm_net import TimmNet
from search.measuring.costs import count_macs, network_costs, training_costs
from spaces.fixed import FixedSpace

pytest.importorskip("timm", reason="timm is not installed")
from benchmarks.timm_conversion import lived_in as trained

QUICK = ["repghostnet_050", "levit_128s", "mobilenetv3_small_050"]
FAMILIES = [
    *QUICK,
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "resnet18",
            "efficientvit_m0",
            "mixer_s32_224",
            "repvgg_a0",
            "mobileone_s0",
            "fastvit_t8",
            "repvit_m0_9",
            "efficientvit_b0",
            "resmlp_12_224",
            "gmlp_ti16_224",
            "tiny_vit_5m_224",
            "mobilenetv4_conv_small",
            "efficientnet_b0",
            "regnety_002",
            "shvit_s1",
            "starnet_s1",
            "swiftformer_xs",
            "hgnetv2_b0",
            "mobilevitv2_050",
            "convmixer_768_32",
            "ghostnetv3_050",
            "convnext_atto",
            "vit_tiny_patch16_224",
        )
    ),
]
LEFT = {"repghostnet_050": 32, "starnet_s1": 1, "swiftformer_xs": 5, "convmixer_768_32": 65, "ghostnetv3_050": 52}
"""BN that no convolution or linear layer precedes: in branches by themselves, or behind an activation."""


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_the_conversion_of_each_family_is_exact_and_leaves_no_conv_bn(name: str) -> None:
    model, images = trained(name), torch.randn(2, 3, 64, 64, dtype=torch.double)
    before = copy.deepcopy(model)
    converted = convert(model)
    expected, found = model(images), converted(images)
    assert float((found - expected).abs().max()) <= 1e-10 * float(expected.abs().max())
    assert sum(isinstance(m, _BatchNorm) for m in converted.modules()) == LEFT.get(name, 0)
    assert torch.get_default_dtype() == torch.float32
    assert {p.dtype for p in converted.parameters()} == {torch.double}
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), before.state_dict().values(), strict=True)
    )
    deployed = TimmNet(model=name, size=(64, 64), classes=10).build(deploy=True)
    deployed.load_state_dict(converted.state_dict())
    network = TimmNet(model=name, size=(64, 64), classes=10)
    costs = network_costs(network)
    assert costs["params"] == sum(p.numel() for p in converted.parameters())
    assert costs["macs"] == count_macs(converted, (3, 64, 64)) <= training_costs(network)["macs"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_of_a_network_is_kept(dtype: torch.dtype) -> None:
    converted = convert(trained("repghostnet_050").to(dtype))
    assert {p.dtype for p in converted.parameters()} == {dtype}


def test_weights_that_are_standardised_are_not_folded() -> None:
    from timm.layers import StdConv2d

    bn = nn.BatchNorm2d(4)
    assert foldable(nn.Conv2d(3, 4, 1), bn)
    assert not foldable(StdConv2d(3, 4, 1), bn)
    assert not foldable(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))


def test_a_rival_is_named_in_a_study_for_the_data_at_hand() -> None:
    space = FixedSpace(networks={"rival": {"build": "timm", "model": "mixer_s32_224"}})
    network = space.network("rival", 1, (64, 96), 7)
    assert network == TimmNet(model="mixer_s32_224", in_channels=1, size=(64, 96), classes=7)
    assert build(network).eval()(torch.zeros(1, 1, 64, 96)).shape == (1, 7)
    assert config_from_dict(config_to_dict(network)) == network
    assert deploy_id(network) != deploy_id(TimmNet(model="mixer_s32_224"))
    assert network.describe() == "timm mixer_s32_224"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "resnet17"}, "model='resnet17' is not one of timm's; some are"),
        ({"model": "mixer_s32_224", "size": [16, 16]}, "cannot be made for 16x16: .*Kernel size"),
    ],
)
def test_a_rival_that_is_not_there_or_does_not_fit_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_from_dict({"kind": "timm", **values}).build()
