"""Worlds to hurt: a small study, a storage and a backend, in a folder of their own, driven by the command."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from benchmarks.engine.stopping import alive, below
from record.run import Run, RunError, open_run

ROOT = Path(__file__).parents[2]
POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
Shape = Literal["full", "halving", "comparison"]
Storage = Literal["journal", "sqlite", "postgresql", "s3", "small_disk"]
Backend = Literal["local", "ray"]
AGENTS = "Agent", "dashboard/agent", "runtime_env/agent"
"""In the names of Ray's own helpers."""

DATA = {"name": "mnist5k", "size": 8, "train_images": 400, "validation": 0.25, "pad": 1}
REPMLP = {"stage1.channels": 8, "stage1.kind": "repmlp", "stage1.partition": 8}
STARTS = [
    {"stage1.channels": 4, "stage1.kind": "conv"},
    {"stage1.channels": 8, "stage1.kind": "conv"},
    *({**REPMLP, "stage1.groups": g, "stage1.kernels": k} for g in (1, 2) for k in ("()", "(1, 3)")),
]
SPACE = {"name": "cifar_mlp", "channels": [[4, 8]], "blocks": [1], "partitions": [4, 8], "groups": [1, 2]}
BLOCK = {"kind": "repmlp", "partition": 4, "groups": 2, "kernels": [1, 3]}
SHAPES: dict[Shape, dict[str, Any]] = {
    "full": {"halving": None},
    "halving": {"halving": {"first_rung": 1, "factor": 2}},
    "comparison": {
        "seeds": 2,
        "space": {
            "name": "ablation",
            "base": {"kind": "cifar", "head": 16, "stages": [{"channels": 8, "blocks": 1, "block": BLOCK}]},
            "variants": {"w/o Local": "without_local"},
        },
    },
}


def study_of(shape: Shape) -> dict[str, Any]:
    """Return a study whose networks are all listed, so that what becomes of each is known."""
    searched = {
        "space": {**SPACE, "kernels": [[], [1, 3]], "reductions": [1], "head": 16},
        "sampler": "random",
        "start_with": STARTS,
        "trials": len(STARTS),
    }
    return {
        "name": "hurt",
        "data": DATA,
        "training": {"epochs": 20, "batch": 25, "precision": "float32"},
        "objectives": ["accuracy", "macs"],
        **(searched if shape != "comparison" else {}),
        **SHAPES[shape],
    }


