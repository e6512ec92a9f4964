"""Locks between processes, released by the system if their holder dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import torch


@contextmanager
def held(path: Path, mode: int = fcntl.LOCK_EX) -> Iterator[IO[str]]:
    """Hold a lock on the file `path`.

    Raises:
        BlockingIOError: if `mode` has LOCK_NB and another process holds it.
    """
    with path.open("a") as file:
        fcntl.flock(file, mode)
        yield file


def lock_folder() -> Path:
    """Return where the locks of this machine's devices are: the same for all its users, whatever their TMPDIR.

    Containers only see each other's locks in a folder that they share; name it with REPMLP_LOCKS.
    """
    return Path(os.environ.get("REPMLP_LOCKS", "/tmp"))


def device_name(device: str) -> str:
    """Return what identifies a device to every process that uses it, however that numbers its devices.

    One that is neither "cpu" nor "cuda" is a target that commands of this machine reach.
    """
    if device.startswith("cuda"):
        return f"gpu-{torch.cuda.get_device_properties(device).uuid}"
    if device != "cpu":
        return f"target-{device}"
    boot = Path("/proc/sys/kernel/random/boot_id")  # tells machines apart that share a folder, and no containers
    return f"cpu-{boot.read_text()[:8]}" if boot.exists() else "cpu"


class DeviceLock:
    """Training shares a device; a measurement has it alone.

    A trainer holds its share over many batches, and calls `give_way` between two of them. A measurement first closes
    the gate, so that it is never starved: trainers that see the gate closed let the device finish what they have queued
    there, give their share back, and wait until the gate opens.

    Args:
        device: "cpu" or "cuda"; a GPU is the current one of this process.
        folder: of the locks; None takes `lock_folder`.
    """

    def __init__(self, device: str, folder: Path | None = None) -> None:
        self.device = device
        stem = (folder or lock_folder()) / f"repmlp-{device_name(device)}"
        self.gate, self.users = stem.with_suffix(".gate"), stem.with_suffix(".users")
        self.share: tuple[int, int] | None = None
        """Files of gate and users while this process holds a share."""
        self.waited = 0.0
        """Seconds spent waiting for measurements, not yet told by `give_way`."""

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use the device beside other trainers."""
        with opened(self.gate) as gate, opened(self.users) as users:
            self.share = gate, users
            self.enter()
            try:
                yield
            finally:
                self.leave()
                self.share = None

    def give_way(self) -> float:
        """Let a measurement that waits go first; return the seconds waited for measurements since the last call.

        Does nothing outside of `shared`. While no measurement waits, it takes two system calls.
        """
        if self.share is not None and closed(self.share[0]):
            self.leave()
            self.enter()
        waited, self.waited = self.waited, 0.0
        return waited

    def enter(self) -> None:
        """Wait until the gate is open, and take a share."""
        assert self.share is not None
        gate, users = self.share
        start = time.perf_counter()
        fcntl.flock(gate, fcntl.LOCK_SH)
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        self.waited += time.perf_counter() - start

    def leave(self) -> None:
        """Let the device finish, and give the share back."""
        assert self.share is not None
        if self.device.startswith("cuda"):
            with suppress(torch.AcceleratorError):  # of a failed step, which ends the trial by itself
                torch.cuda.synchronize(self.device)
        fcntl.flock(self.share[1], fcntl.LOCK_UN)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the device with nobody else on it."""
        with opened(self.gate) as gate, opened(self.users) as users:
            fcntl.flock(gate, fcntl.LOCK_EX)
            fcntl.flock(users, fcntl.LOCK_EX)
            try:
                yield
            finally:  # said, not left to closing: a child process may have inherited the files
                fcntl.flock(users, fcntl.LOCK_UN)
                fcntl.flock(gate, fcntl.LOCK_UN)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a lock file that all users of this machine may lock; it is made where it is missing.

    It is opened without O_CREAT first, since Linux refuses that for files of others in a sticky folder.
    """
    while True:
        with suppress(FileNotFoundError):
            file = os.open(path, os.O_RDONLY)
            break
        with suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.fchmod(made, 0o666)
            os.close(made)
    try:
        yield file
    finally:
        os.close(file)


def closed(gate: int) -> bool:
    """Whether a measurement holds the gate, or waits for it."""
    try:
        fcntl.flock(gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(gate, fcntl.LOCK_UN)
    return False
