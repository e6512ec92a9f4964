"""Several machines on one: an S3 server, and raylets of which one sees neither the checkout nor the run folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT

RAY = Path(sys.executable).with_name("ray")
APART = """
set -e
mkdir -p "$KEPT"
mount --bind "$VENV" "$KEPT"
for folder in $HIDDEN; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p "$VENV"
mount --bind "$KEPT" "$VENV"
cd /
exec "$@"
"""
"""For a mount namespace of its own, where what is hidden is empty, but for the interpreter and its libraries."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A local S3 server, and its URL."""
    port = free_port()
    line = [sys.executable, "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.1)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Raylets:
    """A cluster: its head here, where no trial finds room, and nodes that are like other machines."""

    def __init__(self, scratch: Path, env: Mapping[str, str], *options: str) -> None:
        self.scratch, self.env = scratch, {**os.environ, "RAY_AUTH_MODE": "disabled", **env}
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.own = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, as paths of sockets have to be
        port = self.address.rpartition(":")[2]
        self.start(
            [],
            "--head",
            f"--temp-dir={self.own}",
            f"--port={port}",
            "--include-dashboard=false",
            "--num-cpus=0",
            *options,
        )

    def add(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a node that sees nothing of the checkout and of the scratch folder."""
        known = {
            "VENV": str(Path(sys.prefix).resolve()),
            "KEPT": str(self.scratch.parent / f"venv-{len(self.nodes)}"),
            "HIDDEN": f"{ROOT} {self.scratch}",
        }
        space = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return self.start(
            [*space, "sh", "-c", APART, "sh"], f"--address={self.address}", "--num-cpus=1", *options, **known
        )

    def start(self, before: list[str], *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a raylet, and wait until it has joined."""
        with (self.scratch.parent / f"raylet-{len(self.nodes)}.log").open("wb") as log:
            node = subprocess.Popen(
                [*before, str(RAY), "start", "--block", *options],
                env={**self.env, **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)
        for _ in range(120):
            if "runtime started" in Path(log.name).read_text():
                return node
            assert node.poll() is None, Path(log.name).read_text()
            time.sleep(0.5)
        raise AssertionError(Path(log.name).read_text())

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """Let a node vanish with all its processes, as a machine that is switched off."""
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def close(self) -> None:
        for node in self.nodes[1:]:
            self.lose(node)
        self.nodes[0].terminate()  # which lets the head end its processes
        with suppress(subprocess.TimeoutExpired):
            self.nodes[0].wait(20)
        self.lose(self.nodes[0])
        shutil.rmtree(self.own, ignore_errors=True)


def needs_namespaces() -> None:
    """Skip where folders cannot be hidden."""
    tried = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    if subprocess.run(tried, capture_output=True).returncode:
        pytest.skip("namespaces cannot be made here; they need root")
