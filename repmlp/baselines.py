"""Baselines of Table 4 as torchvision defines them, under the interface of the other networks."""

from dataclasses import dataclass
from typing import Literal, Self

from torch import nn

from repmlp.config import Size, pair, positive, set_


@dataclass(frozen=True, kw_only=True)
class TorchvisionNet:
    """A classifier of torchvision, by name; it takes RGB images of any size that it can halve five times."""

    kind: Literal["torchvision"] = "torchvision"
    name: Literal["resnet50", "resnet101", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"]
    in_channels: int = 3
    size: Size = (224, 224)
    classes: int = 1000

    def __post_init__(self) -> None:
        names = ("resnet50", "resnet101", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3")
        if self.name not in names:
            raise ValueError(f"name={self.name!r} must be one of {', '.join(names)}.")
        set_(self, "size", pair(self.size, "size"))
        positive(self.classes, "classes")
        if self.in_channels != 3:
            raise ValueError(f"in_channels={self.in_channels}: torchvision's networks take 3; use a ResNet config.")

    def canonical(self) -> Self:
        """Return the network itself: all of it has an effect."""
        return self

    def deployed(self) -> Self:
        """Return the network itself: its BN leave no trace in its shape."""
        return self


def torchvision_network(config: TorchvisionNet, deploy: bool = False) -> nn.Module:
    """Build the network with fresh weights; its conv-BN folded if `deploy`."""
    from torchvision import models  # only here, so that an exported network of another kind needs torch alone

    from repmlp.convert import convert

    model = models.get_model(config.name, weights=None, num_classes=config.classes)
    return convert(model) if deploy else model
