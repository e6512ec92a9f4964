"""RepMLPNet (arXiv 2112.11081): a hierarchical network of RepMLP blocks whose FC3 is shared within sets of channels."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repmlp.block import ConvBN, sum_of
from repmlp.block import replace as set_weights
from repmlp.checks import Size, check_fields, naming, odd_pair, pair, sequence, set_, stages_of
from repmlp.config import shown
from repmlp.grouped_linear import GroupedLinear
from repmlp.merge import bn_scale_shift, centred, conv_to_fc
from repmlp.networks.parts import Part


@dataclass(frozen=True, kw_only=True)
class RepMLPNetStage:
    """One stage: units of a shared RepMLP block and an FFN on maps of one size."""

    channels: int
    """C."""
    blocks: int
    share_sets: int
    """S: matrices in FC3; channel c uses matrix c mod S. Divides C."""
    partition: Size
    """(h, w); divides the stage's map. The published networks have one partition a stage."""

    def __post_init__(self) -> None:
        check_fields(self)
        check_divides("share_sets", self.share_sets, "channels", self.channels)

    def check(self, size: Size, kernels: tuple[Size, ...], reduction: int) -> None:
        """Raise ValueError unless partition, kernels and reduction fit C channels on maps of `size`."""
        (h, w), (height, width) = self.partition, size
        if height % h or width % w:
            raise ValueError(
                f"partition={self.partition} does not divide the map {size}; use a height of {divisors(height)} and a "
                f"width of {divisors(width)}."
            )
        for kernel in kernels:
            if kernel[0] > h or kernel[1] > w:
                raise ValueError(
                    f"kernel={kernel} exceeds the partition {self.partition}; use a kernel no larger than it."
                )
        check_divides("reduction", reduction, "channels", self.channels)

    def describe(self) -> str:
        """Describe the stage in short: C, depth, S, h x w."""
        return f"{self.channels}x{self.blocks} S{self.share_sets} {shown(self.partition)}"


