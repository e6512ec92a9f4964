"""Locks between processes, released by the system if their holder dies."""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import IO


@contextmanager
def held(path: Path, mode: int = fcntl.LOCK_EX) -> Iterator[IO[str]]:
    """Hold a lock on the file `path`.

    Raises:
        BlockingIOError: if `mode` has LOCK_NB and another process holds it.
    """
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield file


class DeviceLock:
    """Training shares a device batch by batch; a measurement has it alone.

    A measurement first closes the gate, so that batches begun later wait and it is never starved.
    """

    def __init__(self, device: str) -> None:
        stem = f"repmlp-{getuser()}-{device.replace(':', '')}"
        self.gate, self.users = (Path(tempfile.gettempdir()) / f"{stem}.{part}" for part in ("gate", "users"))

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use the device beside other trainers."""
        with self.users.open("a") as users:
            with held(self.gate):
                fcntl.flock(users, fcntl.LOCK_SH)
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the device with nobody else on it."""
        with held(self.gate), held(self.users):
            yield
