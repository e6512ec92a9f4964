"""Stages of ResNets: plain bottlenecks, or the blocks around RepMLP of the paper (RepMLP, Sec. 4.2, Fig. 4)."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

from torch import Tensor, nn

from repmlp.block import RepMLP, sum_of
from repmlp.checks import Size, check_fields, made, set_
from repmlp.config import RepMLPBlock
from repmlp.networks.attention import GlobalContext, NonLocal

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
        check_fields(self)
        set_(self, "repmlp", made(RepMLPBlock, self.repmlp, "repmlp"))
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

    def describe(self) -> str:
        """Describe the canonical stage in short: width, depth, and context, kind, r and RepMLP where it has them."""
        kind = [self.kind, f"r{self.r}" if self.r > 1 else "", self.repmlp.shape()] if self.replaced() else []
        return " ".join(filter(None, [f"{self.channels}x{self.blocks}", self.context, *kind]))


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
        return sum_of([branch(x) for branch in self.branches])


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
