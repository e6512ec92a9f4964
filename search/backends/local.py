"""Plain processes of this machine as the backend: no Ray, and tracebacks in the run folder's workers.log."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch

from search.backends.places import places, scratch
from search.backends.worker import Crash, Start
from search.candidate import Candidate, Job, Report
from search.engine import Engine

TRIES = 3
"""How often a trial is begun whose workers are lost."""
WORKER = """
from search.stopping import end_with_parent
end_with_parent({driver})
from search.backends.worker import main
main({socket})
"""
"""What a worker runs: bound to its driver before it imports, which takes seconds."""
LOST = suppress(BrokenPipeError, ConnectionResetError)
"""That an order does not reach a worker that is gone is heard as its end is."""


def run(engine: Engine, candidate: type[Candidate] = Candidate) -> None:
    """Run the engine to its end; Ctrl-C ends its workers, with the trials under way left to continue.

    A trial whose worker dies is begun anew up to twice, and resumes from its checkpoint.

    Args:
        engine: gives the tasks, and hears what came of them.
        candidate: what a worker makes of a job; importable by name.

    Raises:
        StudyError: if this machine can never offer what a trial asks for.
    """
    resources = engine.study.resources
    gpus = visible_gpus() if resources.gpus else []
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    offered = {"CPU": cpus, "GPU": len(gpus)}
    engine.places = min(engine.places, places(resources, offered, "this machine"))
    log = engine.study.local / "workers.log"
    with scratch(engine.study) as folder:
        driver = Driver(engine, candidate, gpus, log, folder)
        try:
            driver.drive()
        finally:
            driver.close()


def visible_gpus() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


class Driver:
    """Hands the engine's tasks to workers, and their reports to the engine."""

    def __init__(self, engine: Engine, candidate: type[Candidate], gpus: Sequence[str], log: Path, scratch: Path):
        self.engine, self.candidate, self.log, self.scratch = engine, candidate, log, scratch
        self.free = dict.fromkeys(gpus, 1.0)
        """What is left of each GPU."""
        self.busy: list[Crew] = []
        self.idle: list[Crew] = []
        self.held: Job | None = None
        """A task that waits for room on a GPU, as it wants more than its share after it ran out of memory."""
        self.tries: dict[int, int] = {}
        """How often the workers of a trial were lost."""

    def drive(self) -> None:
        """Work until the engine has finished."""
        while True:
            while (job := self.held or self.engine.next()) not in ("wait", "finished"):
                assert isinstance(job, Job)
                self.held = None if self.begin(job) else job
                if self.held:
                    break
            if not self.busy:
                return
            self.engine.prepare()
            for ready in cast(list[Connection], wait([link for crew in self.busy for link in crew.links])):
                crew = next((c for c in self.busy if ready in c.links), None)
                if crew is not None:  # else it ended by what another of its workers said
                    self.hear(crew, ready)

    def begin(self, job: Job) -> bool:
        """Start a job, best where it was paused, else on another crew that is there or a new one.

        Returns:
            False if there is no room for it now on the GPUs.
        """
        size = job.workers if job.trains else 1
        gpus = room(self.free, job.gpus, size)
        if gpus is None:
            return False
        fitting = [c for c in self.idle if (c.size, c.gpus) == (size, gpus)]
        crew = next((c for c in fitting if c.job and c.job.number == job.number), fitting[0] if fitting else None)
        if crew is not None:
            self.idle.remove(crew)
        else:
            if self.idle and len(self.idle) + len(self.busy) >= self.engine.places:
                self.idle.pop(0).close()
            crew = Crew(size, gpus, job.threads, self.log)
        for gpu in gpus:
            self.free[gpu] -= job.gpus
        self.busy.append(crew)
        crew.begin(job, self.candidate, self.scratch)
        return True

    def hear(self, crew: "Crew", link: Connection) -> None:
        """Take what a worker says: a report of the first one, or of any that failed."""
        report = crew.hear(link)
        if report is None:
            return
        job = crew.job
        assert job is not None
        if isinstance(report, Crash):
            self.dismiss(crew, lost=True)
            self.tries[job.number] = self.tries.get(job.number, 0) + 1
            if self.tries[job.number] < TRIES:
                self.engine.again(job.number)
            else:
                self.engine.fail(job.number, report.reason)
        elif self.engine.report(job.number, report) == "continue":
            crew.go_on()
        else:
            self.dismiss(crew, lost=report.failure is not None and crew.size > 1)

    def dismiss(self, crew: "Crew", lost: bool) -> None:
        """Take a crew off its job; one that lost a worker ends."""
        assert crew.job is not None
        self.busy.remove(crew)
        for gpu in crew.gpus:
            self.free[gpu] += crew.job.gpus
        if lost:
            crew.close()
        else:
            self.idle.append(crew)

    def close(self) -> None:
        """End all workers."""
        for crew in [*self.busy, *self.idle]:
            crew.close()


