"""The space around the paper's pure MLP: widths, depths, and RepMLP or a plain convolution in each stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from optuna.trial import BaseTrial

from repmlp import CifarNet, ConvBlock, RepMLPBlock, Stage
from repmlp.config import Size, odd_pair, pair

T = TypeVar("T")
KernelSet = tuple[int | tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class CifarMLPSpace:
    """Networks with the skeleton of Fig. 3; each field lists what its parameter may be.

    A parameter exists only where it matters: a plain stage has no partition, groups or kernels, a stage of one
    partition no Global Perceptron. Values that do not fit a stage are not offered there.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    name: Literal["cifar_mlp"] = "cifar_mlp"
    channels: tuple[tuple[int, ...], ...] = ((8, 16), (16, 32), (32, 64))
    """Widths of each stage; as many entries as stages."""
    blocks: tuple[int, ...] = (1, 2)
    """Blocks a stage."""
    kinds: tuple[Literal["repmlp", "conv"], ...] = ("repmlp", "conv")
    """RepMLP, or a plain dense 3x3 convolution."""
    partitions: tuple[int | tuple[int, int], ...] = (7, 14)
    """h x w; those larger than the maps of a stage are not offered there."""
    groups: tuple[int, ...] = (1, 2, 4, 8)
    """g; those that do not divide the width are not offered."""
    kernels: tuple[KernelSet, ...] = ((), (3,), (1, 3), (1, 3, 5))
    """Local Perceptron kernel sets; those with a kernel larger than the partition are not offered."""
    reductions: tuple[int, ...] = (1, 4)
    """Reduction of the Global Perceptron; 0 leaves it out."""
    head: int = 128

    def __post_init__(self) -> None:
        for field in ("channels", "blocks", "kinds", "partitions", "groups", "kernels", "reductions"):
            if not getattr(self, field):
                raise ValueError(f"{field} must offer at least one value.")
        for number, widths in enumerate(self.channels, start=1):
            if not widths or min(widths) < 1:
                raise ValueError(f"channels of stage {number} are {widths}; give positive widths, such as [16, 32].")
        if min(self.blocks) < 1 or min(self.groups) < 1 or min(self.reductions) < 0:
            raise ValueError("blocks and groups must be positive, and reductions not negative.")
        for kernel_set in self.kernels:
            for kernel in kernel_set:
                odd_pair(kernel, "kernel")

    def suggest(self, trial: BaseTrial, in_channels: int, size: Size, classes: int) -> CifarNet:
        """Ask `trial` for a network for images of `in_channels` and `size`.

        Raises:
            ValueError: if a stage is left without any value for a parameter.
        """
        stages = []
        for index, widths in enumerate(self.channels):
            stage = f"stage{index + 1}"
            width = choose(trial, f"{stage}.channels", widths)
            depth = choose(trial, f"{stage}.blocks", self.blocks)
            kind = choose(trial, f"{stage}.kind", self.kinds)
            maps = (size[0] >> index, size[1] >> index)
            block = ConvBlock() if kind == "conv" else self.suggest_repmlp(trial, stage, width, maps)
            stages.append(Stage(channels=width, blocks=depth, block=block))
        return CifarNet(
            stages=tuple(stages), in_channels=in_channels, size=size, classes=classes, head=self.head
        ).canonical()

    def suggest_repmlp(self, trial: BaseTrial, stage: str, width: int, maps: Size) -> RepMLPBlock:
        """Ask for the RepMLP of one stage."""
        h, w = pair(
            choose(
                trial,
                f"{stage}.partition",
                self.partitions,
                lambda p: pair(p, "partition")[0] <= maps[0] and pair(p, "partition")[1] <= maps[1],
            ),
            "partition",
        )
        groups = choose(trial, f"{stage}.groups", self.groups, lambda g: width % g == 0)
        kernels = choose(
            trial,
            f"{stage}.kernels",
            self.kernels,
            lambda ks: all(k[0] <= h and k[1] <= w for k in (pair(k, "kernel") for k in ks)),
        )
        reduction = 1
        if (h, w) != maps:
            reduction = choose(trial, f"{stage}.reduction", self.reductions)
        return RepMLPBlock(
            partition=(h, w),
            groups=groups,
            kernels=kernels,  # type: ignore[arg-type]
            reduction=max(1, reduction),
            global_perceptron=reduction > 0,
        )


def choose(trial: BaseTrial, name: str, values: Sequence[T], fits: Callable[[T], bool] = lambda _: True) -> T:
    """Let `trial` choose one of the values that fit.

    A sampler wants the choices of a parameter fixed, so a parameter that cannot offer all values carries those it
    offers in its name. One that fits alone is no parameter.

    Raises:
        ValueError: if none fits.
    """
    offered: dict[Any, T] = {v if isinstance(v, int | str) else str(v): v for v in values if fits(v)}
    if not offered:
        raise ValueError(f"{name}: none of {', '.join(map(str, values))} fits; offer smaller values in the space.")
    if len(offered) == 1:
        return next(iter(offered.values()))
    if len(offered) < len(set(values)):
        name = f"{name} of {', '.join(map(str, offered))}"
    return offered[trial.suggest_categorical(name, list(offered))]
