"""All-MLP hosts: MLP-Mixer (arXiv 2105.01601) and ResMLP (arXiv 2105.03404), whose token mixing may be a RepMLP."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.block import replace as set_weights
from repmlp.checks import Size, check_fields, made, naming, set_
from repmlp.config import RepMLPBlock
from repmlp.networks.parts import Part


@dataclass(frozen=True, kw_only=True)
class MixerNet:
    """A Mixer or a ResMLP: blocks that mix the tokens, then the channels, of an image cut into patches."""

    kind: Literal["mixer"] = "mixer"
    style: Literal["mixer", "resmlp"]
    """mixer: LayerNorm, and an MLP over tokens. resmlp: Affine and LayerScale, and one linear layer over tokens."""
    patch: int
    """Side of the square patches, in pixels; divides H and W."""
    channels: int
    """C: width of a token."""
    blocks: int
    token_hidden: int | None = None
    """Hidden width of Mixer's token MLP (D_S); without effect, and not needed, where there is none."""
    channel_hidden: int
    """Hidden width of the channel MLP (D_C)."""
    mixing: RepMLPBlock | None = None
    """Mixes the (H/patch, W/patch) map of tokens instead of the style's own layers; None for those."""
    in_channels: int = 3
    size: Size = (224, 224)
    """(H, W) of the images."""
    classes: int = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.size[0] % self.patch or self.size[1] % self.patch:
            works = [p for p in range(1, min(self.size) + 1) if self.size[0] % p == self.size[1] % p == 0]
            raise ValueError(
                f"patch={self.patch} does not divide the image {self.size}; use one of {', '.join(map(str, works))}."
            )
        if self.mixing is not None:
            set_(self, "mixing", made(RepMLPBlock, self.mixing, "mixing"))
            with naming("mixing"):
                self.mixing.check(self.channels, self.channels, self.token_map())
        elif self.style == "mixer" and self.token_hidden is None:
            raise ValueError(
                "token_hidden=None leaves Mixer's token MLP without a width; give one, such as "
                f"{max(1, self.channels // 2)} (half of the channels, as in the paper), or a RepMLP as mixing."
            )

    def token_map(self) -> Size:
        """Return the number of tokens down and across the image."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""
        if self.mixing is not None:
            return replace(self, token_hidden=None, mixing=self.mixing.canonical(self.token_map()))
        return self if self.style == "mixer" else replace(self, token_hidden=None)

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves."""
        config = self.canonical()
        return config if config.mixing is None else replace(config, mixing=config.mixing.deployed())

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return MixerNetwork(self, deploy)

    def parts(self) -> Iterator[Part]:
        """Yield the pieces of the converted network, of a configuration that is `deployed`."""
        rows, columns = self.token_map()
        plain, tokens = replace(self, blocks=1), (rows, columns, self.channels)
        embed = self.in_channels, self.channels, self.patch, self.patch
        yield Part(nn.Conv2d, embed, (self.in_channels, *self.size))
        yield from [Part(block, (plain, True), tokens)] * self.blocks
        yield Part(norm, (plain,), tokens)
        yield Part(nn.Linear, (self.channels, self.classes), (self.channels,))

    def describe(self) -> str:
        """Describe the network in one line: style, width, depth, patch and RepMLP."""
        mixing = self.canonical().mixing
        return f"{self.style} {self.channels}x{self.blocks} /{self.patch}{f' {mixing.shape()}' if mixing else ''}"

    def placement(self) -> str:
        """Return all blocks if a RepMLP mixes the tokens, or none."""
        return "all blocks" if self.mixing else "none"


