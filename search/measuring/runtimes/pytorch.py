"""PyTorch's module: operator by operator, compiled, or replayed as one CUDA graph."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from search.measuring.runtimes import MeasureError, Queued, Runner, Runtime, Subject


class Eager(Runtime):
    """Operator by operator, as Python launches them."""

    def prepared(self, subject: Subject) -> Runner:
        run = self.warm(subject)
        return Queued(run) if subject.point.device == "cuda" else Runner(run)

    def warm(self, subject: Subject) -> Callable[[], object]:
        """Return the forward pass, run twice."""
        point = subject.point
        dtype = getattr(torch, point.dtype)
        network = subject.model.to(device=point.device, dtype=dtype).eval()
        images = subject.images.to(device=point.device, dtype=dtype)
        if point.channels_last:
            network = network.to(memory_format=torch.channels_last)
            images = images.to(memory_format=torch.channels_last)
        run = partial(self.made(network, images), images)
        for _ in range(2):
            run()
        return run

    def made(self, network: nn.Module, images: torch.Tensor) -> Callable[[torch.Tensor], object]:
        """Return what runs the network on such images."""
        return network

    def written(self, subject: Subject) -> Path:
        path, dtype = subject.folder / "model.safetensors", getattr(torch, subject.point.dtype)
        weights = {name: value.to(dtype).contiguous().cpu() for name, value in subject.model.state_dict().items()}
        save_file(weights, path)
        return path


class Graph(Eager):
    """Replays of one CUDA graph."""

    def prepared(self, subject: Subject) -> Runner:
        if subject.point.device != "cuda":
            raise MeasureError("runtime=cuda-graph needs a GPU; use torch or torch-compiled here.")
        eager = self.warm(subject)
        return Queued(captured(eager), eager)


class Compiled(Eager):
    """By torch.compile, whole; on a GPU replayed as one CUDA graph.

    Dynamo forgets what it compiled before: beyond eight networks of a process it would silently compile no more.
    """

    def prepared(self, subject: Subject) -> Runner:
        run = self.warm(subject)
        return Queued(captured(run), run) if subject.point.device == "cuda" else Runner(run)

    def made(self, network: nn.Module, images: torch.Tensor) -> Callable[[torch.Tensor], object]:
        """Return the compiled network.

        Raises:
            MeasureError: if it is not compiled, or not in one piece.
        """
        from torch._dynamo.utils import counters

        torch._dynamo.reset()
        before = counters["stats"]["unique_graphs"]
        run = torch.compile(network, fullgraph=True, dynamic=False)
        try:
            run(images)
        except Exception as error:  # whatever Dynamo, Inductor or a C++ compiler has to say
            said = str(error).strip().splitlines()[0]
            raise MeasureError(f"runtime=torch-compiled: torch.compile fails: {said}") from error
        if counters["stats"]["unique_graphs"] == before:
            raise MeasureError("runtime=torch-compiled: torch.compile left the network as it was; use torch.")
        return run


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """Return the replay of a forward pass, already warm, as one CUDA graph.

    Raises:
        MeasureError: if it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise MeasureError(f"the network cannot be captured as a CUDA graph: {said}; use runtime=torch.") from error
    graph.replay()
    return graph.replay