def room(free: Mapping[str, float], share: float, workers: int) -> list[str] | None:
    """Return a GPU for each worker, those with the most left; none if they want none, None if there is no room."""
    if not share:
        return []
    fitting = sorted((g for g in free if free[g] >= share - 1e-9), key=lambda g: -free[g])
    return fitting[:workers] if len(fitting) >= workers else None


class Crew:
    """The process, or the processes of a data-parallel group, that work on one job at a time.

    A failure of any ends the job with its reason at once: the others may wait for it in a collective, and are ended.
    """

    def __init__(self, size: int, gpus: Sequence[str], threads: int, log: Path) -> None:
        self.size, self.gpus = size, list(gpus)
        self.job: Job | None = None
        self.answered: dict[Connection, Any] = {}
        """What each worker has answered to the last order."""
        self.asked: list[Connection] = []
        self.links: list[Connection] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank in range(size):
            link, process = spawned(self.gpus[rank] if self.gpus else None, threads, log)
            self.links.append(link)
            self.processes.append(process)

    def begin(self, job: Job, candidate: type[Candidate], scratch: Path) -> None:
        """Give the crew a job; at first only the first worker is wanted if the network is to be measured."""
        self.job = job
        meeting = str(scratch / f"meeting-{id(self)}-{job.number}") if self.size > 1 else ""
        for rank, link in enumerate(self.links):
            with LOST:
                link.send(Start(job, candidate, rank, meeting))
        self.order(self.links[:1] if job.measure else self.links)

    def go_on(self) -> None:
        """Let all take the next step."""
        self.order(self.links)

    def order(self, links: Sequence[Connection]) -> None:
        self.asked, self.answered = list(links), {}
        for link in links:
            with LOST:
                link.send(True)

    def hear(self, link: Connection) -> Report | Crash | None:
        """Return what ends the step: a failure of any worker, or the first one's report once all have answered."""
        try:
            answer = link.recv()
        except (EOFError, ConnectionResetError):
            code = self.processes[self.links.index(link)].wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return Crash(f"its worker {how}")
        self.answered[link] = answer
        if isinstance(answer, Crash) or answer.failure is not None:
            return answer
        return self.answered[self.links[0]] if len(self.answered) == len(self.asked) else None

    def close(self) -> None:
        """End the processes."""
        for link, process in zip(self.links, self.processes, strict=True):
            link.close()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that load its data
        for process in self.processes:
            process.wait()


def spawned(gpu: str | None, threads: int, log: Path) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start a worker of so many threads that sees one GPU, if any; its output goes to the log."""
    ours, theirs = socket.socketpair()
    seen = {"OMP_NUM_THREADS": str(threads), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})}
    path = {"PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)}
    with log.open("ab") as output, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER.format(driver=os.getpid(), socket=theirs.fileno())],
            env=os.environ | seen | path,
            pass_fds=[theirs.fileno()],
            process_group=0,  # Ctrl-C in a terminal is the driver's to hear
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Connection(ours.detach()), process
