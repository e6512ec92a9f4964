"""Networks of one's own, as a user writes them, and classes that are not quite that."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from torch import nn

from repmlp.checks import Size, check_fields, made, set_
from repmlp.config import RepMLPBlock
from repmlp.networks.resnet import ResNet


@dataclass(frozen=True, kw_only=True)
class Patches:
    """A RepMLP, with its ReLU, between two convolutions and an average."""

    channels: int = 4
    block: RepMLPBlock = field(default_factory=lambda: RepMLPBlock(partition=(4, 4), kernels=((1, 1),)))
    pooling: Literal["average", "max"] = "average"
    in_channels: int = 3
    size: Size = (8, 8)
    classes: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        set_(self, "block", made(RepMLPBlock, self.block, "block"))

    def canonical(self) -> Self:
        return replace(self, block=self.block.canonical(self.size))

    def deployed(self) -> Self:
        return replace(self, block=self.canonical().block.deployed())

    def build(self, deploy: bool = False) -> nn.Module:
        from repmlp.block import RepMLP

        pool = nn.AdaptiveAvgPool2d(1) if self.pooling == "average" else nn.AdaptiveMaxPool2d(1)
        return nn.Sequential(
            nn.Conv2d(self.in_channels, self.channels, 1),
            RepMLP(self.channels, self.channels, self.size, self.block, deploy),
            nn.ReLU(),
            pool,
            nn.Flatten(),
            nn.Linear(self.channels, self.classes),
        )

    def describe(self) -> str:
        return f"patches {self.channels} {self.block.shape()}"

    def placement(self) -> str:
        return "the middle"


@dataclass(frozen=True, kw_only=True)
class NamedResNet(ResNet):
    """A kind of the package with one more field."""

    title: str = ""


@dataclass
class Thawed:
    in_channels: int = 3


@dataclass(frozen=True)
class Half:
    in_channels: int
    size: Size

    def canonical(self) -> Self:
        return self
