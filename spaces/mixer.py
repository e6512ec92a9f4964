"""The space around MLP-Mixer and ResMLP: size, and the host's own token mixing or a RepMLP in its place."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from repmlp.config import Size
from repmlp.networks.mixer import MixerNet
from spaces.choices import Trial, check_positive, choose, fitting
from spaces.enumeration import distinct
from spaces.repmlp_shapes import KernelSet, RepMLPShapes


@dataclass(frozen=True, kw_only=True)
class MixerSpace(RepMLPShapes):
    """MLP-Mixer and ResMLP: their own token mixing, or a RepMLP on the map of tokens."""

    images: ClassVar[tuple[int, Size, int]] = (3, (224, 224), 1000)

    name: Literal["mixer"] = "mixer"
    styles: tuple[Literal["mixer", "resmlp"], ...] = ("mixer", "resmlp")
    patches: tuple[int, ...] = (16, 32)
    """Side of the patches, in pixels; divides the image."""
    channels: tuple[int, ...] = (256, 384, 512)
    """C: width of a token. The hidden width of Mixer's token MLP is half of it, as in the published networks."""
    blocks: tuple[int, ...] = (8, 12)
    expansions: tuple[int, ...] = (2, 4)
    """Hidden width of the channel MLP, in C."""
    mixing: tuple[Literal["host", "repmlp"], ...] = ("host", "repmlp")
    """What mixes the tokens: the style's own layers, or a RepMLP."""
    groups: tuple[int, ...] = (32, 64, 128)
    kernels: tuple[KernelSet, ...] = ((), (1, 3), (1, 3, 5))
    reductions: tuple[int, ...] = (0, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "patches", "channels", "blocks", "expansions")

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> MixerNet:
        """Ask `trial` for a network for images of `in_channels` and `size`.

        Raises:
            ValueError: if a parameter is left without any value.
        """
        style = choose(trial, "style", self.styles)
        patch = choose(trial, "patch", self.patches, lambda p: size[0] % p == 0 and size[1] % p == 0)
        channels = choose(trial, "channels", self.channels)
        tokens = (size[0] // patch, size[1] // patch)
        blocks = choose(trial, "blocks", self.blocks)
        expansion = choose(trial, "expansion", self.expansions)
        kinds = fitting(self.mixing, lambda kind: kind == "host" or self.fits(channels, tokens))
        kind = choose(trial, "mixing", self.mixing, lambda kind: kind in kinds, plain="host")
        return MixerNet(
            style=style,
            patch=patch,
            channels=channels,
            blocks=blocks,
            token_hidden=max(1, channels // 2),
            channel_hidden=expansion * channels,
            mixing=None if kind == "host" else self.suggest_repmlp(trial, "mixing", channels, tokens),
            in_channels=in_channels,
            size=size,
            classes=classes,
        ).canonical()

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks for such images."""
        return distinct(lambda trial: self.suggest(trial, in_channels, size, classes))
