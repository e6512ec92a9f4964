"""Spaces over ResNets: what fills the stages c2-c5 of ResNet-50, small ResNets, face networks and PSPNet."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

from repmlp.config import Size, positive
from repmlp.networks.pspnet import PSPNet, pspnet
from repmlp.networks.resnet import ResNet, face_resnet, resnet
from repmlp.networks.resnet_stage import BlockKind, ResNetStage
from spaces.choices import Trial, check_positive, choose, fitting
from spaces.enumeration import distinct, outcomes
from spaces.repmlp_shapes import KernelSet, RepMLPShapes

StageName = Literal["c2", "c3", "c4", "c5"]
STAGES: tuple[StageName, ...] = ("c2", "c3", "c4", "c5")
Host = Callable[[Mapping[str, Mapping[str, Any]]], ResNet | PSPNet]
"""Returns the network whose stages differ from plain ones as a mapping from their names says."""


@dataclass(frozen=True, kw_only=True)
class ResNetSpace(RepMLPShapes, ABC):
    """What the stages of a ResNet may hold; r, h x w, g and so on exist only where the stage is not plain.

    Which blocks of a stage are replaced is the host's rule: but for the first one, and all of c2 in a ResNet-50.
    """

    stages: tuple[StageName, ...] = STAGES
    """Those that may hold something else than plain blocks."""
    kinds: tuple[BlockKind, ...] = ("plain", "bottleneck", "light")
    """bottleneck: RepMLP Bottleneck; light: RepMLP Light Block; glfp: 1x1-FC-3x3 beside a 3x3."""
    r: tuple[int, ...] = (2, 4, 8)
    """Channel reduction in front of the RepMLP, which Light Blocks do not have; divides the width inside a block."""
    widths: tuple[float, ...] = (1.0,)
    """Factor on all widths of the ResNet, rounded to multiples of 32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "r")
        if not 0 < min(self.widths) <= max(self.widths) < math.inf:
            raise ValueError(f"widths={self.widths} must be positive factors, such as 0.5 or 1.")

    @abstractmethod
    def host(self, trial: Trial, in_channels: int, size: Size, classes: int) -> Host:
        """Ask for all but what the stages hold."""

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> ResNet | PSPNet:
        """Ask `trial` for a network for images of `in_channels` and `size`.

        Raises:
            ValueError: if a stage is left without any value for a parameter.
        """
        host = self.host(trial, in_channels, size, classes)
        placed: dict[str, dict[str, Any]] = {}
        for name, stage, maps, expansion in self.open_stages(host({})):
            filled = self.fill(trial, name, stage, maps, expansion)
            placed[name] = {"kind": filled.kind, "r": filled.r, "repmlp": filled.repmlp}
        return host(placed).canonical()

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks for such images: the stages of each host are independent."""
        plain = outcomes(lambda trial: self.host(trial, in_channels, size, classes)({}))
        hosts = {network.canonical(): network for network in plain}.values()
        return sum(math.prod(self.stage_counts(network)) for network in hosts)

    def stage_counts(self, plain: ResNet | PSPNet) -> list[int]:
        """Return how many different stages may take the place of each that may differ."""
        return [
            distinct(partial(self.fill, name=name, stage=stage, maps=maps, expansion=expansion))
            for name, stage, maps, expansion in self.open_stages(plain)
        ]

    def open_stages(self, plain: ResNet | PSPNet) -> list[tuple[StageName, ResNetStage, Size, int]]:
        """Return name, plain stage, map size and the expansion of its blocks for the stages that may differ."""
        net = plain.backbone if isinstance(plain, PSPNet) else plain
        stages = zip(STAGES, net.stages, net.stage_sizes(), strict=True)
        return [(name, stage, size, net.expansion) for name, stage, size in stages if name in self.stages]

    def fill(self, trial: Trial, name: str, stage: ResNetStage, maps: Size, expansion: int) -> ResNetStage:
        """Ask what takes the place of the plain `stage`, and return it in canonical form."""
        inner = stage.channels // expansion
        dividing = [r for r in self.r if inner % r == 0]

        def width(kind: BlockKind, r: int) -> int:
            return replace(stage, kind=kind, r=r).widths(expansion)[1]

        def kind_fits(kind: BlockKind) -> bool:
            rs = [1] if kind == "light" else dividing
            return kind == "plain" or any(self.fits(width(kind, r), maps) for r in rs)

        kinds = fitting(self.kinds, kind_fits)
        kind = choose(trial, f"{name}.kind", self.kinds, lambda k: k in kinds, plain="plain")
        if kind == "plain":
            return stage.canonical(maps)
        r = 1
        if kind != "light":
            rs = fitting(dividing, lambda r: self.fits(width(kind, r), maps))
            r = choose(trial, f"{name}.r", self.r, lambda r: r in rs)
        repmlp = self.suggest_repmlp(trial, name, width(kind, r), maps)
        return replace(stage, kind=kind, r=r, repmlp=repmlp).canonical(maps)


@dataclass(frozen=True, kw_only=True)
class ClassifierSpace(ResNetSpace, ABC):
    """What ResNets of known depths share."""

    depths: tuple[Literal[50, 101], ...] = (50,)
    """Layers."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """imagenet: 7x7/2 and 3x3/2 max pooling. small: 3x3/2 alone."""

    def host(self, trial: Trial, in_channels: int, size: Size, classes: int) -> Host:
        """Ask for depth and width."""
        return partial(
            resnet,
            choose(trial, "depth", self.depths),
            width=choose(trial, "width", self.widths),
            stem=self.stem,
            in_channels=in_channels,
            size=size,
            classes=classes,
        )


@dataclass(frozen=True, kw_only=True)
class ResNet50Space(ClassifierSpace):
    """ResNet-50 for ImageNet: RepMLP Bottlenecks, Light Blocks or plain blocks in each of c2-c5."""

    images: ClassVar[tuple[int, Size, int]] = (3, (224, 224), 1000)

    name: Literal["resnet50"] = "resnet50"
    partitions: tuple[int | Size, ...] = (7, 14)
    groups: tuple[int, ...] = (2, 4, 8, 16)
    kernels: tuple[KernelSet, ...] = ((), (1, 3), (1, 3, 5), (1, 3, 5, 7))
    reductions: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class ResNetSmallSpace(ClassifierSpace):
    """A narrow ResNet-50 for images of about 64 pixels; c2-c5 as in resnet50."""

    images: ClassVar[tuple[int, Size, int]] = (3, (64, 64), 200)

    name: Literal["resnet_small"] = "resnet_small"
    stem: Literal["imagenet", "small"] = "small"
    widths: tuple[float, ...] = (0.25, 0.5)
    r: tuple[int, ...] = (1, 2, 4)
    partitions: tuple[int | Size, ...] = (4, 8)
    groups: tuple[int, ...] = (1, 2, 4, 8)
    kernels: tuple[KernelSet, ...] = ((), (1, 3), (1, 3, 5))


@dataclass(frozen=True, kw_only=True)
class FaceResNetSpace(ResNetSpace):
    """FaceResNet (Table 5): RepMLP in c2-c4 of a face embedding; the loss holds the identities."""

    images: ClassVar[tuple[int, Size, int]] = (3, (96, 96), 85_000)

    name: Literal["face_resnet"] = "face_resnet"
    embedding: int = 1024
    """Dimension of the output."""
    stages: tuple[StageName, ...] = ("c2", "c3", "c4")
    r: tuple[int, ...] = (1, 2, 4)
    partitions: tuple[int | Size, ...] = (3, 6)
    groups: tuple[int, ...] = (2, 4, 8)
    kernels: tuple[KernelSet, ...] = ((), (1, 3), (1, 3, 5))
    reductions: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.embedding, "embedding")

    def host(self, trial: Trial, in_channels: int, size: Size, classes: int) -> Host:
        """Ask for the width; `classes` has no effect."""
        width = choose(trial, "width", self.widths)
        return partial(face_resnet, width=width, in_channels=in_channels, size=size, classes=self.embedding)


@dataclass(frozen=True, kw_only=True)
class PSPNetSpace(ResNetSpace):
    """PSPNet over ResNet-50 for Cityscapes (Table 6): RepMLP in c3 and c4 at output stride 8."""

    images: ClassVar[tuple[int, Size, int]] = (3, (713, 713), 19)

    name: Literal["pspnet"] = "pspnet"
    channels: tuple[int, ...] = (512,)
    """Width of the decoder."""
    stages: tuple[StageName, ...] = ("c3", "c4")
    kinds: tuple[BlockKind, ...] = ("plain", "bottleneck")
    r: tuple[int, ...] = (2, 4)
    partitions: tuple[int | Size, ...] = (10, 15)
    groups: tuple[int, ...] = (4, 8, 16)
    kernels: tuple[KernelSet, ...] = ((), (1, 3, 5), (1, 3, 5, 7))
    reductions: tuple[int, ...] = (4, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "channels")

    def host(self, trial: Trial, in_channels: int, size: Size, classes: int) -> Host:
        """Ask for the widths of backbone and decoder."""
        width, channels = choose(trial, "width", self.widths), choose(trial, "channels", self.channels)

        def host(stages: Mapping[str, Mapping[str, Any]]) -> PSPNet:
            net = pspnet(size, classes, stages, width, channels)
            return replace(net, backbone=replace(net.backbone, in_channels=in_channels))

        return host