@dataclass(frozen=True, kw_only=True)
class RepMLPNet:
    """A RepMLPNet: a patch embedding, stages with a halving convolution between them, pooling and a linear layer."""

    kind: Literal["repmlpnet"] = "repmlpnet"
    stages: tuple[RepMLPNetStage, ...]
    kernels: tuple[Size, ...] = ((1, 1), (3, 3))
    """Local Perceptron kernels, depthwise over S channels, odd, each within every partition; empty for none."""
    reduction: int = 4
    """Hidden width of the Global Perceptron is C / reduction; divides the channels of every stage."""
    patch: int = 4
    """Side of the square patches that the first convolution embeds, in pixels."""
    expansion: int = 4
    """Hidden width of an FFN is C * expansion."""
    in_channels: int = 3
    size: Size = (224, 224)
    """(H, W) of the images; divisible by patch * 2^(stages - 1)."""
    classes: int = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        kernels = sequence(self.kernels, "kernels", "kernel sizes, such as [1, 3] or []")
        set_(self, "kernels", tuple(odd_pair(k, "kernel") for k in kernels))
        set_(self, "stages", stages_of(RepMLPNetStage, self.stages))
        step = self.patch << (len(self.stages) - 1)
        if self.size[0] % step or self.size[1] % step:
            nearest = tuple(max(step, round(side / step) * step) for side in self.size)
            raise ValueError(
                f"size={self.size} must be divisible by {step}, a patch of {self.patch} halved between "
                f"{len(self.stages)} stages; use {nearest}."
            )
        for number, (stage, size) in enumerate(zip(self.stages, self.stage_sizes(), strict=True), start=1):
            with naming(f"stage {number}"):
                stage.check(size, self.kernels, self.reduction)

    def stage_sizes(self) -> list[Size]:
        """Return (H, W) of the maps of each stage."""
        steps = (self.patch << i for i in range(len(self.stages)))
        return [(self.size[0] // step, self.size[1] // step) for step in steps]

    def canonical(self) -> Self:
        """Return the equal network whose kernels are in order and each there once, as the block builds them."""
        return replace(self, kernels=tuple(sorted(set(self.kernels))))

    def deployed(self) -> Self:
        """Return the network that conversion leaves, without a Local Perceptron."""
        return replace(self, kernels=())

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return RepMLPNetwork(self, deploy)

    def parts(self) -> Iterator[Part]:
        """Yield the pieces of the converted network, of a configuration that is `deployed`."""
        given, patch, size = self.in_channels, self.patch, self.size
        for stage in self.stages:
            yield Part(embedding, (given, stage.channels, patch, True), (given, *size))
            given, size, patch = stage.channels, (size[0] // patch, size[1] // patch), 2
            units = replace(stage, blocks=1), self.kernels, self.reduction, self.expansion, True
            yield from [Part(Unit, units, (given, *size))] * stage.blocks
        yield Part(nn.BatchNorm2d, (given,), (given, *size))
        yield Part(nn.Linear, (given, self.classes), (given,))

    def describe(self) -> str:
        """Describe the network in one line, a stage at a time."""
        return " | ".join(stage.describe() for stage in self.stages)

    def placement(self) -> str:
        """Return all stages: each holds the block."""
        return "all stages"


class RepMLPNetwork(nn.Module):
    """Network of a `RepMLPNet`. Weights start as PyTorch's layers do; there is no drop-path.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`.
    """

    def __init__(self, config: RepMLPNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        channels = [stage.channels for stage in config.stages]
        shared = config.kernels, config.reduction, config.expansion
        self.embed = embedding(config.in_channels, channels[0], config.patch, deploy)
        self.stages = nn.ModuleList(
            nn.Sequential(*(Unit(stage, *shared, deploy) for _ in range(stage.blocks))) for stage in config.stages
        )
        self.downsamples = nn.ModuleList(
            embedding(before, after, 2, deploy) for before, after in itertools.pairwise(channels)
        )
        self.norm = nn.BatchNorm2d(channels[-1])
        self.head = nn.Linear(channels[-1], config.classes)

    def forward(self, x: Tensor) -> Tensor:
        for embed, stage in zip((self.embed, *self.downsamples), self.stages, strict=True):
            x = stage(embed(x))
        return self.head(self.norm(x).mean((2, 3)))


class Unit(nn.Module):
    """`y = x + block(BN(x))`, then `y + FFN(BN(y))`, where the FFN is 1x1 conv-BN, GELU, 1x1 conv-BN.

    Shapes:
        `(N, C, H, W) -> (N, C, H, W)`.
    """

    def __init__(
        self, stage: RepMLPNetStage, kernels: tuple[Size, ...], reduction: int, expansion: int, deploy: bool
    ) -> None:
        super().__init__()
        channels, hidden = stage.channels, stage.channels * expansion
        self.norm1 = nn.BatchNorm2d(channels)
        self.block = SharedRepMLP(channels, stage.share_sets, stage.partition, kernels, reduction, deploy)
        self.norm2 = nn.BatchNorm2d(channels)
        self.ffn = nn.Sequential(
            *conv_bn(channels, hidden, 1, deploy), nn.GELU(), *conv_bn(hidden, channels, 1, deploy)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.block(self.norm1(x))
        return y + self.ffn(self.norm2(y))


class SharedRepMLP(nn.Module):
    """The block of RepMLPNet: C -> C channels, with one matrix for all channels of a set (arXiv 2112.11081).

    1. Channel c of each partition of h x w positions goes through matrix c mod S of FC3, then a BN over S channels.
    2. Local Perceptron: depthwise convolutions over S channels with BN, zero-padded at the partition's border, are
       added to 1. To them, FC3 and the BNs a partition's C channels are C/S maps of S channels.
    3. Global Perceptron: the result is multiplied by a gate a channel: global average, FC1, ReLU, FC2, sigmoid.

    `reparameterize` folds 2 and the BN into FC3 (Locality Injection).

    Args:
        channels: C.
        share_sets: S; divides C.
        partition: (h, w). Any map that it divides can be given.
        kernels: of the Local Perceptron, odd.
        reduction: hidden width of the Global Perceptron is C / reduction.
        deploy: build the converted form at once, to load converted weights.

    Shapes:
        `(N, C, H, W) -> (N, C, H, W)`.

    Raises:
        ValueError: if S or the reduction does not divide C; in `forward`, if the map has not C channels or the
            partition does not divide it.
    """

    def __init__(
        self,
        channels: int,
        share_sets: int,
        partition: Size,
        kernels: tuple[Size, ...] = ((1, 1), (3, 3)),
        reduction: int = 4,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        check_divides("share_sets", share_sets, "channels", channels)
        check_divides("reduction", reduction, "channels", channels)
        self.channels, self.share_sets, self.partition = channels, share_sets, partition
        area = partition[0] * partition[1]
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        self.fc3 = GroupedLinear(share_sets * area, share_sets * area, share_sets, bias=deploy)
        self.fc3_bn: nn.BatchNorm2d | nn.Identity = nn.Identity() if deploy else nn.BatchNorm2d(share_sets)
        branches = () if deploy else kernels
        self.local = nn.ModuleDict({f"{k[0]}x{k[1]}": ConvBN(share_sets, share_sets, k, share_sets) for k in branches})

    @property
    def converted(self) -> bool:
        """Whether the block is in its converted form."""
        return isinstance(self.fc3_bn, nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        (h, w), s = self.partition, self.share_sets
        if channels != self.channels or height % h or width % w:
            raise ValueError(
                f"SharedRepMLP was built for {self.channels} channels on maps that {h}x{w} partitions divide and was "
                f"given {channels} channels on {height}x{width}."
            )
        rows, columns, share = height // h, width // w, channels // s
        # One partition: a view, so nothing is copied until the product with the gate.
        parts = x.view(n, channels, rows, h, columns, w).permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, h, w)
        y = self.mix(parts).view(n, rows, columns, share, s, h, w).permute(0, 3, 4, 1, 5, 2, 6)
        # The first factor decides the layout of the product: with the gate there it is that of the map.
        return (self.gate(x).view(n, share, s, 1, 1, 1, 1) * y).reshape(x.shape)

    def gate(self, x: Tensor) -> Tensor:
        """Global Perceptron: `(N, C, H, W) -> (N, C)`, between 0 and 1."""
        return torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3))))))

    def mix(self, parts: Tensor) -> Tensor:
        """FC3 with its BN, and Local Perceptron: `(M, C, h, w)` to `(M*C/S, S, h, w)`."""
        s, (h, w) = self.share_sets, self.partition
        by_set = self.fc3.by_group(parts.reshape(-1, s, h * w).transpose(0, 1))
        y = self.fc3_bn(by_set.transpose(0, 1).view(-1, s, h, w))
        return sum_of([*(self.local_branch(parts, *cast(ConvBN, branch)) for branch in self.local.values()), y])

    def local_branch(self, parts: Tensor, conv: nn.Module, bn: nn.Module) -> Tensor:
        """One branch of the Local Perceptron: `(M, C, h, w)` to `(M*C/S, S, h, w)`.

        The S kernels are repeated over the C channels: the same as C/S times as many maps of S channels, which
        CPU convolutions are more than ten times slower on where S is 1 (96 channels, 56x56, forward and backward).
        """
        conv = cast(nn.Conv2d, conv)
        channels, kernel = self.channels, conv.weight.shape[1:]
        weight = conv.weight.expand(channels // self.share_sets, *conv.weight.shape).reshape(channels, *kernel)
        y = F.conv2d(parts, weight, padding=conv.padding, groups=channels)
        return bn(y.reshape(-1, self.share_sets, *self.partition))

    def merged_fc3(self) -> tuple[Tensor, Tensor]:
        """Return FC3's kernel `(S*h*w, h*w)` and bias `(S*h*w,)` with all branches merged, in float64.

        Differentiable in every weight of FC3, the Local Perceptron and their BNs.
        """
        if isinstance(self.fc3_bn, nn.Identity):
            return self.fc3.weight.double(), cast(Tensor, self.fc3.bias).double()
        h, w = self.partition
        scale, shift = (t.repeat_interleave(h * w) for t in bn_scale_shift(self.fc3_bn))
        kernel = self.fc3.weight.double() * scale[:, None]
        if not self.local:
            return kernel, shift
        merged = [cast(ConvBN, branch).merged() for branch in self.local.values()]
        taps = sum_of([centred(k, (2 * h - 1, 2 * w - 1)) for k, _ in merged])
        offsets = sum_of([bias for _, bias in merged])
        return kernel + conv_to_fc(taps, self.partition), shift + offsets.repeat_interleave(h * w)

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Convert in place to FC1, FC2 and FC3 with biases; a second call changes nothing.

        Computed in float64 from the running statistics, then cast back: dtype and device are kept.
        """
        if self.converted:
            return
        set_weights(self.fc3, *self.merged_fc3())
        self.fc3_bn = nn.Identity()
        self.local = nn.ModuleDict()

    def extra_repr(self) -> str:
        return f"{self.channels}, share_sets={self.share_sets}, partition={self.partition}"


def conv_bn(in_channels: int, out_channels: int, kernel: int, deploy: bool) -> list[nn.Module]:
    """Return a convolution whose stride is its kernel, and its BN; converted, the BN is in the convolution's bias."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, kernel, bias=deploy)
    return [conv, nn.Identity() if deploy else nn.BatchNorm2d(out_channels)]


def embedding(in_channels: int, out_channels: int, patch: int, deploy: bool) -> nn.Sequential:
    """Return the convolution of patches with BN and ReLU in front of a stage."""
    return nn.Sequential(*conv_bn(in_channels, out_channels, patch, deploy), nn.ReLU(inplace=True))


def check_divides(name: str, value: int, whole_name: str, whole: int) -> None:
    """Check that `value` divides `whole`."""
    if whole % value:
        raise ValueError(f"{name}={value} does not divide {whole_name}={whole}; use {divisors(whole)}.")


def divisors(number: int) -> str:
    """Return the divisors of `number` in words."""
    *others, last = (str(d) for d in range(1, number + 1) if number % d == 0)
    return f"{', '.join(others)} or {last}" if others else last


def repmlpnet(side: int, channels: int, blocks: tuple[int, ...], share_sets: tuple[int, ...]) -> RepMLPNet:
    """Return a RepMLPNet for square images, with channels doubled between stages and one partition a stage."""
    stages = (
        RepMLPNetStage(channels=channels << i, blocks=b, share_sets=s, partition=pair(side // (4 << i), "partition"))
        for i, (b, s) in enumerate(zip(blocks, share_sets, strict=True))
    )
    return RepMLPNet(stages=tuple(stages), size=(side, side))


REPMLPNETS: dict[str, RepMLPNet] = {
    "T224": repmlpnet(224, 64, (2, 2, 6, 2), (1, 4, 16, 128)),
    "B224": repmlpnet(224, 96, (2, 2, 12, 2), (1, 4, 32, 128)),
    "T256": repmlpnet(256, 64, (2, 2, 6, 2), (1, 4, 16, 128)),
    "B256": repmlpnet(256, 96, (2, 2, 12, 2), (1, 4, 32, 128)),
    "D256": repmlpnet(256, 80, (2, 2, 18, 2), (1, 4, 16, 128)),
    "L256": repmlpnet(256, 96, (2, 2, 18, 2), (1, 4, 32, 256)),
}
"""The published networks, by variant and side of the images."""
