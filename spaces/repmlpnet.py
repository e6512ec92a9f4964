"""The space around RepMLPNet-T224: width, depth, share sets and partition of each stage."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from repmlp.config import Size, odd_pair, pair, positive
from repmlp.networks.repmlpnet import RepMLPNet, RepMLPNetStage
from spaces.choices import Trial, check_offers, check_positive, check_stages, choose, fitting
from spaces.enumeration import Script, distinct, outcomes
from spaces.repmlp_shapes import KernelSet, kernels_fit


@dataclass(frozen=True, kw_only=True)
class RepMLPNetSpace:
    """RepMLPNet around T224: width, kernels and reduction, and depth, share sets and partition of each stage."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    images: ClassVar[tuple[int, Size, int]] = (3, (224, 224), 1000)

    name: Literal["repmlpnet"] = "repmlpnet"
    channels: tuple[int, ...] = (64, 80, 96)
    """C of the first stage, doubled in each further one."""
    blocks: tuple[tuple[int, ...], ...] = ((1, 2), (1, 2), (4, 6, 12), (1, 2))
    """Depths of each stage; as many entries as stages."""
    share_sets: tuple[tuple[int, ...], ...] = ((1, 2), (1, 4), (4, 16, 32), (32, 128))
    """S of each stage; those that do not divide its channels are not offered."""
    partitions: tuple[int | Size, ...] = (7, 14, 28, 56)
    """h x w; those that do not divide a stage's map, or are smaller than a kernel, are not offered there."""
    kernels: tuple[tuple[int | Size, ...], ...] = ((), (3,), (1, 3), (1, 3, 5))
    """Local Perceptron kernel sets, one for the network; each within some partition of every stage."""
    reductions: tuple[int, ...] = (4, 8)
    """Reduction of the Global Perceptron, one for the network; divides the channels of every stage."""
    patch: int = 4
    """Side of the patches in front of the first stage, in pixels."""
    expansion: int = 4
    """Hidden width of an FFN, in C."""

    def __post_init__(self) -> None:
        check_offers(self)
        check_positive(self, "channels", "reductions")
        for name in ("patch", "expansion"):
            positive(getattr(self, name), name)
        if len(self.blocks) != len(self.share_sets):
            raise ValueError(
                f"blocks has {len(self.blocks)} entries and share_sets {len(self.share_sets)}; give each one per stage."
            )
        check_stages(self, "blocks", "share_sets")
        for partition in self.partitions:
            pair(partition, "partition")
        for kernel_set in self.kernels:
            for kernel in kernel_set:
                odd_pair(kernel, "kernel")

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> RepMLPNet:
        """Ask `trial` for a network for images of `in_channels` and `size`.

        Raises:
            ValueError: if a stage is left without any value for a parameter, or the stages cannot halve the image.
        """
        channels, kernels, reduction = self.suggest_common(trial, size)
        return RepMLPNet(
            stages=tuple(
                self.suggest_stage(trial, index, channels << index, kernels, size) for index in range(len(self.blocks))
            ),
            kernels=kernels,
            reduction=reduction,
            patch=self.patch,
            expansion=self.expansion,
            in_channels=in_channels,
            size=size,
            classes=classes,
        ).canonical()

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks for such images."""
        self.suggest(Script(), in_channels, size, classes)
        return sum(
            math.prod(
                distinct(
                    partial(self.suggest_stage, index=index, channels=channels << index, kernels=kernels, size=size)
                )
                for index in range(len(self.blocks))
            )
            for channels, kernels, _ in set(outcomes(partial(self.suggest_common, size=size)))
        )

    def suggest_common(self, trial: Trial, size: Size) -> tuple[int, tuple[Size, ...], int]:
        """Ask for what all stages share: C of the first one, kernels in canonical order, and reduction."""
        stages = range(len(self.blocks))
        channels = choose(trial, "channels", self.channels)
        kernel_sets = fitting(self.kernels, lambda ks: all(self.partitions_of(index, ks, size) for index in stages))
        kernels = choose(trial, "kernels", self.kernels, lambda ks: ks in kernel_sets)
        reduction = choose(trial, "reduction", self.reductions, lambda value: channels % value == 0)
        return channels, tuple(sorted({pair(k, "kernel") for k in kernels})), reduction

    def suggest_stage(
        self, trial: Trial, index: int, channels: int, kernels: tuple[Size, ...], size: Size
    ) -> RepMLPNetStage:
        """Ask for one stage."""
        stage = f"stage{index + 1}"
        fitting_partitions = self.partitions_of(index, kernels, size)
        return RepMLPNetStage(
            channels=channels,
            blocks=choose(trial, f"{stage}.blocks", self.blocks[index]),
            share_sets=choose(trial, f"{stage}.share_sets", self.share_sets[index], lambda s: channels % s == 0),
            partition=pair(
                choose(trial, f"{stage}.partition", self.partitions, lambda p: p in fitting_partitions), "partition"
            ),
        )

    def partitions_of(self, index: int, kernels: KernelSet, size: Size) -> list[int | Size]:
        """Return the partitions that divide a stage's map and hold the kernels."""
        step = self.patch << index
        rows, columns = size[0] // step, size[1] // step

        def fits(partition: int | Size) -> bool:
            h, w = pair(partition, "partition")
            return 0 < rows == rows // h * h and 0 < columns == columns // w * w and kernels_fit(kernels, (h, w))

        return [p for p in self.partitions if fits(p)]
