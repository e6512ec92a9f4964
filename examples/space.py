"""A space of one's own over two parameters: how wide, and whether with RepMLP.

In a study file: `space: {name: examples.space:TwoParameters, widths: [8, 16]}`.
"""

from dataclasses import dataclass

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from repmlp import CifarNet, ConvBlock, RepMLPBlock, Stage
from repmlp.checks import Size
from search import Search, run
from search.data import Mnist5k
from spaces.choices import Trial, check_offers, choose


@dataclass(frozen=True)
class TwoParameters:
    """One stage of some width, with a RepMLP or a 3x3 convolution."""

    widths: tuple[int, ...] = (4, 8, 12)
    kinds: tuple[str, ...] = ("repmlp", "conv")

    def __post_init__(self) -> None:
        check_offers(self)

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> CifarNet:
        """Ask `trial` for a network for images of `in_channels` and `size`."""
        width = choose(trial, "width", self.widths)
        kind = choose(trial, "kind", self.kinds, plain="conv")
        block = ConvBlock() if kind == "conv" else RepMLPBlock(partition=size, groups=2, kernels=((1, 1), (3, 3)))
        stage = Stage(channels=width, blocks=1, block=block)
        return CifarNet(stages=(stage,), in_channels=in_channels, size=size, classes=classes, head=16).canonical()

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks."""
        return len(set(self.widths)) * len(set(self.kinds))


def main(runs: str = "runs") -> Run:
    """Search the space until nothing is left of it."""
    study = Search(
        name="example-space",
        space=TwoParameters(widths=(4, 8)),
        data=Mnist5k(size=8, train_images=800, pad=1),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        objectives=("accuracy", "params"),
        trials=4,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    done = run(study)
    print(done.trials[["param.width", "param.kind", "accuracy", "params"]])
    return done


if __name__ == "__main__":
    from examples.space import main  # workers import the class by this name; none could from __main__

    main()
