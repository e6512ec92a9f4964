"""What runs a network at a measurement point: PyTorch in several ways, runtimes of exported files, or a program.

A runtime of one's own is `my_package.module:Name`, a class derived from `Runtime`.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from record.measure import Point
from record.plugins import located

RUNTIMES = {
    "torch": "search.measuring.runtimes.pytorch:Eager",
    "torch-compiled": "search.measuring.runtimes.pytorch:Compiled",
    "cuda-graph": "search.measuring.runtimes.pytorch:Graph",
    "onnx": "search.measuring.runtimes.onnx:OnnxRuntime",
    "openvino": "search.measuring.runtimes.openvino:OpenVino",
    "tensorrt": "search.measuring.runtimes.onnx:TensorRT",
    "command": "search.measuring.runtimes.command:Command",
}
"""Where the class of each is."""


class MeasureError(RuntimeError):
    """A network that cannot be measured as the study wants."""


@dataclass(frozen=True)
class Turn:
    """Seconds of some batches that were run one after the other."""

    blocks: list[float]
    """Mean seconds of a batch, of one block or more."""
    each: list[float]
    """Seconds of each batch by itself; empty where they were not timed so."""


class Runner:
    """A network that is ready to run on its images.

    Args:
        run: one forward pass, over when it returns.
    """

    turns = 10
    """How often it runs in turn with the reference network, at least."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def turn(self, calls: int) -> Turn:
        """Run so many batches."""
        each = self.singly(calls)
        return Turn([sum(each) / calls], each)

    def singly(self, calls: int) -> list[float]:
        """Run so many batches, and return the seconds of each."""
        run, clock, found = self.run, time.perf_counter, []
        with no_collection():
            for _ in range(calls):
                start = clock()
                run()
                found.append(clock() - start)
        return found

    def launched(self) -> float | None:
        """Return the seconds of a batch whose operators the host launches one by one; None if that is no question."""
        return None


class Queued(Runner):
    """A network whose forward passes a GPU queues."""

    def __init__(self, run: Callable[[], object], eager: Callable[[], object] | None = None) -> None:
        super().__init__(run)
        self.eager = eager

    def turn(self, calls: int) -> Turn:
        return Turn([self.together(self.run, calls) / calls], [])

    def singly(self, calls: int) -> list[float]:
        return [self.together(self.run, 1) for _ in range(calls)]

    def launched(self) -> float | None:
        return None if self.eager is None else self.together(self.eager, 10) / 10

    def together(self, run: Callable[[], object], calls: int) -> float:
        """Return the seconds of so many batches, queued at once."""
        with no_collection():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(calls):
                run()
            torch.cuda.synchronize()
            return time.perf_counter() - start


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python from collecting garbage while something is timed."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@dataclass(frozen=True)
class Subject:
    """A network at a measurement point, as a runtime takes it, with what is made of it only where it is wanted."""

    model: nn.Module
    """Converted; a runtime may move it."""
    shape: tuple[int, int, int]
    """(C, H, W) of the images."""
    point: Point
    """With a definite device and runtime."""
    folder: Path
    """For its files."""
    alone: Callable[[], AbstractContextManager[None]] = nullcontext
    """Makes the context in which nobody else uses the device."""

    @cached_property
    def runtime(self) -> "Runtime":
        return named(self.point.runtime)()

    @cached_property
    def images(self) -> Tensor:
        """A batch of random images, `(N, C, H, W)`, float32 on the CPU; the same for all networks."""
        return torch.randn(self.point.batch, *self.shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def file(self) -> Path:
        """The file that the runtime reads, or would be deployed with."""
        return self.runtime.written(self)

    @cached_property
    def runner(self) -> Runner:
        """The network, ready to run."""
        return self.runtime.prepared(self)


class Runtime:
    """One way of running a network."""

    reads: ClassVar[str] = ""
    """The package that runs the network's file; empty for PyTorch's module."""

    def prepared(self, subject: Subject) -> Runner:
        """Return the network ready to run, warm.

        Raises:
            MeasureError: if it cannot be run like that, or not here.
        """
        raise NotImplementedError

    def written(self, subject: Subject) -> Path:
        """Write the file that the network is deployed with, into the subject's folder.

        Raises:
            MeasureError: if there is none.
        """
        raise MeasureError(f"runtime {subject.point.runtime} has no file")


def named(name: str) -> type[Runtime]:
    """Return a runtime by its name or, one's own, as `my_package.module:Name`.

    Raises:
        ValueError: naming those that are known, if there is none.
    """
    if name not in RUNTIMES and ":" not in name:
        raise ValueError(f"runtime={name} must be one of auto, {', '.join(RUNTIMES)}, or my_package.module:Name")
    found = located(RUNTIMES.get(name, name))
    if not (isinstance(found, type) and issubclass(found, Runtime)):
        raise ValueError(f"{name} must be a class derived from search.measuring.runtimes.Runtime")
    return found