class MixerNetwork(nn.Module):
    """Network of a `MixerNet`.

    Tokens stay a map `(N, H/patch, W/patch, C)` in memory. Normalisation and channel MLP act on its last axis, the
    style's own token mixing is a 1x1 convolution whose channels are the tokens, and a RepMLP reads a permuted view,
    which it copies into partitions anyway. So no transpose is copied but that of the patch embedding.

    Weights start as PyTorch's layers do, not by the papers' schemes; only LayerScale starts as in the released ResMLPs.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`.
    """

    def __init__(self, config: MixerNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        channels = config.channels
        self.embed = nn.Conv2d(config.in_channels, channels, config.patch, stride=config.patch)
        self.blocks = nn.Sequential()
        for _ in range(config.blocks):
            self.blocks.extend(block(config, deploy))
        self.norm = norm(config)
        self.head = nn.Linear(channels, config.classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).permute(0, 2, 3, 1).contiguous()
        return self.head(self.norm(self.blocks(x)).mean((1, 2)))


def block(config: MixerNet, deploy: bool) -> nn.Sequential:
    """Return a token mixing and a channel MLP."""
    mixed = Residual(config, token_mixing(config, deploy), deploy)
    return nn.Sequential(mixed, Residual(config, ChannelMLP(config.channels, config.channel_hidden), deploy))


class Residual(nn.Module):
    """`x + f(norm(x))` on `(N, H, W, C)`; in a ResMLP `x + scale * f(norm(x))` (LayerScale; ResMLP, Eq. 2 and 3)."""

    def __init__(self, config: MixerNet, f: nn.Module, deploy: bool) -> None:
        super().__init__()
        folded = deploy and config.style == "resmlp" and isinstance(f, ChannelMLP)
        self.norm: nn.Module = nn.Identity() if folded else norm(config)
        self.f = f
        self.scale: nn.Parameter | None = None
        if config.style == "resmlp" and not folded:
            self.scale = nn.Parameter(torch.full((config.channels,), initial_scale(config.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(self.norm(x))
        return x + y if self.scale is None else torch.addcmul(x, self.scale, y)

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Fold in place ResMLP's Affine and LayerScale into a channel MLP; a second call changes nothing.

        Token mixing keeps them: its linear layer has one kernel for all channels, and they differ by channel.
        """
        if not isinstance(self.norm, Affine) or not isinstance(self.f, ChannelMLP) or self.scale is None:
            return
        fc1, fc2, scale = self.f.fc1, self.f.fc2, self.scale.double()
        weight = fc1.weight.double()
        set_weights(fc1, weight * self.norm.alpha.double(), fc1.bias.double() + weight @ self.norm.beta.double())
        set_weights(fc2, fc2.weight.double() * scale[:, None], fc2.bias.double() * scale)
        self.norm, self.scale = nn.Identity(), None


class Affine(nn.Module):
    """`alpha * x + beta`, one of each a channel, on `(..., C)` (ResMLP, Eq. 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.beta, self.alpha, x)


class ChannelMLP(nn.Module):
    """MLP on the last axis of `(..., C)`, shared by all tokens."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class TokenMixing(nn.Sequential):
    """Layers for `(N, tokens, C)` on `(N, H, W, C)`, by views."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1, 2)).view(x.shape)


class MapMixing(nn.Module):
    """A module for `(N, C, H, W)` on `(N, H, W, C)`, by views."""

    def __init__(self, f: nn.Module) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def token_mixing(config: MixerNet, deploy: bool) -> nn.Module:
    """Return what mixes the tokens of `(N, H, W, C)`: a RepMLP, Mixer's MLP or ResMLP's linear layer."""
    size = config.token_map()
    if config.mixing is not None:
        return MapMixing(RepMLP(config.channels, config.channels, size, config.mixing, deploy))
    tokens = size[0] * size[1]
    if config.token_hidden is None:
        layers: list[nn.Module] = [nn.Conv1d(tokens, tokens, 1)]
    else:
        layers = [nn.Conv1d(tokens, config.token_hidden, 1), nn.GELU(), nn.Conv1d(config.token_hidden, tokens, 1)]
    return TokenMixing(*layers)


def norm(config: MixerNet) -> nn.Module:
    """Return the style's normalisation of the last axis."""
    return nn.LayerNorm(config.channels, eps=1e-6) if config.style == "mixer" else Affine(config.channels)


def initial_scale(blocks: int) -> float:
    """Return where LayerScale starts: the deeper, the nearer to zero (ResMLP's released models, after CaiT)."""
    return 0.1 if blocks <= 18 else 1e-5 if blocks <= 24 else 1e-6


def mixer(channels: int, blocks: int) -> MixerNet:
    """Return a Mixer with 16x16 patches (Mixer, Table 1)."""
    return MixerNet(
        style="mixer",
        patch=16,
        channels=channels,
        blocks=blocks,
        token_hidden=channels // 2,
        channel_hidden=4 * channels,
    )


def resmlp(blocks: int) -> MixerNet:
    """Return a small ResMLP with 16x16 patches."""
    return MixerNet(style="resmlp", patch=16, channels=384, blocks=blocks, channel_hidden=4 * 384)


MIXERS: dict[str, MixerNet] = {
    "Mixer-S/16": mixer(512, 8),
    "Mixer-B/16": mixer(768, 12),
    "ResMLP-S12": resmlp(12),
    "ResMLP-S24": resmlp(24),
}
"""Published networks at 224x224; `replace(MIXERS[name], mixing=RepMLPBlock(...))` puts a RepMLP into one."""
