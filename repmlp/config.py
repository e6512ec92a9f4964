"""Configurations of blocks: frozen, checked and canonical.

The canonical form drops whatever has no effect, so that equal blocks compare equal.
"""

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

from repmlp.checks import Size, check_fields, odd_pair, pair, positive, sequence, set_

Kernel = Size | str
"""Size of a convolution, or the name of another branch of the Local Perceptron."""
CHAIN = re.compile(r"1x1-(avg)?([1-9]\d*)x([1-9]\d*)")


class Branch(NamedTuple):
    """A branch of the Local Perceptron."""

    kind: Literal["conv", "identity", "chain", "average"]
    """chain: a 1x1 convolution before that of the window; average: before an average over the window."""
    window: Size


def branch_of(kernel: Any) -> Branch:
    """Return which branch of the Local Perceptron a kernel's size or a branch's name stands for.

    Args:
        kernel: an odd integer or pair; "identity"; "1x1-KxK" or "1x1-avgKxK" with odd K, which may differ.

    Raises:
        ValueError: if it is none of these.
    """
    if not isinstance(kernel, str):
        return Branch("conv", odd_pair(kernel, "kernel"))
    if kernel == "identity":
        return Branch("identity", (1, 1))
    chain = CHAIN.fullmatch(kernel)
    if chain is None:
        raise ValueError(
            f'kernel={kernel!r} must be an odd positive integer or a pair of them, such as 3 or (1, 3), or "identity", '
            '"1x1-KxK" or "1x1-avgKxK" with odd K, such as "1x1-3x3".'
        )
    window = odd_pair((int(chain[2]), int(chain[3])), f"K in kernel {kernel!r}")
    return Branch("average" if chain[1] else "chain", window)


def kernel_fits(kernel: Any, partition: Size) -> bool:
    """Return whether a kernel, or a branch by name, lies within a partition."""
    height, width = branch_of(kernel).window
    return height <= partition[0] and width <= partition[1]


def shown(kernel: Kernel) -> str:
    """Write a size, such as 7 or 3x5, or the name of a branch."""
    if isinstance(kernel, str):
        return kernel
    return str(kernel[0]) if kernel[0] == kernel[1] else f"{kernel[0]}x{kernel[1]}"


def check_groups(groups: int, in_channels: int, out_channels: int) -> None:
    """Check that g divides C and O."""
    if in_channels % groups or out_channels % groups:
        works = [g for g in range(1, min(in_channels, out_channels) + 1) if in_channels % g == out_channels % g == 0]
        raise ValueError(
            f"groups={groups} does not divide C={in_channels} and O={out_channels}; use one of "
            f"{', '.join(map(str, works))}."
        )


