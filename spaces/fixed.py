"""A list of networks instead of a space: to train a few against each other, such as a baseline and its rival."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from repmlp.config import Size
from repmlp.networks import NetworkConfig
from spaces.choices import Trial, choose
from spaces.named import named


@dataclass(frozen=True, kw_only=True)
class FixedSpace:
    """Networks by name: a configuration (`kind`), a builder's arguments (`build`), or a row of the paper (`table`)."""

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

    @property
    def names(self) -> list[str]:
        """Return the names of all networks."""
        return list(self.networks)

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Ask `trial` for one of the networks, for images of `in_channels` and `size`.

        Raises:
            ValueError: naming the network, if its description is wrong.
        """
        return self.network(choose(trial, "network", self.names), in_channels, size, classes)

    def network(self, name: str, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Return the network of that name."""
        return named(name, self.networks[name], in_channels, size, classes)

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks."""
        return len({self.network(name, in_channels, size, classes) for name in self.names})
