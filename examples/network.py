"""A network of one's own with a RepMLP inside, against a wider one of its kind, with two seeds.

In a study file: `space: {name: fixed, networks: {narrow: {kind: examples.network:Patches, channels: 4}}}`.
"""

from dataclasses import dataclass, field, replace
from typing import Self

from torch import nn

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from repmlp import RepMLP, RepMLPBlock
from repmlp.checks import Size, check_fields, made, set_
from search import Comparison, run
from search.data import Mnist5k
from spaces.fixed import FixedSpace


@dataclass(frozen=True, kw_only=True)
class Patches:
    """A RepMLP between a convolution and an average; the data gives the last three fields."""

    channels: int = 4
    block: RepMLPBlock = field(default_factory=lambda: RepMLPBlock(partition=(4, 4), kernels=((1, 1), (3, 3))))
    in_channels: int = 3
    size: Size = (8, 8)
    classes: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        set_(self, "block", made(RepMLPBlock, self.block, "block"))  # of plain values, as files have them

    def canonical(self) -> Self:
        """Return the equal network without what has no effect."""
        return replace(self, block=self.block.canonical(self.size))

    def deployed(self) -> Self:
        """Return what conversion leaves: FC3 alone."""
        return replace(self, block=self.canonical().block.deployed())

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; conversion finds the RepMLP in it."""
        middle = RepMLP(self.channels, self.channels, self.size, self.block, deploy)
        ends = nn.Conv2d(self.in_channels, self.channels, 1), nn.Linear(self.channels, self.classes)
        return nn.Sequential(ends[0], middle, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), ends[1])

    def describe(self) -> str:
        """Describe the network in one line."""
        return f"patches {self.channels} {self.block.describe()}"

    def placement(self) -> str:
        """Say where RepMLP is."""
        return "the middle"


def main(runs: str = "runs") -> Run:
    """Train both, and score them on the test images."""
    kind = "examples.network:Patches"
    study = Comparison(
        name="example-network",
        space=FixedSpace(networks={"narrow": {"kind": kind}, "wide": {"kind": kind, "channels": 8}}),
        data=Mnist5k(size=8, train_images=800, pad=1),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        objectives=("accuracy", "params"),
        seeds=2,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    done = run(study)
    print(done.trials[["param.network", "seed", "test", "params"]])
    return done


if __name__ == "__main__":
    main()
