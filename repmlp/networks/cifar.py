"""The CIFAR networks of the paper (Fig. 3, Table 1): the pure MLP, its ablations and the Wide ConvNet."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.checks import Size, check_fields, from_dict, naming, set_, stages_of
from repmlp.config import Block, ConvBlock, RepMLPBlock
from repmlp.networks.parts import Part

POINTWISE = ConvBlock(kernel=(1, 1))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a CIFAR network: blocks of one kind at one width, joined by 1x1 convolutions."""

    channels: int
    blocks: int = 2
    block: Block = field(default_factory=RepMLPBlock)

    def __post_init__(self) -> None:
        check_fields(self)
        set_(self, "block", from_dict({"repmlp": RepMLPBlock, "conv": ConvBlock}, self.block, "block"))

    def describe(self) -> str:
        """Describe the stage in short: width, depth, blocks."""
        return f"{self.channels}x{self.blocks} {self.block.describe()}"


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
        check_fields(self)
        set_(self, "stages", stages_of(Stage, self.stages))
        if min(self.size) >> (len(self.stages) - 1) < 1:
            raise ValueError(f"size={self.size} cannot be halved {len(self.stages) - 1} times; use fewer stages.")
        for number, (stage, size) in enumerate(zip(self.stages, self.stage_sizes(), strict=True), start=1):
            with naming(f"stage {number}"):
                stage.block.check(stage.channels, stage.channels, size)

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

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return CifarNetwork(self, deploy)

    def parts(self) -> Iterator[Part]:
        """Yield the pieces of the converted network, of a configuration that is `deployed`."""
        first, last = self.stages[0].channels, self.stages[-1].channels
        yield Part(conv_bn, (self.in_channels, first, POINTWISE, True), (self.in_channels, *self.size))
        sizes = self.stage_sizes()
        for stage, size, following in zip(self.stages, sizes, [*self.stages[1:], self.stages[-1]], strict=True):
            shape = (stage.channels, *size)
            for index in range(stage.blocks):
                width = following.channels if index == stage.blocks - 1 else stage.channels
                yield Part(block, (stage.channels, size, stage.block, True), shape)
                yield Part(conv_bn, (stage.channels, width, POINTWISE, True), shape)
        yield Part(classifier, (last, self.head, self.classes), (last, *sizes[-1]))

    def describe(self) -> str:
        """Describe the network in one line, a stage at a time."""
        return " | ".join(stage.describe() for stage in self.canonical().stages)

    def placement(self) -> str:
        """Name the stages that hold a RepMLP, such as `stage 1 + stage 2`; none if there is none."""
        numbered = enumerate(self.stages, start=1)
        return " + ".join(f"stage {i}" for i, s in numbered if isinstance(s.block, RepMLPBlock)) or "none"


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
        self.embed = conv_bn(config.in_channels, stages[0].channels, POINTWISE, deploy)
        self.stages = nn.ModuleList()
        for stage, size, following in zip(stages, sizes, [*stages[1:], stages[-1]], strict=True):
            layers: list[nn.Module] = []
            for index in range(stage.blocks):
                width = following.channels if index == stage.blocks - 1 else stage.channels
                layers += [
                    block(stage.channels, size, stage.block, deploy),
                    conv_bn(stage.channels, width, POINTWISE, deploy),
                ]
            self.stages.append(nn.Sequential(*layers))
        self.pool = nn.MaxPool2d(2)
        self.head = classifier(stages[-1].channels, config.head, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for index, stage in enumerate(self.stages):
            x = stage(self.pool(x) if index else x)
        return self.head(x)


def classifier(channels: int, hidden: int, classes: int) -> nn.Sequential:
    """Return what follows the last stage."""
    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*pooled, nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, classes))


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
