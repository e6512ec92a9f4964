"""Networks by configuration: building, plain values and identities."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from repmlp.baselines import TorchvisionNet, torchvision_network
from repmlp.cifar import CifarNet, CifarNetwork
from repmlp.config import from_dict
from repmlp.mixer import MixerNet, MixerNetwork
from repmlp.mobilefacenet import MobileFaceNet, MobileFaceNetwork
from repmlp.pspnet import PSPNet, PSPNetwork
from repmlp.repmlpnet import RepMLPNet, RepMLPNetwork
from repmlp.resnet import ResNet, ResNetNetwork

NetworkConfig = CifarNet | ResNet | PSPNet | RepMLPNet | MixerNet | MobileFaceNet | TorchvisionNet
"""Each has `in_channels`, `size`, `classes`, `canonical()` and `deployed()`."""
BUILDERS: dict[type[NetworkConfig], Callable[..., nn.Module]] = {
    CifarNet: CifarNetwork,
    ResNet: ResNetNetwork,
    PSPNet: PSPNetwork,
    RepMLPNet: RepMLPNetwork,
    MixerNet: MixerNetwork,
    MobileFaceNet: MobileFaceNetwork,
    TorchvisionNet: torchvision_network,
}
KINDS: dict[str, type[NetworkConfig]] = {kind.kind: kind for kind in BUILDERS}


def build(config: NetworkConfig, deploy: bool = False) -> nn.Module:
    """Return the network of `config` with fresh weights; with `deploy`, in its converted form."""
    return BUILDERS[type(config)](config, deploy)


def config_from_dict(values: Mapping[str, Any]) -> NetworkConfig:
    """Read a network from plain values, such as JSON; the inverse of `config_to_dict`.

    Raises:
        ValueError: naming the field, if a value or a key is wrong.
    """
    return from_dict(KINDS, values)


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Return the canonical configuration as plain values."""
    return json.loads(json.dumps(asdict(config.canonical())))


def training_id(config: NetworkConfig) -> str:
    """Return a name that equal networks in training share, 16 hexadecimal digits."""
    return digest(config.canonical())


def deploy_id(config: NetworkConfig) -> str:
    """Return a name that networks share whose converted form has the same layers, such as all kernel sets."""
    return digest(config.deployed())


def digest(config: NetworkConfig) -> str:
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]
