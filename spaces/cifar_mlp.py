"""The space around the paper's pure MLP: widths, depths, and RepMLP or a plain convolution in each stage."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from repmlp import CifarNet, ConvBlock, Stage
from repmlp.config import Size
from spaces.choices import Trial, check_positive, check_stages, choose, fitting
from spaces.enumeration import Script, distinct
from spaces.repmlp_shapes import RepMLPShapes


@dataclass(frozen=True, kw_only=True)
class CifarMLPSpace(RepMLPShapes):
    """The paper's pure MLP for small images: width, depth, RepMLP or a 3x3 convolution in each stage."""

    images: ClassVar[tuple[int, Size, int]] = (3, (32, 32), 10)

    name: Literal["cifar_mlp"] = "cifar_mlp"
    channels: tuple[tuple[int, ...], ...] = ((8, 16), (16, 32), (32, 64))
    """Widths of each stage; as many entries as stages."""
    blocks: tuple[int, ...] = (1, 2)
    """Blocks a stage."""
    kinds: tuple[Literal["repmlp", "conv"], ...] = ("repmlp", "conv")
    """RepMLP, or a plain dense 3x3 convolution."""
    head: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "blocks")
        check_stages(self, "channels")

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> CifarNet:
        """Ask `trial` for a network for images of `in_channels` and `size`.

        Raises:
            ValueError: if a stage is left without any value for a parameter.
        """
        stages = tuple(self.suggest_stage(trial, index, size) for index in range(len(self.channels)))
        return CifarNet(stages=stages, in_channels=in_channels, size=size, classes=classes, head=self.head).canonical()

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks for such images."""
        self.suggest(Script(), in_channels, size, classes)
        stages = (partial(self.suggest_stage, index=index, size=size) for index in range(len(self.channels)))
        return math.prod(distinct(stage) for stage in stages)

    def suggest_stage(self, trial: Trial, index: int, size: Size) -> Stage:
        """Ask for one stage, on maps halved `index` times."""
        stage, maps = f"stage{index + 1}", (size[0] >> index, size[1] >> index)
        width = choose(trial, f"{stage}.channels", self.channels[index])
        depth = choose(trial, f"{stage}.blocks", self.blocks)
        kinds = fitting(self.kinds, lambda k: k == "conv" or self.fits(width, maps))
        kind = choose(trial, f"{stage}.kind", self.kinds, lambda k: k in kinds, plain="conv")
        block = ConvBlock() if kind == "conv" else self.suggest_repmlp(trial, stage, width, maps)
        return Stage(channels=width, blocks=depth, block=block)
