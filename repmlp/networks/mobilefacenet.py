"""MobileFaceNet (arXiv 1804.07573, Table 1), the small face network that Table 5 of RepMLP compares with."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

from torch import Tensor, nn

from repmlp.checks import Size, check_fields, factor

STEM, LAST = 64, 512
"""Channels of the first two layers, and of the map that the global depthwise convolution reads, at width 1."""


class Stage(NamedTuple):
    """A row (t, c, n, s) of the network's table: bottlenecks, of which the first has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (Stage(2, 64, 5, 2), Stage(4, 128, 1, 2), Stage(2, 128, 6, 1), Stage(4, 128, 1, 2), Stage(2, 128, 2, 1))


@dataclass(frozen=True, kw_only=True)
class MobileFaceNet:
    """A MobileFaceNet; the default is that of RepMLP's Table 5.

    Converted and at 96 x 96 it has 986,688 parameters (0.98M), biases and PReLU slopes included, and 162,359,296
    multiply-accumulates (162M): both figures of Table 5, cut. The table leaves the embedding's dimension open; 128 is
    that of arXiv 1804.07573.
    """

    kind: Literal["mobilefacenet"] = "mobilefacenet"
    in_channels: int = 3
    size: Size = (96, 96)
    """(H, W) of the images; four layers of stride 2 halve it, rounding up."""
    classes: int = 128
    """Number of outputs: the dimension of the embedding. A loss such as AM-Softmax holds its own class weights."""
    width: float = 1.0
    """Factor of all channels but the input's and the embedding's, rounded down; at least 1/64."""

    def __post_init__(self) -> None:
        check_fields(self)
        factor(self.width, "width")
        if self.width < 1 / STEM:
            raise ValueError(f"width={self.width!r} leaves layers without a channel; use at least 1/{STEM}.")

    def channels(self, base: int) -> int:
        """Return the channels of a layer that has `base` of them at width 1."""
        return int(base * self.width)

    def last_size(self) -> Size:
        """Return (H, W) of the map that the global depthwise convolution covers: a 16th, rounded up."""
        return -(-self.size[0] // 16), -(-self.size[1] // 16)

    def canonical(self) -> Self:
        """Return the equal network with the smallest width that gives its channels."""
        return replace(self, width=self.channels(LAST) / LAST)

    def deployed(self) -> Self:
        """Return the canonical network: a folded BN leaves no trace in its shape."""
        return self.canonical()

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return MobileFaceNetwork(self, deploy)

    def describe(self) -> str:
        """Describe the network in one line."""
        return f"MobileFaceNet x{self.canonical().width:g}"

    def placement(self) -> str:
        """Return none: it holds no RepMLP."""
        return "none"


class MobileFaceNetwork(nn.Module):
    """Network of a `MobileFaceNet`. Every convolution has a BN; PReLUs have a slope a channel.

    The last two layers, the global depthwise convolution and the 1x1 convolution to the embedding, have no
    non-linearity. The embedding is not normalised: cosine losses and similarities do that themselves.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`.
    """

    def __init__(self, config: MobileFaceNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        channels, last = config.channels(STEM), config.channels(LAST)
        self.stem = nn.Sequential(
            *conv_bn_prelu(config.in_channels, channels, (3, 3), stride=2, deploy=deploy),
            *conv_bn_prelu(channels, channels, (3, 3), groups=channels, deploy=deploy),
        )
        self.blocks = nn.Sequential()
        for stage in STAGES:
            out = config.channels(stage.channels)
            for index in range(stage.blocks):
                stride = 1 if index else stage.stride
                self.blocks.append(Bottleneck(channels, out, stage.expansion, stride, deploy))
                channels = out
        self.head = nn.Sequential(
            *conv_bn_prelu(channels, last, (1, 1), deploy=deploy),
            *conv_bn(last, last, config.last_size(), padding=(0, 0), groups=last, deploy=deploy),
            *conv_bn(last, config.classes, (1, 1), deploy=deploy),
            nn.Flatten(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


class Bottleneck(nn.Module):
    """An inverted residual: 1x1 to `expansion` times the channels, depthwise 3x3, and 1x1 without non-linearity.

    The input is added where the output has its shape.

    Shapes:
        `(N, in_channels, H, W) -> (N, out_channels, H / stride, W / stride)`, rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int, deploy: bool) -> None:
        super().__init__()
        self.skip = stride == 1 and in_channels == out_channels
        hidden = expansion * in_channels
        self.layers = nn.Sequential(
            *conv_bn_prelu(in_channels, hidden, (1, 1), deploy=deploy),
            *conv_bn_prelu(hidden, hidden, (3, 3), stride=stride, groups=hidden, deploy=deploy),
            *conv_bn(hidden, out_channels, (1, 1), deploy=deploy),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.skip else y


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: Size,
    *,
    stride: int = 1,
    padding: Size | None = None,
    groups: int = 1,
    deploy: bool,
) -> list[nn.Module]:
    """Return a convolution, "same" unless a padding is given, and its BN; converted, the BN is in its bias."""
    padding = (kernel[0] // 2, kernel[1] // 2) if padding is None else padding
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=deploy)
    return [conv, nn.Identity() if deploy else nn.BatchNorm2d(out_channels)]


def conv_bn_prelu(
    in_channels: int, out_channels: int, kernel: Size, *, stride: int = 1, groups: int = 1, deploy: bool
) -> list[nn.Module]:
    """Return a "same" convolution, its BN and a PReLU with a slope a channel."""
    layers = conv_bn(in_channels, out_channels, kernel, stride=stride, groups=groups, deploy=deploy)
    return [*layers, nn.PReLU(out_channels)]
