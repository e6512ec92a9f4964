"""Networks by configuration: building, plain values and identities."""

import json
from collections.abc import Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any, ClassVar, Protocol, Self, cast

from torch import nn

from repmlp.checks import Size, made
from repmlp.ids import digest, path_of

KINDS: dict[str, str] = {
    "cifar": "repmlp.networks.cifar:CifarNet",
    "resnet": "repmlp.networks.resnet:ResNet",
    "pspnet": "repmlp.networks.pspnet:PSPNet",
    "repmlpnet": "repmlp.networks.repmlpnet:RepMLPNet",
    "mixer": "repmlp.networks.mixer:MixerNet",
    "mobilefacenet": "repmlp.networks.mobilefacenet:MobileFaceNet",
    "torchvision": "repmlp.networks.baselines:TorchvisionNet",
    "timm": "repmlp.networks.timm_net:TimmNet",
}
"""Where the configuration of each kind of network is."""


class NetworkConfig(Protocol):
    """The configuration of a network: a frozen dataclass that says all about it and builds it.

    Whoever brings a network writes such a class in a module that Python finds, and gives where it is as the `kind`:
    `{kind: my_package.module:Name, ...}` with its fields. The class needs no field `kind`; one that it has, as a
    subclass of a kind here does, keeps its default. `in_channels`, `size` and `classes` may be properties, but studies
    give them as fields from the data. Its `__post_init__` makes parts that are dataclasses of plain values, for example
    by `repmlp.config.made`.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __hash__(self) -> int: ...

    @property
    def in_channels(self) -> int:
        """Channels of the images."""

    @property
    def size(self) -> Size:
        """(H, W) of the images."""

    @property
    def classes(self) -> int:
        """Outputs: classes, or the dimensions of an embedding."""

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves; networks with an equal one share measurements."""

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""

    def describe(self) -> str:
        """Describe the network in one line."""

    def placement(self) -> str:
        """Say where RepMLP blocks are, such as `c3 + c4`; none if there are none."""


def build(config: NetworkConfig, deploy: bool = False) -> nn.Module:
    """Return the network of `config` with fresh weights; with `deploy`, in its converted form."""
    return config.build(deploy)


def config_from_dict(values: Mapping[str, Any]) -> NetworkConfig:
    """Read a network from plain values, such as JSON; the inverse of `config_to_dict`.

    Raises:
        ValueError: naming the field, if a value or a key is wrong; naming the kind, if there is no such class.
    """
    kind = str(values.get("kind", ""))
    return made(class_of(kind), {key: value for key, value in values.items() if key != "kind"}, kind)


def config_to_dict(config: NetworkConfig) -> dict[str, Any]:
    """Return the canonical configuration as plain values."""
    return json.loads(json.dumps({**asdict(config.canonical()), "kind": kind_of(config)}))


def kind_of(config: NetworkConfig) -> str:
    """Return the kind of a network, or where its class is."""
    path = path_of(type(config))
    return next((kind for kind, known in KINDS.items() if known == path), path)


def class_of(kind: str) -> type[NetworkConfig]:
    """Return the class of a kind, or that at `module:Name`.

    Raises:
        ValueError: if there is none, or it is not the configuration of a network.
    """
    module, _, name = KINDS.get(kind, kind).partition(":")
    if not name:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}, or where a class is: my_module:Name.")
    try:
        found = attrgetter(name)(import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"kind={kind!r} is not found: {error}; give module:Name, of a module on the path.") from error
    if not (isinstance(found, type) and is_dataclass(found) and cast(Any, found).__dataclass_params__.frozen):
        raise ValueError(f"kind={kind!r} must be a frozen dataclass.")
    has = {*dir(found), *(f.name for f in fields(found))}
    lacking = [part for part in vars(NetworkConfig) if not part.startswith("_") and part not in has]
    if lacking:
        raise ValueError(f"kind={kind!r} lacks {', '.join(lacking)}, which repmlp.networks.NetworkConfig describes.")
    return cast(type[NetworkConfig], found)


def training_id(config: NetworkConfig) -> str:
    """Return a name that equal networks in training share, 16 hexadecimal digits."""
    return digest(config.canonical())


def deploy_id(config: NetworkConfig) -> str:
    """Return a name that networks share whose converted form has the same layers, such as all kernel sets."""
    return digest(config.deployed())
