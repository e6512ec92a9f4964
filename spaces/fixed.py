"""A list of networks instead of a space: to train a few against each other, such as a baseline and its rival."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from repmlp import config_from_dict
from repmlp.config import Size
from repmlp.networks import NetworkConfig
from repmlp.pspnet import pspnet
from repmlp.resnet import face_resnet, resnet
from spaces.choices import Trial, choose

BUILDERS: dict[str, Callable[..., NetworkConfig]] = {"resnet": resnet, "face_resnet": face_resnet, "pspnet": pspnet}


@dataclass(frozen=True, kw_only=True)
class FixedSpace:
    """Networks by name, each a configuration (`kind: ...`) or the arguments of a builder (`build: resnet`)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    images: ClassVar[tuple[int, Size, int]] = (3, (224, 224), 1000)

    name: Literal["fixed"] = "fixed"
    networks: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"ResNet-50": {"build": "resnet"}, "ResNet-101": {"build": "resnet", "depth": 101}}
    )
    """Name to the network; size and number of classes come from the data where they are not given."""

    def __post_init__(self) -> None:
        if not self.networks:
            raise ValueError("networks must name at least one network, such as {ResNet-50: {build: resnet}}.")

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Ask `trial` for one of the networks, for images of `in_channels` and `size`.

        Raises:
            ValueError: naming the network, if its description is wrong.
        """
        name = choose(trial, "network", list(self.networks))
        return self.network(name, in_channels, size, classes)

    def network(self, name: str, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Return the network of that name."""
        values: Mapping[str, Any] = {"size": size, "classes": classes, **self.networks[name]}
        build = values.get("build")
        try:
            if build is None:
                return config_from_dict({"in_channels": in_channels, **values}).canonical()
            if build not in BUILDERS:
                raise ValueError(f"build={build!r} must be one of {', '.join(BUILDERS)}, or give kind=...")
            arguments = {k: v for k, v in values.items() if k != "build"}
            if build != "pspnet":
                arguments.setdefault("in_channels", in_channels)
            return BUILDERS[build](**arguments).canonical()
        except (TypeError, ValueError) as error:
            raise ValueError(f"network {name!r}: {error}") from None

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks."""
        return len({self.network(name, in_channels, size, classes) for name in self.networks})
