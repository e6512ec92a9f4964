"""Who runs the engine's tasks: Ray, on this machine or a cluster, or plain processes of this machine."""

from typing import TYPE_CHECKING

from search.candidate import Candidate

if TYPE_CHECKING:  # a worker imports this package, and needs no engine
    from search.engine import Engine


def run(engine: "Engine", candidate: type[Candidate] = Candidate) -> None:
    """Run the engine to its end on the backend that its study names, which alone is imported.

    After Ctrl-C the trials under way are left to continue.

    Args:
        engine: gives the tasks, and hears what came of them.
        candidate: what a worker makes of a job; importable by name.

    Raises:
        StudyError: if the machine or the cluster can never offer what a trial asks for.
    """
    if engine.study.resources.backend == "local":
        from search.backends import local

        local.run(engine, candidate)
    else:
        from search.backends import raytune

        raytune.run(engine, candidate)
