"""ResNets whose stages c2-c5 can hold RepMLP blocks (RepMLP, Sec. 4.2-4.4), from plain ones to face networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from torch import Tensor, nn

from repmlp.attention import GlobalContext, NonLocal
from repmlp.block import RepMLP
from repmlp.config import RepMLPBlock, Size, pair, positive, set_

BlockKind = Literal["plain", "bottleneck", "light", "glfp"]


@dataclass(frozen=True, kw_only=True)
class ResNetStage:
    """One stage: how many blocks of which kind, at which width. Its first block has the stride."""

    channels: int
    """C, at the output of its blocks."""
    blocks: int
    kind: BlockKind = "plain"
    """bottleneck: RepMLP Bottleneck; light: RepMLP Light Block; glfp: the related 1x1-FC-3x3 beside a 3x3."""
    repmlp: RepMLPBlock = field(default_factory=RepMLPBlock)
    """h, w, g, kernels and Global Perceptron. Without effect in a plain stage."""
    r: int = 1
    """Channel reduction in front of the RepMLP of a bottleneck or GLFP block."""
    replace_first: bool = False
    """Whether the first block is of `kind` too; it needs stride 1, as in c2. The other stages keep it plain."""
    stride: int = 2
    dilation: int = 1
    """Of the plain blocks' 3x3 convolutions."""
    context: Literal["gc", "nonlocal"] | None = None
    """gc: a GC block in every block; nonlocal: one Non-local block before the last block (Table 4)."""

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "r", "stride", "dilation"):
            positive(getattr(self, name), name)
        if isinstance(self.repmlp, Mapping):
            set_(self, "repmlp", RepMLPBlock(**self.repmlp))
        if self.kind != "plain" and self.replace_first and self.stride != 1:
            raise ValueError(
                f"replace_first=True needs stride=1, since RepMLP keeps the size of the map; stride={self.stride}."
            )

    def replaced(self) -> int:
        """Return how many blocks are not plain."""
        return 0 if self.kind == "plain" else self.blocks - (not self.replace_first)

    def widths(self, expansion: int) -> tuple[int, int]:
        """Return (m, c): the width inside the block, and that of its RepMLP."""
        inner = self.channels // expansion
        return inner, self.channels // 8 if self.kind == "light" else inner // self.r

    def check(self, size: Size, expansion: int) -> None:
        """Raise ValueError unless the stage's blocks fit maps of `size`."""
        inner, channels = self.widths(expansion)
        if self.channels % expansion:
            raise ValueError(f"channels={self.channels} must be a multiple of {expansion}, the blocks' expansion.")
        if self.replaced():
            if self.kind == "light" and self.channels % 8:
                raise ValueError(f"channels={self.channels} must be a multiple of 8 for Light Blocks.")
            if self.kind != "light" and inner % self.r:
                divisors = ", ".join(str(r) for r in range(1, inner + 1) if inner % r == 0)
                raise ValueError(f"r={self.r} does not divide the width {inner}; use one of {divisors}.")
            self.repmlp.check(channels, channels, size)

    def canonical(self, size: Size) -> Self:
        """Return the equal stage without what has no effect on maps of `size`."""
        if not self.replaced():
            return replace(self, kind="plain", repmlp=RepMLPBlock(), r=1, replace_first=False)
        r = 1 if self.kind == "light" else self.r
        return replace(self, repmlp=self.repmlp.canonical(size), r=r)

    def deployed(self) -> Self:
        """Return the canonical stage without what conversion folds away."""
        return replace(self, repmlp=self.repmlp.deployed()) if self.replaced() else self


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A ResNet with bottleneck blocks (torchvision's: the stride is on the 3x3)."""

    kind: Literal["resnet"] = "resnet"
    stages: tuple[ResNetStage, ...]
    """c2, c3, ...; four in the paper."""
    stem: Literal["imagenet", "face", "small"] = "imagenet"
    """imagenet: 7x7/2 and 3x3/2 max pooling. face: two more 3x3. small: 3x3/2 alone, for images of about 64 pixels."""
    stem_channels: int = 64
    expansion: int = 4
    """C / m of the blocks; 1 in the face networks, whose 1x1 convolutions do not reduce."""
    head: Literal["pool", "flatten", "none"] = "pool"
    """pool: global average, then linear. flatten: linear on the whole map. none: the map itself, for a decoder."""
    in_channels: int = 3
    size: Size = (224, 224)
    """(H, W) of the images."""
    classes: int = 1000
    """Outputs: classes, or the dimensions of an embedding. Without effect for head none."""

    def __post_init__(self) -> None:
        set_(self, "size", pair(self.size, "size"))
        for name in ("stem_channels", "expansion", "in_channels", "classes"):
            positive(getattr(self, name), name)
        if not self.stages:
            raise ValueError("stages=() must name at least one stage.")
        set_(self, "stages", tuple(ResNetStage(**s) if isinstance(s, Mapping) else s for s in self.stages))
        for number, (stage, size) in enumerate(zip(self.stages, self.stage_sizes(), strict=True), start=2):
            try:
                stage.check(size, self.expansion)
            except ValueError as error:
                raise ValueError(f"stage c{number}: {error}") from None

    def stage_sizes(self) -> list[Size]:
        """Return (H, W) of the maps of each stage; every stride rounds up."""
        size = strided(self.size, 2 if self.stem == "small" else 4)
        sizes = []
        for stage in self.stages:
            size = strided(size, stage.stride)
            sizes.append(size)
        return sizes

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""
        stages = tuple(s.canonical(z) for s, z in zip(self.stages, self.stage_sizes(), strict=True))
        return replace(self, stages=stages, classes=1 if self.head == "none" else self.classes)

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves."""
        config = self.canonical()
        return replace(config, stages=tuple(s.deployed() for s in config.stages))


def strided(size: Size, stride: int) -> Size:
    """Return the size of the map after a padded, strided convolution."""
    return -(-size[0] // stride), -(-size[1] // stride)


class ResNetNetwork(nn.Module):
    """Network of a `ResNet`. Convolutions start as torchvision's do, RepMLP blocks with PyTorch's defaults.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`, or for head none `(N, C, H', W')`.
    """

    def __init__(self, config: ResNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        width, kernel = config.stem_channels, 3 if config.stem == "small" else 7
        stem = conv_bn(config.in_channels, width, kernel, deploy, stride=2)
        if config.stem != "small":
            stem.append(nn.MaxPool2d(3, 2, 1))
        if config.stem == "face":
            stem += [*conv_bn(width, width, 3, deploy), *conv_bn(width, width, 3, deploy)]
        self.stem = nn.Sequential(*stem)
        self.stages = nn.ModuleList()
        for stage, size in zip(config.stages, config.stage_sizes(), strict=True):
            self.stages.append(nn.Sequential(*stage_blocks(stage, width, size, config.expansion, deploy)))
            width = stage.channels
        self.head = head(config, width)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def head(config: ResNet, channels: int) -> nn.Module:
    """Return what follows the last stage."""
    if config.head == "none":
        return nn.Identity()
    if config.head == "pool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.classes))
    rows, columns = config.stage_sizes()[-1]
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * rows * columns, config.classes))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.relu = body, shortcut, nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        y += self.shortcut(x)
        return self.relu(y)


class Parallel(nn.Module):
    """Sum of branches that read the same map."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = [branch(x) for branch in self.branches]
        for other in others:
            first = first + other
        return first


def stage_blocks(stage: ResNetStage, in_channels: int, size: Size, expansion: int, deploy: bool) -> list[nn.Module]:
    """Return the blocks of one stage."""
    blocks: list[nn.Module] = []
    for index in range(stage.blocks):
        if stage.context == "nonlocal" and index == stage.blocks - 1:
            blocks.append(NonLocal(in_channels, deploy))
        stride = stage.stride if index == 0 else 1
        if index < stage.blocks - stage.replaced():
            body = plain(stage, in_channels, stride, expansion, deploy)
        else:
            body = {"bottleneck": bottleneck, "light": light, "glfp": glfp}[stage.kind](
                stage, in_channels, size, expansion, deploy
            )
        if stage.context == "gc":
            body.append(GlobalContext(stage.channels))
        shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == stage.channels
            else nn.Sequential(*conv_bn(in_channels, stage.channels, 1, deploy, stride, relu=False))
        )
        blocks.append(Residual(nn.Sequential(*body), shortcut))
        in_channels = stage.channels
    return blocks


def plain(stage: ResNetStage, in_channels: int, stride: int, expansion: int, deploy: bool) -> list[nn.Module]:
    """1x1, 3x3, 1x1: ResNet's bottleneck."""
    inner, _ = stage.widths(expansion)
    return [
        *conv_bn(in_channels, inner, 1, deploy),
        *conv_bn(inner, inner, 3, deploy, stride, stage.dilation),
        *conv_bn(inner, stage.channels, 1, deploy, relu=False),
    ]


def bottleneck(stage: ResNetStage, in_channels: int, size: Size, expansion: int, deploy: bool) -> list[nn.Module]:
    """RepMLP Bottleneck: the channel reduction around RepMLP is done by 3x3 convolutions (RepMLP, Fig. 4)."""
    inner, channels = stage.widths(expansion)
    return [
        *conv_bn(in_channels, inner, 1, deploy),
        *conv_bn(inner, channels, 3, deploy),
        RepMLP(channels, channels, size, stage.repmlp, deploy),
        nn.ReLU(inplace=True),
        *conv_bn(channels, inner, 3, deploy),
        *conv_bn(inner, stage.channels, 1, deploy, relu=False),
    ]


def light(stage: ResNetStage, in_channels: int, size: Size, expansion: int, deploy: bool) -> list[nn.Module]:
    """RepMLP Light Block: RepMLP on C/8 channels between two 1x1 convolutions (RepMLP, Fig. 4)."""
    _, channels = stage.widths(expansion)
    return [
        *conv_bn(in_channels, channels, 1, deploy),
        RepMLP(channels, channels, size, stage.repmlp, deploy),
        nn.ReLU(inplace=True),
        *conv_bn(channels, stage.channels, 1, deploy, relu=False),
    ]


def glfp(stage: ResNetStage, in_channels: int, size: Size, expansion: int, deploy: bool) -> list[nn.Module]:
    """Global-local bottleneck, related work of the paper: 1x1, FC, 3x3, and beside them a 3x3 that is not merged.

    The FC is the stage's RepMLP, usually without kernels; both branches read the reduced map and are summed.
    """
    inner, channels = stage.widths(expansion)
    mixing = [
        *conv_bn(inner, channels, 1, deploy),
        RepMLP(channels, channels, size, stage.repmlp, deploy),
        nn.ReLU(inplace=True),
        *conv_bn(channels, inner, 3, deploy, relu=False),
    ]
    return [
        *conv_bn(in_channels, inner, 1, deploy),
        Parallel(nn.Sequential(*mixing), nn.Sequential(*conv_bn(inner, inner, 3, deploy, relu=False))),
        nn.ReLU(inplace=True),
        *conv_bn(inner, stage.channels, 1, deploy, relu=False),
    ]


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    deploy: bool,
    stride: int = 1,
    dilation: int = 1,
    relu: bool = True,
) -> list[nn.Module]:
    """Return a padded convolution, its BN (in the bias of the converted form) and a ReLU."""
    padding = kernel // 2 * dilation
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=deploy)
    bn = nn.Identity() if deploy else nn.BatchNorm2d(out_channels)
    return [conv, bn, nn.ReLU(inplace=True)] if relu else [conv, bn]


def initialise(model: nn.Module) -> None:
    """Draw the host's convolutions from a normal distribution by fan-out, as torchvision does."""
    inside = {id(m) for block in model.modules() if isinstance(block, RepMLP) for m in block.modules()}
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in inside:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet(
    depth: Literal[50, 101] = 50,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    width: float = 1.0,
    **changes: Any,
) -> ResNet:
    """Return a ResNet of a known depth.

    Args:
        depth: 50 or 101 layers.
        stages: what of c2, c3, c4 and c5 differs from a plain stage, as fields of `ResNetStage`.
        width: factor on all widths, rounded to multiples of 32 (8 in the stem).
        changes: fields of `ResNet`.

    As Tables 3 and 4 count, a replaced c2 is replaced whole, and c3-c5 but for their first block, which has the stride.
    """
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    built = []
    for index, (name, count) in enumerate(zip(("c2", "c3", "c4", "c5"), blocks, strict=True)):
        stage = {
            "channels": scaled(256 << index, width, 32),
            "blocks": count,
            "stride": 1 if index == 0 else 2,
            "replace_first": index == 0,
        }
        built.append(ResNetStage(**{**stage, **(stages or {}).get(name, {})}))
    return ResNet(stages=tuple(built), **{"stem_channels": scaled(64, width, 8), **changes})


def scaled(channels: int, width: float, multiple: int) -> int:
    """Return `channels * width`, rounded to a positive multiple."""
    return max(multiple, round(channels * width / multiple) * multiple)


def face_resnet(stages: Mapping[str, Mapping[str, Any]] | None = None, width: float = 1.0, **changes: Any) -> ResNet:
    """Return FaceResNet, or with `stages` a RepMLP-FaceRes (RepMLP, Sec. 4.3; 96x96 images, embedding of 1024).

    Blocks 3, 2, 2, 2 at widths 128 to 1024, whose 1x1 convolutions do not reduce; the first block of each stage stays
    plain. Stem and head are not described in the paper; those here (7x7/2, max pooling, two 3x3 convolutions, one
    linear layer on the 3x3 map) are the reading that gives both figures of Table 5.
    """
    built = []
    for index, (name, count) in enumerate(zip(("c2", "c3", "c4", "c5"), (3, 2, 2, 2), strict=True)):
        stage = {"channels": scaled(128 << index, width, 32), "blocks": count, "stride": 1 if index == 0 else 2}
        built.append(ResNetStage(**{**stage, **(stages or {}).get(name, {})}))
    fixed = {"stem": "face", "expansion": 1, "head": "flatten", "size": (96, 96), "classes": 1024}
    return ResNet(stages=tuple(built), **{"stem_channels": scaled(64, width, 8), **fixed, **changes})
