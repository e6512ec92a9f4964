"""A data set of one's own, of tensors in memory: a frozen dataclass, whose fields are its keys in a study file.

In a study file: `data: {name: examples.data_set:Stripes, images: 400}`.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from search import Search, run
from search.data import Source, TaskName
from search.data.tensors import Split, in_memory
from spaces.cifar_mlp import CifarMLPSpace


@dataclass(frozen=True)
class Stripes:
    """Noisy stripes of 8x8 pixels: do they lie or stand?"""

    task: ClassVar[TaskName] = "classification"

    images: int = 400
    noise: int = 100

    def drawn(self, seed: int) -> Split:
        """Return images `(N, 1, 8, 8)`, uint8, and labels: 0 for lying stripes, 1 for standing ones."""
        generator = torch.Generator().manual_seed(seed)
        lying = torch.tensor([0, 150]).repeat(4).view(8, 1).expand(8, 8)
        labels = torch.arange(self.images) % 2
        pixels = torch.where(labels.view(-1, 1, 1, 1) == 1, lying.T, lying)
        noise = torch.randint(self.noise + 1, pixels.shape, generator=generator)
        return Split((pixels + noise).to(torch.uint8), labels)

    def load(self, device: str = "cpu") -> Source:
        """Return what a trainer reads; a share of the images is held out to score on."""
        return in_memory(
            self.drawn(0), lambda: self.drawn(1), device, validation=0.25, class_names=("lying", "standing")
        )


def main(runs: str = "runs") -> Run:
    """Search for networks that tell stripes apart."""
    study = Search(
        name="example-data-set",
        space=CifarMLPSpace(channels=((4, 8),), blocks=(1,), partitions=(4, 8), groups=(1, 2, 4), head=16),
        data=Stripes(noise=60),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        objectives=("accuracy", "macs"),
        trials=3,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    done = run(study)
    print(done.front()[["accuracy", "macs"]])
    return done


if __name__ == "__main__":
    from examples.data_set import main  # workers import the class by this name; none could from __main__

    main()
