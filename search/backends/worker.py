"""A worker of the local backend, which works off what comes through a socket."""

import os
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch.distributed as dist

from search.candidate import Candidate, Job, Report


@dataclass(frozen=True)
class Start:
    """The order to begin a job, as a worker of a group or alone."""

    job: Job
    candidate: type[Candidate]
    rank: int = 0
    meeting: str = ""
    """File at which a group's workers find each other."""


@dataclass(frozen=True)
class Crash:
    """What ended a worker, in a line."""

    reason: str


def serve(connection: Connection) -> None:
    """Obey orders until the driver closes its end: `Start`, answered by nothing, and True, answered by a report."""
    candidate: Candidate | None = None
    while True:
        try:
            order = connection.recv()
        except EOFError:
            return
        try:
            if isinstance(order, Start):
                candidate = begun(order, candidate)
                continue
            assert candidate is not None
            answer: Report | Crash = candidate.advance()
        except Exception as error:
            answer = Crash(traceback.format_exception_only(error)[-1].strip())
            traceback.print_exc()
        connection.send(answer)
        if isinstance(answer, Crash):
            return


def begun(order: Start, before: Candidate | None) -> Candidate:
    """Return the candidate of a job: the one that this worker paused, or a new one."""
    job = order.job
    if before is not None and before.goes_on_with(job):
        return before
    if job.workers == 1:
        return order.candidate(job)
    if not dist.is_initialized():
        backend = "gloo" if job.device == "cpu" else "nccl"
        dist.init_process_group(backend, f"file://{order.meeting}", world_size=job.workers, rank=order.rank)
    return order.candidate(job if order.rank == 0 else replace(job, measure={}), (order.rank, job.workers))


def main(socket: int) -> NoReturn:
    """Serve on an inherited socket, and end."""
    connection: Any = Connection(socket)
    with suppress(BrokenPipeError):  # the driver is gone
        serve(connection)
    os._exit(0)  # at once: the end of a process group would wait for its peers, which may be gone
