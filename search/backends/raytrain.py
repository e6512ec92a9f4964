"""Ray Train: a candidate trained data-parallel by several workers, each with a device of its own."""

import queue
import tempfile
import threading
import traceback
from dataclasses import replace
from typing import Any

import torch.distributed as dist
from ray import train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Empty, Queue

from search.candidate import Candidate, Job, Report


class Team:
    """Runs one job on `job.workers` Ray Train workers, a report at a time, as `Candidate` does alone.

    The first worker measures, evaluates and converts, and after each report all wait until the next one is wanted.
    """

    def __init__(self, job: Job, candidate: type[Candidate] = Candidate) -> None:
        self.reports: Any = Queue(actor_options={"num_cpus": 0})
        self.wanted: Any = Queue(actor_options={"num_cpus": 0})
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.fit, args=(job, candidate), daemon=True)
        self.thread.start()

    def fit(self, job: Job, candidate: type[Candidate]) -> None:
        """Let Ray Train run the workers to their end."""
        gpus = {"GPU": job.gpus} if job.gpus else {}
        with tempfile.TemporaryDirectory(prefix="repmlp-train-") as scratch:
            try:
                TorchTrainer(
                    work,
                    train_loop_config={
                        "job": job,
                        "candidate": candidate,
                        "reports": self.reports,
                        "wanted": self.wanted,
                    },
                    scaling_config=ScalingConfig(
                        num_workers=job.workers,
                        use_gpu=bool(job.gpus),
                        resources_per_worker={"CPU": job.threads, **gpus},
                    ),
                    run_config=RunConfig(storage_path=scratch),
                ).fit()
            except Exception as error:
                self.error = error

    def advance(self) -> Report:
        """Ask for the next report and wait for it.

        Raises:
            RuntimeError: if a worker raised what nobody expects, or the workers were lost.
        """
        self.wanted.put(True)
        while True:
            alive = self.thread.is_alive()
            try:
                said = self.reports.get(timeout=1)
                if isinstance(said, str):
                    raise RuntimeError(said)
                return said
            except (Empty, queue.Empty):
                if not alive:
                    raise RuntimeError(f"the data-parallel workers ended without a result: {self.error}") from None

    def close(self) -> None:
        """Let the workers end, and wait for them."""
        self.wanted.put(False)
        self.thread.join()
        for channel in (self.reports, self.wanted):
            channel.shutdown()


class GroupFailedError(RuntimeError):
    """Ends a group: Ray Train ends the workers that wait for this one in a collective."""


def work(config: dict[str, Any]) -> None:
    """Run a job's share on one worker of the group.

    Raises:
        GroupFailedError: if the trial fails on this worker, after its reason is reported.
    """
    context = train.get_context()
    rank, number = context.get_world_rank(), context.get_world_size()
    job: Job = config["job"]
    candidate = config["candidate"](job if rank == 0 else replace(job, measure={}), (rank, number))
    while True:
        measures = bool(candidate.unmeasured)
        order: list[Any] = [(config["wanted"].get(), measures) if rank == 0 else None]
        dist.broadcast_object_list(order)
        wanted, first_measures = order[0]
        if not wanted:
            return
        if rank == 0 or not first_measures:
            try:
                report = candidate.advance()
            except Exception as error:
                config["reports"].put(traceback.format_exception_only(error)[-1].strip())
                raise
            if rank == 0 or report.failure is not None:
                config["reports"].put(report)
            if report.failure is not None:
                raise GroupFailedError(report.failure)