@dataclass
class World:
    """A study that is run by the command, as often as it takes.

    Args:
        folder: of everything, empty.
        chance: of the moments.
    """

    folder: Path
    shape: Shape
    storage: Storage
    backend: Backend
    chance: random.Random
    environment: dict[str, str] = field(default_factory=dict)
    url: str | None = None
    runs: str = ""
    server: Any = None
    """The database or the object storage."""
    driver: "subprocess.Popen[bytes] | None" = None
    trained_by: list[int] = field(default_factory=list)
    """Processes below the driver, when it was last looked."""

    def __post_init__(self) -> None:
        self.runs = self.runs or str(self.folder / "runs")
        (self.folder / "tmp").mkdir()
        (self.folder / "hurt.yaml").write_text(yaml.safe_dump(study_of(self.shape)))

    @property
    def run(self) -> str:
        """As commands are given it."""
        return f"{self.url}#hurt" if self.url else f"{self.runs}/hurt"

    @property
    def local(self) -> Path:
        """What is on this machine of the run."""
        return self.folder / "runs" / "hurt"

    @property
    def log(self) -> str:
        """What the last driver said."""
        path = self.folder / "driver.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, log: str = "driver.log") -> "subprocess.Popen[bytes]":
        """Start the command."""
        concurrent = 1 if self.shape == "halving" else 2
        resources = f"resources={{backend: {self.backend}, concurrent: {concurrent}}}"
        given = [str(self.folder / "hurt.yaml"), f"runs={self.runs}", resources]
        temporary = {"TMPDIR": str(self.folder / "tmp"), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
        with (self.folder / log).open("wb") as output:
            return subprocess.Popen(
                [sys.executable, ROOT / "run_search.py", *given, *([f"storage={self.url}"] if self.url else [])],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=os.environ | temporary | self.environment,
                start_new_session=True,
                preexec_fn=hears_hangups,
            )

    def begin(self) -> bool:
        """Start the driver and wait for a moment of its work; returns whether it still works."""
        self.driver = self.start()
        while self.driver.poll() is None and "Training in" not in self.log:
            time.sleep(0.05)
        time.sleep(self.chance.uniform(0, 10 if self.backend == "ray" else 3))
        self.trained_by = below(self.driver.pid)
        return self.driver.poll() is None

    def end(self, seconds: float = 120) -> int | None:
        """Wait for the driver, and return its exit code; None if it hangs and was killed."""
        assert self.driver is not None
        self.trained_by += below(self.driver.pid)
        try:
            return self.driver.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """Kill the driver alone."""
        assert self.driver is not None
        self.driver.kill()
        self.driver.wait()

    def orphans(self) -> list[str]:
        """Return the processes that outlived their driver by 10 s, or 30 s on Ray, and end them.

        Ray's agents, which hold nothing of a search, notice only after minutes that their raylet is gone.
        """
        names: dict[int, str] = {}
        for pid in self.trained_by:
            with suppress(OSError):
                name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if not any(agent in name for agent in AGENTS):
                    names[pid] = name[:100]
        for _ in range(300 if self.backend == "ray" else 100):
            left = [pid for pid in names if alive(pid)]
            if not left:
                return []
            time.sleep(0.1)
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return [names[pid] for pid in left]

    def read(self) -> Run | None:
        """Return the run as it is recorded; None if nothing is yet."""
        try:
            return open_run(self.run)
        except RunError:
            return None


def hears_hangups() -> None:
    """Let a process heed SIGHUP, even if this one was started by nohup and it would inherit that."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Database:
    """A PostgreSQL server of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        if os.geteuid() == 0:  # it does not run as root
            shutil.chown(folder, "postgres")
            for above in folder.parents[:-1]:
                above.chmod(above.stat().st_mode | 0o011)
        self.call("initdb", "-A", "trust", "-U", "me", "-D", "data")
        self.start()
        self.call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "me", "studies")
        self.url = f"postgresql+psycopg://me@127.0.0.1:{self.port}/studies"

    def call(self, name: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        line = [*user, str(POSTGRESQL[-1] / name), *arguments]
        subprocess.run(line, cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        self.call("pg_ctl", "-D", "data", "-o", options, "-l", "server.log", "-w", "start")

    def stop(self) -> None:
        """Stop at once, as in a crash."""
        self.call("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")


@contextmanager
def world(folder: Path, shape: Shape, storage: Storage, backend: Backend, chance: random.Random) -> Iterator[World]:
    """Make a world, with the server that it needs.

    Raises:
        OSError: if it cannot be had here.
    """
    folder.mkdir(parents=True)
    if storage == "sqlite":
        yield World(folder, shape, storage, backend, chance, url=f"sqlite:///{folder / 'study.db'}")
    elif storage == "postgresql":
        database = Database(folder / "database")
        try:
            yield World(folder, shape, storage, backend, chance, url=database.url, server=database)
        finally:
            with suppress(subprocess.CalledProcessError):
                database.stop()
    elif storage == "s3":
        with bucket() as (server, environment):
            yield World(folder, shape, storage, backend, chance, environment, runs="s3://hurt/runs", server=server)
    elif storage == "small_disk":
        disk = folder / "runs"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], check=True, capture_output=True)
        try:
            yield World(folder, shape, storage, backend, chance)
        finally:
            subprocess.run(["umount", disk], check=True)
    else:
        yield World(folder, shape, storage, backend, chance)


@contextmanager
def bucket() -> "Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]":
    """Start a local S3 server with the bucket `hurt`."""
    from s3fs import S3FileSystem

    port = free_port()
    line = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    known = {
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "mine",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    try:
        while True:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        os.environ.update(known)
        S3FileSystem.clear_instance_cache()
        S3FileSystem(skip_instance_cache=True).mkdir("hurt")
        yield server, known
    finally:
        server.kill()
        server.wait()
