"""Identities of networks, which stay what they are when configurations get new fields."""

import hashlib
import json
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

FIELDS = {
    "repmlp.config:RepMLPBlock": "kind partition groups kernels reduction global_perceptron fc3_conv",
    "repmlp.config:ConvBlock": "kind kernel groups",
    "repmlp.networks.cifar:Stage": "channels blocks block",
    "repmlp.networks.cifar:CifarNet": "kind stages in_channels size classes head",
    "repmlp.networks.resnet_stage:ResNetStage": "channels blocks kind repmlp r replace_first stride dilation context",
    "repmlp.networks.resnet:ResNet": "kind stages stem stem_channels expansion head in_channels size classes",
    "repmlp.networks.pspnet:PSPNet": "kind backbone bins channels classes",
    "repmlp.networks.repmlpnet:RepMLPNetStage": "channels blocks share_sets partition",
    "repmlp.networks.repmlpnet:RepMLPNet": "kind stages kernels reduction patch expansion in_channels size classes",
    "repmlp.networks.mixer:MixerNet": "kind style patch channels blocks token_hidden channel_hidden mixing in_channels "
    "size classes",
    "repmlp.networks.mobilefacenet:MobileFaceNet": "kind in_channels size classes width",
    "repmlp.networks.baselines:TorchvisionNet": "kind name in_channels size classes",
    "repmlp.networks.timm_net:TimmNet": "kind model in_channels size classes",
}
"""Fields that are in an identity at any value, by where their class is: those of the first recorded runs.

Never changed: a field that comes later is in an identity only where it differs from its default, which is in canonical
form and does not change either.
"""


def path_of(kind: type) -> str:
    """Return where a class is, such as `my_package.module:Name`."""
    return f"{kind.__module__}:{kind.__qualname__}"


def identity(value: Any) -> Any:
    """Return the plain values that tell a configuration from others.

    A class that is not in `FIELDS` is named in them, and each of its fields left out at its default.
    """
    if isinstance(value, list | tuple):
        return [identity(part) for part in value]
    if isinstance(value, dict):
        return {key: identity(part) for key, part in value.items()}
    if not is_dataclass(value):
        return value
    path = path_of(type(value))
    always = FIELDS.get(path, "").split()
    given = {f: identity(getattr(value, f.name)) for f in fields(value)}
    kept = {f.name: v for f, v in given.items() if f.name in always or v != identity(default(f))}
    return kept if path in FIELDS else {**kept, "kind": path}


def default(field: Field[Any]) -> Any:
    """Return what a field is if it is not given; `MISSING` if it must be."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def digest(config: Any) -> str:
    """Return 16 hexadecimal digits that equal canonical configurations share."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()[:16]
