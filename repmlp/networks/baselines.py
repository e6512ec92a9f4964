"""Baselines of Table 4 as torchvision defines them, under the interface of the other networks."""

from dataclasses import dataclass
from typing import Literal, Self

from torch import nn

from repmlp.checks import Size, check_fields


@dataclass(frozen=True, kw_only=True)
class TorchvisionNet:
    """A classifier of torchvision, by name; it takes RGB images of any size that it can halve five times."""

    kind: Literal["torchvision"] = "torchvision"
    name: Literal["resnet50", "resnet101", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"]
    in_channels: int = 3
    size: Size = (224, 224)
    classes: int = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.in_channels != 3:
            raise ValueError(f"in_channels={self.in_channels}: torchvision's networks take 3; use a ResNet config.")

    def canonical(self) -> Self:
        """Return the network itself: all of it has an effect."""
        return self

    def deployed(self) -> Self:
        """Return the network itself: its BN leave no trace in its shape."""
        return self

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; its conv-BN folded if `deploy`."""
        from torchvision import models  # only here, so that an exported network of another kind needs torch alone

        from repmlp.convert import convert

        model = models.get_model(self.name, weights=None, num_classes=self.classes)
        return convert(model) if deploy else model

    def describe(self) -> str:
        """Return the network's name."""
        return self.name

    def placement(self) -> str:
        """Return none: it holds no RepMLP."""
        return "none"
