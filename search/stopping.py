"""Ctrl-C, SIGTERM and SIGHUP end a search alike: told at once, put away whole, and the same command continues."""

import atexit
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


class Stopped(KeyboardInterrupt):
    """A signal has stopped the search.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable(told: list[int]) -> Iterator[None]:
    """Let the first of the signals raise `Stopped` here, and later ones wait for what puts things away.

    One that is ignored already, such as by nohup, stays so. Threads other than the first have no say in signals.

    Args:
        told: takes the signal's number. Python drops what is raised while it removes an object, so look there, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in SIGNALS}
    heard = [n for n, handler in before.items() if handler is not signal.SIG_IGN]

    def stop(number: int, _: FrameType | None) -> None:
        told.append(number)
        for each in heard:
            signal.signal(each, signal.SIG_IGN)
        os.write(2, b"\nStopping.\n")
        raise Stopped(number)

    try:
        for number in heard:
            signal.signal(number, stop)
        yield
        if told:
            raise Stopped(told[0])
    except KeyboardInterrupt:  # Ray raises one of its own in place of ours
        raise Stopped(told[0] if told else signal.SIGINT) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(driver: int) -> None:
    """Let Linux end this process when the driver is gone, however that ended, and not only at its next report."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
        if os.getppid() != driver:  # it went before that
            os._exit(1)


def to_its_end(command: Callable[[], Any]) -> None:
    """Run a command and end the process, without the second that taking the libraries apart would take.

    What is to be done at the exit is done.
    """
    try:
        command()
    except SystemExit as ended:
        if ended.code is not None and not isinstance(ended.code, int):
            raise
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(BrokenPipeError):
                stream.flush()
        os._exit(ended.code or 0)
