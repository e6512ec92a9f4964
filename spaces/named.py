"""Networks as studies name them: by configuration, by a builder's arguments, or by a row of the paper's tables."""

from collections.abc import Callable, Mapping
from typing import Any

from repmlp import config_from_dict, config_to_dict
from repmlp.config import Size
from repmlp.networks import NetworkConfig
from repmlp.networks.pspnet import pspnet
from repmlp.networks.resnet import face_resnet, resnet
from repmlp.networks.timm_net import TimmNet
from repmlp.paper import TABLES

BUILDERS: dict[str, Callable[..., NetworkConfig]] = {
    "resnet": resnet,
    "face_resnet": face_resnet,
    "pspnet": pspnet,
    "timm": TimmNet,
}
FACES = 5
"""Table whose networks give embeddings, the number of whose dimensions is not that of the data's classes."""
WAYS = ("kind", "build", "table")
"""Keys that say how a network is described."""


def named(name: str, values: Mapping[str, Any], in_channels: int, size: Size, classes: int) -> NetworkConfig:
    """Return the canonical network that a study describes.

    Args:
        name: for the message.
        values: a configuration (`kind: ...`), arguments of a builder (`build: resnet`), or `table` and `row` of the
            paper; size and number of classes come from the data where they are not given.
        in_channels: of the data.
        size: (H, W) of its images.
        classes: how many it has.

    Raises:
        ValueError: naming the network, if its description is wrong.
    """
    try:
        return network(values, in_channels, size, classes).canonical()
    except (TypeError, ValueError) as error:
        raise ValueError(f"network {name!r}: {error}") from None


def network(values: Mapping[str, Any], in_channels: int, size: Size, classes: int) -> NetworkConfig:
    """Return the network of a description."""
    if "table" in values:
        return paper_network(values, in_channels, size, classes)
    completed: Mapping[str, Any] = {"size": size, "classes": classes, **values}
    build = completed.get("build")
    if build is None:
        return config_from_dict({"in_channels": in_channels, **completed})
    if build not in BUILDERS:
        raise ValueError(f"build={build!r} must be one of {', '.join(BUILDERS)}, or give kind=... or table=...")
    arguments = {k: v for k, v in completed.items() if k != "build"}
    if build != "pspnet":
        arguments.setdefault("in_channels", in_channels)
    return BUILDERS[build](**arguments)


def paper_network(values: Mapping[str, Any], in_channels: int, size: Size, classes: int) -> NetworkConfig:
    """Return a network of the paper's tables, for the data's images and classes."""
    table, row = values["table"], values.get("row")
    if table not in TABLES:
        raise ValueError(f"table={table!r} must be one of {', '.join(map(str, TABLES))}.")
    if row not in TABLES[table]:
        raise ValueError(f"row={row!r} is not in Table {table}; its rows are {', '.join(TABLES[table])}.")
    unknown = sorted(set(values) - {"table", "row"})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} does not go with table and row.")
    fitted = {"in_channels": in_channels, "size": size, "classes": classes}
    printed = config_to_dict(TABLES[table][row])
    if table == FACES:
        fitted.pop("classes")
    return config_from_dict({**printed, **{k: v for k, v in fitted.items() if k in printed}})
