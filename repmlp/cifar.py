"""The CIFAR networks of the paper (Fig. 3, Table 1): the pure MLP, its ablations and the Wide ConvNet."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.config import Block, ConvBlock, RepMLPBlock, Size, from_dict, pair, positive, set_


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a CIFAR network: blocks of one kind at one width, joined by 1x1 convolutions."""

    channels: int
    blocks: int = 2
    block: Block = field(default_factory=RepMLPBlock)

    def __post_init__(self) -> None:
        positive(self.channels, "channels")
        positive(self.blocks, "blocks")
        if isinstance(self.block, Mapping):
            set_(self, "block", from_dict({"repmlp": RepMLPBlock, "conv": ConvBlock}, self.block))


@dataclass(frozen=True, kw_only=True)
class CifarNet:
    """The pure MLP of Fig. 3 and its relatives: stages of blocks and 1x1 convolutions, halved between stages."""

    kind: Literal["cifar"] = "cifar"
    stages: tuple[Stage, ...]
    in_channels: int = 3
    size: Size = (32, 32)
    """(H, W) of the images."""
    classes: int = 10
    head: int = 512
    """Width between the two layers of the classifier."""

    def __post_init__(self) -> None:
        set_(self, "size", pair(self.size, "size"))
        for name in ("in_channels", "classes", "head"):
            positive(getattr(self, name), name)
        if not self.stages:
            raise ValueError("stages=() must name at least one stage.")
        if min(self.size) >> (len(self.stages) - 1) < 1:
            raise ValueError(f"size={self.size} cannot be halved {len(self.stages) - 1} times; use fewer stages.")
        set_(self, "stages", tuple(Stage(**s) if isinstance(s, Mapping) else s for s in self.stages))
        for number, (stage, size) in enumerate(zip(self.stages, self.stage_sizes(), strict=True), start=1):
            try:
                stage.block.check(stage.channels, stage.channels, size)
            except ValueError as error:
                raise ValueError(f"stage {number}: {error}") from None

    def stage_sizes(self) -> list[Size]:
        """Return (H, W) of the maps of each stage; max pooling halves them, rounding down."""
        return [(self.size[0] >> i, self.size[1] >> i) for i in range(len(self.stages))]

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""
        sizes = self.stage_sizes()
        stages = (replace(s, block=s.block.canonical(z)) for s, z in zip(self.stages, sizes, strict=True))
        return replace(self, stages=tuple(stages))

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves."""
        config = self.canonical()
        return replace(config, stages=tuple(replace(s, block=s.block.deployed()) for s in config.stages))


class CifarNetwork(nn.Module):
    """Network of a `CifarNet`. Every convolution has a BN, and every conv-BN and every block is followed by a ReLU.

    The paper leaves open whether a ReLU stands between the two classifier layers; here one does, since without it they
    would be one linear map.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`.
    """

    def __init__(self, config: CifarNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        stages, sizes = config.stages, config.stage_sizes()
        self.embed = conv_bn(config.in_channels, stages[0].channels, ConvBlock(kernel=(1, 1)), deploy)
        self.stages = nn.ModuleList()
        for stage, size, following in zip(stages, sizes, [*stages[1:], stages[-1]], strict=True):
            layers: list[nn.Module] = []
            for index in range(stage.blocks):
                width = following.channels if index == stage.blocks - 1 else stage.channels
                layers += [
                    block(stage.channels, size, stage.block, deploy),
                    conv_bn(stage.channels, width, ConvBlock(kernel=(1, 1)), deploy),
                ]
            self.stages.append(nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(stages[-1].channels, config.head),
            nn.ReLU(),
            nn.Linear(config.head, config.classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for index, stage in enumerate(self.stages):
            x = stage(self.pool(x) if index else x)
        return self.head(x)


def block(channels: int, size: Size, spec: Block, deploy: bool) -> nn.Module:
    """Return a RepMLP or a convolution with the ReLU that follows it."""
    if isinstance(spec, ConvBlock):
        return conv_bn(channels, channels, spec, deploy)
    return nn.Sequential(RepMLP(channels, channels, size, spec, deploy), nn.ReLU())


def conv_bn(in_channels: int, out_channels: int, spec: ConvBlock, deploy: bool) -> nn.Sequential:
    """Return a "same" convolution, BN and ReLU; converted, the BN is in the convolution's bias."""
    padding = (spec.kernel[0] // 2, spec.kernel[1] // 2)
    conv = nn.Conv2d(in_channels, out_channels, spec.kernel, padding=padding, groups=spec.groups, bias=deploy)
    return nn.Sequential(conv, nn.Identity() if deploy else nn.BatchNorm2d(out_channels), nn.ReLU())


def pure_mlp(**changes: object) -> CifarNet:
    """Return the pure MLP of Fig. 3; `changes` are fields of its RepMLP blocks, as Table 1 varies them."""
    spec = replace(RepMLPBlock(partition=(8, 8), groups=2, kernels=((1, 1), (3, 3), (5, 5), (7, 7))), **changes)  # type: ignore[arg-type]
    return CifarNet(stages=tuple(Stage(channels=c, block=spec) for c in (16, 32, 64)))


def conv_net(channels: tuple[int, ...], block: ConvBlock) -> CifarNet:
    """Return the pure MLP's skeleton with a convolution in the place of every RepMLP."""
    return CifarNet(stages=tuple(Stage(channels=c, block=block) for c in channels))


TABLE_1: dict[str, CifarNet] = {
    "Pure MLP": pure_mlp(),
    "B) w/o Local": pure_mlp(kernels=()),
    "C) w/o Global": pure_mlp(global_perceptron=False),
    "D) FC3 as conv9": pure_mlp(fc3_conv=9),
    "E) RepMLP as conv9": conv_net((16, 32, 64), ConvBlock(kernel=(9, 9), groups=2)),
    "Wide ConvNet": conv_net((32, 64, 128), ConvBlock()),
}
"""The networks of Table 1; row A is "Pure MLP" before conversion."""
