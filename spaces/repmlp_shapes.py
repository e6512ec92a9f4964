"""Shapes of RepMLP blocks to choose from: what spaces of different networks share."""

from dataclasses import dataclass

from repmlp.config import RepMLPBlock, Size, branch_of, kernel_fits, pair
from spaces.choices import Trial, check_offers, check_positive, choose

KernelSet = tuple[int | Size | str, ...]
"""Sizes of odd kernels, and names of other branches, such as "identity" or "1x1-3x3"."""


@dataclass(frozen=True, kw_only=True)
class RepMLPShapes:
    """What h, w, g, the kernels and the Global Perceptron of a RepMLP may be.

    A value that does not fit the channels, the map or the choices before it is not offered there, and the Global
    Perceptron is a parameter only if there is more than one partition.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    partitions: tuple[int | Size, ...] = (7, 14)
    """h x w; at most the map's size."""
    groups: tuple[int, ...] = (1, 2, 4, 8)
    """g; divides the channels."""
    kernels: tuple[KernelSet, ...] = ((), (3,), (1, 3), (1, 3, 5))
    """Local Perceptron kernel sets; no kernel larger than the partition."""
    reductions: tuple[int, ...] = (1, 4)
    """Reduction of the Global Perceptron; 0 leaves it out."""

    def __post_init__(self) -> None:
        check_offers(self)
        check_positive(self, "groups")
        if min(self.reductions) < 0:
            raise ValueError(f"reductions={self.reductions} must not be negative; 0 leaves the Global Perceptron out.")
        for partition in self.partitions:
            pair(partition, "partition")
        for kernel_set in self.kernels:
            for kernel in kernel_set:
                branch_of(kernel)

    def fits(self, channels: int, maps: Size) -> bool:
        """Whether some block fits `channels` on `maps`."""
        return any(channels % g == 0 for g in self.groups) and any(
            self.partition_fits(p, channels, maps) for p in self.partitions
        )

    def partition_fits(self, partition: int | Size, channels: int, maps: Size) -> bool:
        """Whether a partition fits `maps`, some kernel set the partition, and some reduction its features."""
        h, w = pair(partition, "partition")
        features = global_features(channels, (h, w), maps)
        return (
            h <= maps[0]
            and w <= maps[1]
            and any(kernels_fit(k, (h, w)) for k in self.kernels)
            and any((h, w) == maps or reduction <= features for reduction in self.reductions)
        )

    def suggest_repmlp(self, trial: Trial, prefix: str, channels: int, maps: Size) -> RepMLPBlock:
        """Ask `trial` for a block for `channels` on `maps`, by parameters named `prefix.partition` and so on.

        Raises:
            ValueError: if a parameter is left without any value.
        """
        partition = pair(
            choose(trial, f"{prefix}.partition", self.partitions, lambda p: self.partition_fits(p, channels, maps)),
            "partition",
        )
        groups = choose(trial, f"{prefix}.groups", self.groups, lambda g: channels % g == 0)
        kernels = choose(trial, f"{prefix}.kernels", self.kernels, lambda k: kernels_fit(k, partition))
        reduction = 1
        if partition != maps:
            features = global_features(channels, partition, maps)
            reduction = choose(trial, f"{prefix}.reduction", self.reductions, lambda value: value <= features)
        block = RepMLPBlock(
            partition=partition,
            groups=groups,
            kernels=kernels,  # type: ignore[arg-type]
            reduction=max(1, reduction),
            global_perceptron=reduction > 0,
        )
        return block.canonical(maps)


def kernels_fit(kernels: KernelSet, partition: Size) -> bool:
    """Whether no kernel exceeds the partition."""
    return all(kernel_fits(k, partition) for k in kernels)


def global_features(channels: int, partition: Size, maps: Size) -> int:
    """Return the features of the Global Perceptron: channels of all partitions."""
    rows, columns = RepMLPBlock(partition=partition, kernels=()).grid(maps)
    return channels * rows * columns
