"""How many trials find a place at once, and where a driver keeps what lasts no longer than it."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from record.resources import Resources
from record.study import Study, StudyError


@contextmanager
def scratch(study: Study) -> Iterator[Path]:
    """Give an empty folder in the run folder, so that the next driver removes what one that was killed has left."""
    path = study.local.resolve() / "scratch"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def places(resources: Resources, offered: Mapping[str, float], where: str) -> int:
    """Return how many trials can run at once.

    Args:
        resources: of each trial.
        offered: "CPU" and "GPU", and custom resources, to how much of it there is in all.
        where: who offers them, as errors call it, such as "Ray".

    Raises:
        StudyError: if there is no place for even one.
    """
    for name, wanted in resources.measure_on.items():
        if wanted > offered.get(name, 0):
            raise StudyError(
                f"resources.measure_on asks for {name}={wanted:g}, but {where}'s nodes have {offered.get(name, 0):g}; "
                f"start the one that measures with ray start --resources='{{\"{name}\": {wanted:g}}}'."
            )
    measuring = 1 if resources.measure_on and resources.gpus else 0
    held = []
    for name, kind, wanted, apart in (("cpus", "CPU", resources.cpus, 0), ("gpus", "GPU", resources.gpus, measuring)):
        there = offered.get(kind, 0) - apart
        if wanted * resources.workers > there:
            each = f" for each of {resources.workers} workers" if resources.workers > 1 else " for a trial"
            beside = " beside the one that measures" if apart else ""
            alone = kind == "GPU" and resources.workers > 1  # workers do not share a GPU
            fitting = "resources.workers=1" if alone else f"resources.{name}={max(there, 0) / resources.workers:g}"
            raise StudyError(
                f"resources.{name}={wanted:g}{each}, but {where} offers {max(there, 0):g} {kind}s{beside}; "
                f"ask for no more, such as {fitting}."
            )
        if wanted:
            whole = int(1 / wanted + 1e-9) * int(there) if wanted < 1 and kind == "GPU" else int(there / wanted)
            held.append(whole // resources.workers)
    return min(held)