@dataclass(frozen=True, kw_only=True)
class RepMLPBlock:
    """Shape of a RepMLP block, apart from its channels and map size."""

    kind: Literal["repmlp"] = "repmlp"
    partition: Size = (7, 7)
    """(h, w): size of a partition."""
    groups: int = 1
    """g: groups of FC3 and of the Local Perceptron."""
    kernels: tuple[Kernel, ...] = ((1, 1), (3, 3), (5, 5))
    """Local Perceptron kernels, odd, each within the partition; empty for w/o Local (Table 1 B).

    Beside sizes, names of other branches: "identity", a BN alone, for O = C (RepVGG); "1x1-KxK", a 1x1 convolution
    before the KxK one, and "1x1-avgKxK", a 1x1 convolution before average pooling (Diverse Branch Block).
    """
    reduction: int = 1
    """Hidden width of the Global Perceptron is C*P / reduction; 1 in the paper's ImageNet and CIFAR networks."""
    global_perceptron: bool = True
    """False for w/o Global (Table 1 C). Without effect where one partition covers the map."""
    fc3_conv: Size | None = None
    """Kernel of a convolution on the partition map that takes the place of FC3 (9 in Table 1 D)."""

    def __post_init__(self) -> None:
        check_fields(self)
        kernels = sequence(self.kernels, "kernels", "kernel sizes, such as [1, 3, [1, 5]] or []")
        set_(self, "kernels", tuple(k if isinstance(k, str) else odd_pair(k, "kernel") for k in kernels))
        for kernel in self.kernels:
            if not kernel_fits(kernel, self.partition):
                raise ValueError(
                    f"kernel={kernel!r} exceeds the partition {self.partition}; the Local Perceptron runs inside a "
                    "partition, so use a kernel no larger than it."
                )
        if self.fc3_conv is not None:
            set_(self, "fc3_conv", odd_pair(self.fc3_conv, "fc3_conv"))
            names = [k for k in self.kernels if isinstance(k, str)]
            if names:
                raise ValueError(
                    f"kernels={names} do not go with fc3_conv={self.fc3_conv}, since a convolution cannot hold such "
                    "branches exactly at the border; use sizes alone, such as 1 or (1, 3), or fc3_conv=None."
                )

    def grid(self, size: Size) -> Size:
        """Return the number of partitions down and across a map of `size`, counting padded ones."""
        return -(-size[0] // self.partition[0]), -(-size[1] // self.partition[1])

    def merged_kernel(self) -> Size:
        """Return the kernel that `fc3_conv` and the Local Perceptron merge into."""
        windows = [branch_of(k).window for k in self.kernels] + [self.fc3_conv or (1, 1)]
        return max(k[0] for k in windows), max(k[1] for k in windows)

    def check(self, in_channels: int, out_channels: int, size: Size) -> None:
        """Raise ValueError unless the block fits C -> O channels on maps of `size`."""
        positive(in_channels, "in_channels")
        positive(out_channels, "out_channels")
        size = pair(size, "size")
        check_groups(self.groups, in_channels, out_channels)
        if "identity" in self.kernels and in_channels != out_channels:
            raise ValueError(
                f'kernel="identity" needs O = C, and C={in_channels}, O={out_channels}; leave it out or use 1.'
            )
        if self.partition[0] > size[0] or self.partition[1] > size[1]:
            raise ValueError(f"partition={self.partition} exceeds the map {size}; use at most the map's size.")
        rows, columns = self.grid(size)
        if self.global_perceptron and rows * columns > 1 and self.reduction > in_channels * rows * columns:
            raise ValueError(
                f"reduction={self.reduction} exceeds the Global Perceptron's {in_channels * rows * columns} features."
            )

    def canonical(self, size: Size) -> Self:
        """Drop what has no effect on maps of `size`: kernel order, the Global Perceptron of a single partition."""
        has_global = self.global_perceptron and self.grid(size) != (1, 1)
        return replace(
            self,
            kernels=tuple(sorted(set(self.kernels), key=lambda k: (isinstance(k, str), k))),
            global_perceptron=has_global,
            reduction=self.reduction if has_global else 1,
        )

    def deployed(self) -> Self:
        """Return the block without what conversion folds away."""
        return replace(self, kernels=(), fc3_conv=self.merged_kernel() if self.fc3_conv else None)

    def shape(self) -> str:
        """Return h x w, g, kernels and Global Perceptron in short, such as `7 g8 k1+3+5 global`."""
        parts = [f"{shown(self.partition)} g{self.groups}"]
        if self.fc3_conv:
            parts.append(f"FC3 conv{shown(self.fc3_conv)}")
        if self.kernels:
            parts.append("k" + "+".join(map(shown, self.kernels)))
        if self.global_perceptron:
            parts.append(f"global/{self.reduction}" if self.reduction > 1 else "global")
        return " ".join(parts)

    def describe(self) -> str:
        """Describe the block in short."""
        return f"RepMLP {self.shape()}"


@dataclass(frozen=True, kw_only=True)
class ConvBlock:
    """A convolution with BN on the whole map, in the place of a RepMLP (Table 1 E and Wide ConvNet)."""

    kind: Literal["conv"] = "conv"
    kernel: Size = (3, 3)
    groups: int = 1

    def __post_init__(self) -> None:
        set_(self, "kernel", odd_pair(self.kernel, "kernel"))
        check_fields(self)

    def check(self, in_channels: int, out_channels: int, size: Size) -> None:
        """Raise ValueError unless the block fits C -> O channels."""
        check_groups(self.groups, in_channels, out_channels)

    def canonical(self, size: Size) -> Self:
        """Return the block itself: all of it has an effect."""
        return self

    def deployed(self) -> Self:
        """Return the block itself: its BN leaves no trace in its shape."""
        return self

    def describe(self) -> str:
        """Describe the block in short."""
        return f"conv {shown(self.kernel)}"


Block = RepMLPBlock | ConvBlock
