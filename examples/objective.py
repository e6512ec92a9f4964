"""A quantity of one's own: how large the exported network is as a file, as an objective and with a limit.

In a study file: `objectives: [accuracy, examples.objective:FileSize]` and `limits: {max_bytes: 100000}`.
"""

from dataclasses import dataclass

from safetensors.torch import save

from record.measure import Point
from record.quantities import Direction, Quantity
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from repmlp.networks import NetworkConfig
from search import Search, run
from search.data import Mnist5k
from spaces.cifar_mlp import CifarMLPSpace


@dataclass(frozen=True)
class FileSize(Quantity):
    """Bytes of the converted network in a safetensors file; few of them reach a device over the air sooner."""

    name: str = "bytes"
    title: str = "file"
    unit: str = "kB"
    better: Direction | None = "minimize"
    help: str = "Size of the exported safetensors file."
    divisor: float = 1000

    def count(self, network: NetworkConfig) -> float:
        """Return the bytes, the header's among them."""
        return len(save(network.build(deploy=True).state_dict()))


def main(runs: str = "runs") -> Run:
    """Search for small files."""
    study = Search(
        name="example-objective",
        space=CifarMLPSpace(channels=((4, 8),), blocks=(1,), partitions=(4, 8), groups=(1, 2, 4), head=16),
        data=Mnist5k(size=8, train_images=800, pad=1),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        objectives=("accuracy", FileSize),
        limits={"max_bytes": 100_000},
        trials=4,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    done = run(study)
    print(done.front()[["accuracy", "bytes"]])
    return done


if __name__ == "__main__":
    from examples.objective import main  # workers import the class by this name; none could from __main__

    main()
