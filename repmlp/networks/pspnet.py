"""PSPNet (arXiv 1612.01105) over a ResNet or RepMLP-ResNet, for semantic segmentation (RepMLP, Sec. 4.4, Table 6)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from repmlp.checks import Size, check_fields, made, positive, sequence, set_
from repmlp.networks.resnet import ResNet, ResNetNetwork, changes_of, resnet
from repmlp.networks.resnet_stage import conv_bn


@dataclass(frozen=True, kw_only=True)
class PSPNet:
    """A backbone without head, a pyramid of pooled contexts, and a classifier of every pixel."""

    kind: Literal["pspnet"] = "pspnet"
    backbone: ResNet
    bins: tuple[int, ...] = (1, 2, 3, 6)
    """Sides of the grids that the pyramid pools to."""
    channels: int = 512
    """Width of each bin and of the fusing 3x3 convolution."""
    classes: int = 19

    def __post_init__(self) -> None:
        check_fields(self)
        set_(self, "backbone", made(ResNet, self.backbone, "backbone"))
        if self.backbone.head != "none" or len(self.backbone.stages) < 2:
            raise ValueError(
                f"backbone.head={self.backbone.head!r} with {len(self.backbone.stages)} stages must be 'none' and at "
                "least 2: the decoder reads the last two maps."
            )
        set_(self, "bins", sequence(self.bins, "bins", "sides of grids, such as [1, 2, 3, 6]"))
        for side in self.bins:
            positive(side, "bins")

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.backbone.in_channels

    @property
    def size(self) -> Size:
        """(H, W) of the images."""
        return self.backbone.size

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""
        return replace(self, backbone=self.backbone.canonical(), bins=tuple(sorted(set(self.bins))))

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves."""
        return replace(self.canonical(), backbone=self.backbone.deployed())

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return PSPNetwork(self, deploy)

    def describe(self) -> str:
        """Describe the network in one line: width of the decoder, and the backbone."""
        return f"PSP {self.channels} over {self.backbone.describe()}"

    def placement(self) -> str:
        """Name the stages of the backbone that hold a RepMLP, such as `c3 + c4`; none if there is none."""
        return self.backbone.placement()


class PSPNetwork(nn.Module):
    """Network of a `PSPNet`.

    In training it has an auxiliary classifier on the last but one stage, which conversion removes.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes, H, W)`; in train mode a pair of them, the auxiliary one second.
    """

    def __init__(self, config: PSPNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        self.backbone = ResNetNetwork(config.backbone, deploy)
        features, before = config.backbone.stages[-1].channels, config.backbone.stages[-2].channels
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(b), *conv_bn(features, config.channels, 1, deploy)) for b in config.bins
        )
        fused = features + config.channels * len(config.bins)
        self.classifier = classifier(fused, config.channels, config.classes, deploy)
        self.auxiliary = Auxiliary() if deploy else Auxiliary(*classifier(before, before // 4, config.classes, deploy))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        size = self.config.size
        x = self.backbone.stem(x)
        for stage in self.backbone.stages[:-1]:
            x = stage(x)
        auxiliary = self.auxiliary(x) if self.training and len(self.auxiliary) else None
        x = self.backbone.stages[-1](x)
        map_size = self.config.backbone.stage_sizes()[-1]
        pooled = [upsampled(level(x), map_size) for level in self.pyramid]
        y = upsampled(self.classifier(torch.cat([x, *pooled], 1)), size)
        return y if auxiliary is None else (y, upsampled(auxiliary, size))


class Auxiliary(nn.Sequential):
    """A classifier that helps training; conversion leaves it empty."""

    def reparameterize(self) -> None:
        """Drop all layers."""
        del self[:]


def classifier(in_channels: int, channels: int, classes: int, deploy: bool) -> nn.Sequential:
    """3x3 convolution, dropout and 1x1 convolution to one map a class."""
    return nn.Sequential(*conv_bn(in_channels, channels, 3, deploy), nn.Dropout2d(0.1), nn.Conv2d(channels, classes, 1))


def upsampled(x: Tensor, size: Size) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)


def pspnet(
    size: Size = (713, 713),
    classes: int = 19,
    stages: Mapping[str, Mapping[str, object]] | None = None,
    width: float = 1.0,
    channels: int = 512,
) -> PSPNet:
    """Return PSPNet over ResNet-50 at output stride 8.

    Args:
        size: of the images.
        classes: of the pixels.
        stages: what differs from plain stages. A c4 with RepMLP keeps stride 1 without dilation, and its first block
            stays plain, as Table 6 counts; c5 is dilated in any case.
        width: factor on all widths of the backbone.
        channels: width of the decoder.
    """
    stages = changes_of(stages)
    c4 = stages.get("c4", {})
    dilation = 2 if c4.get("kind", "plain") == "plain" else 1
    stages["c4"] = {"stride": 1, "dilation": dilation, **c4}
    stages["c5"] = {"stride": 1, "dilation": 4, **stages.get("c5", {})}
    return PSPNet(backbone=resnet(50, stages, width, size=size, head="none"), classes=classes, channels=channels)
