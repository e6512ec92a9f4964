"""The whole way in Python: look at candidates, search, pick a network, train it fully, export it and use it."""

from pathlib import Path

import torch

from record.measure import Point
from record.recipe import Recipe
from record.resources import Resources
from record.run import Run
from search import Search, run, sample
from search.data import Mnist5k
from spaces.cifar_mlp import CifarMLPSpace


def main(runs: str = "runs") -> Run:
    """Go it, in less than a minute."""
    study = Search(
        name="example-library",
        space=CifarMLPSpace(channels=((4, 8),), blocks=(1,), partitions=(4, 8), groups=(1, 2, 4), head=16),
        data=Mnist5k(size=8, train_images=800, pad=1),
        training=Recipe(epochs=2, batch=25, learning_rate=0.05),
        measure={"default": Point(batch=8, seconds=0.02)},
        trials=4,
        resources=Resources(backend="local", concurrent=1),
        runs=runs,
    )
    print(sample(study, 5))  # candidates with their costs, before anything is trained

    found = run(study)  # the same call goes on with a run that was stopped
    print(found.front(), found.trials.dtypes, sep="\n")  # frames of pandas
    found.figure(Path(runs) / "front.pdf")

    final = run(found.pick("knee", min_throughput=1).study(seeds=2))
    print(final.export(Path(runs) / "exported", ["safetensors"]))

    model = final.load(best=True)  # converted, in eval mode; `repmlp.load` opens the exported one
    print(model(torch.zeros(1, 1, 8, 8)).shape)
    return final


if __name__ == "__main__":
    main()
