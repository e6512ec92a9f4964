"""A sampler of one's own, which crosses two of the best networks.

In a study file: `sampler: {name: examples.sampler:Crossover, mutation: 0.3}`. Optuna's `BaseSampler` is a base too.
"""

from typing import Any

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from record.trial import Trial
from search import Search, run
from search.data import Mnist5k
from search.samplers.proposing import Params, Proposing
from spaces.cifar_mlp import CifarMLPSpace


class Crossover(Proposing):
    """Takes each parameter from one of two trials of the front; some are left to chance."""

    def __init__(self, *given: Any, mutation: float = 0.2) -> None:
        super().__init__(*given)
        self.mutation = mutation

    def propose(self, judged: list[Trial]) -> Params:
        """Return a child of two trials; what it lacks is drawn at random."""
        parents = self.parents(judged)
        mother, father = (parents[i].params for i in self.generator.integers(len(parents), size=2))
        child = dict(father)
        child.update({name: value for name, value in mother.items() if self.generator.random() < 0.5})
        return {name: value for name, value in child.items() if self.generator.random() >= self.mutation}


def main(runs: str = "runs") -> Run:
    """Search with it; the first ten networks are random."""
    study = Search(
        name="example-sampler",
        space=CifarMLPSpace(channels=((4, 8, 12),), blocks=(1, 2), partitions=(4, 8), groups=(1, 2, 4), head=16),
        data=Mnist5k(size=8, train_images=800, pad=1),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        objectives=("accuracy", "macs"),
        sampler=Crossover,
        trials=12,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    done = run(study)
    print(done.front()[["accuracy", "macs"]])
    return done


if __name__ == "__main__":
    from examples.sampler import main  # whoever continues the run imports the class by this name, not from __main__

    main()
