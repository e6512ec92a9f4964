"""One driver a study, wherever its storage is: a lease in the storage, beaten while its holder lives.

A local run folder has a lock of the system; databases and folders elsewhere have none that ends with its holder. No two
clocks are compared: a lease whose beats stop for `PATIENCE` seconds of the newcomer's own clock is taken over; at once
where its holder was a process of this machine that is gone.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import optuna

from record.folders import opened, whole
from record.study import StudyError

BEAT = 5.0
"""Seconds between two beats."""
PATIENCE = 20.0
"""Seconds without a beat after which a holder counts as gone; it writes nothing more without asking by then."""
SETTLING = 0.2
"""Seconds in which a newcomer at the same moment shows."""
KEY = "driver"

Claim = Mapping[str, Any]
"""Holder (a word drawn by chance), its place and process, and beats."""


class Place(Protocol):
    """Where a claim is kept."""

    def read(self) -> Claim: ...

    def write(self, claim: Claim) -> None: ...


@dataclass(frozen=True)
class InStudy:
    """With the study in Optuna's storage, where dashboards show it too."""

    study: optuna.Study

    def read(self) -> Claim:
        return self.study.user_attrs.get(KEY) or {}

    def write(self, claim: Claim) -> None:
        self.study.set_user_attr(KEY, dict(claim))


@dataclass(frozen=True)
class InFolder:
    """A file of a folder elsewhere."""

    path: Path

    def read(self) -> Claim:
        with suppress(FileNotFoundError), opened(self.path) as file:
            return json.load(file)
        return {}

    def write(self, claim: Claim) -> None:
        with whole(self.path) as part:
            part.write_text(json.dumps(claim))


class Lease:
    """The right to be a study's driver.

    Args:
        place: where claims are kept.
        name: of the study, for errors.
    """

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name
        self.mine = {"holder": uuid4().hex, "machine": machine(), "host": socket.gethostname(), **process(os.getpid())}
        self.beats = 0
        self.last = time.monotonic()
        """When the claim was last seen to be this one."""
        self.ended = threading.Event()
        self.reading = threading.Lock()

    def take(self) -> None:
        """Take the lease, once whoever holds it shows no life.

        Raises:
            StudyError: if somebody does.
        """
        found = self.place.read()
        if found and not gone(found):
            start = time.monotonic()
            while time.monotonic() - start < PATIENCE:
                time.sleep(BEAT / 5)
                now = self.place.read()
                if now != found:
                    if not now:
                        break
                    self.refuse(now)
        self.beat()
        time.sleep(SETTLING)
        now = self.place.read()
        if now.get("holder") != self.mine["holder"]:
            self.refuse(now)

    def refuse(self, claim: Claim) -> None:
        """Raise StudyError, saying who holds the lease."""
        who = f"process {claim.get('pid')} of {claim.get('host')}"
        raise StudyError(f"{self.name} is being run by {who}; wait for it, or set name=NEW.")

    def beat(self) -> None:
        """Write the claim, one beat older."""
        self.beats += 1
        self.place.write({**self.mine, "beats": self.beats})
        self.last = time.monotonic()

    def lost(self) -> str:
        """Return, in a sentence, why this process is the driver no longer, if it is not.

        The storage is only asked where that has not been seen for long, such as after the machine slept.
        """
        if time.monotonic() - self.last < PATIENCE / 2 and not self.ended.is_set():
            return ""
        with self.reading:
            now = self.place.read()
            if now.get("holder") == self.mine["holder"]:
                self.beat()
                return ""
        self.ended.set()
        return f"{self.name} was taken over by process {now.get('pid')} of {now.get('host')}, as this one had stopped."

    def live(self) -> None:
        """Beat until the end; a storage that does not answer is its user's to notice."""
        while not self.ended.wait(BEAT):
            with suppress(Exception), self.reading:
                if self.place.read().get("holder") != self.mine["holder"]:
                    self.ended.set()
                else:
                    self.beat()

    def give_back(self) -> None:
        """Let the next driver begin at once."""
        self.ended.set()
        with suppress(Exception), self.reading:  # a storage that is gone is told by whoever uses it
            if self.place.read().get("holder") == self.mine["holder"]:
                self.place.write({})


@contextmanager
def leased(place: Place, name: str) -> Iterator[Callable[[], str]]:
    """Be the only driver of a study; gives what tells, in a sentence, why that is no longer so.

    Raises:
        StudyError: if another one lives.
    """
    lease = Lease(place, name)
    lease.take()
    threading.Thread(target=lease.live, daemon=True).start()
    try:
        yield lease.lost
    finally:
        lease.give_back()


def machine() -> str:
    """Return what tells apart the spaces in which numbers of processes mean the same; empty if that is not known."""
    with suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def process(pid: int) -> dict[str, Any]:
    """Return what tells a process from a later one of the same number."""
    with suppress(OSError):
        since = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return {"pid": pid, "since": since}
    return {"pid": pid, "since": ""}


def gone(claim: Claim) -> bool:
    """Whether the holder of a claim was a process of this machine that is no more."""
    known = claim.get("machine") and claim.get("machine") == machine()
    return bool(known) and process(int(claim.get("pid", 0))) != {key: claim.get(key) for key in ("pid", "since")}
