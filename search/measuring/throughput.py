"""Throughput of a converted network beside a reference network."""

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from timeit import Timer
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from record.measure import MeasureConfig, Throughput
from search.measuring.switches import switches

REPEATS = 3
"""How often a measurement is tried until it is steady."""
HOST_BOUND = 1.2
"""A network whose operators take so many times as long when they are launched one by one is held up by the host."""


class MeasureError(RuntimeError):
    """A network that cannot be measured as the study wants."""


def measure(
    model: nn.Module,
    shape: tuple[int, int, int],
    config: MeasureConfig,
    device: str,
    reference: nn.Module | None = None,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Throughput:
    """Time forward passes of `model`, already converted, in turn with those of `reference`.

    At least ten timed samples follow an uncounted warm-up; the median resists a passing disturbance, which the spread
    from p10 to p90 shows. The ratio of the two, sample by sample, resists a lasting one too. Every switch of PyTorch
    that matters is set, and restored in the end, so that it does not count what the process did before.

    Args:
        model: a converted network; it is moved to the dtype, layout and device of the measurement.
        shape: (C, H, W) of the images.
        config: the conditions.
        device: "cpu" or "cuda".
        reference: another one, for the same images.
        alone: makes the context in which nobody else uses the device. Compilation, warm-up and whatever they allocate
            come before.

    Raises:
        MeasureError: if a network cannot be compiled whole, or its operators cannot be captured as a CUDA graph.
    """
    images = torch.randn(config.batch, *shape, device=device, dtype=getattr(torch, config.dtype))
    if config.channels_last:
        images = images.to(memory_format=torch.channels_last)
    networks = [network for network in (model, reference) if network is not None]
    graph = config.graph and device.startswith("cuda")
    found: list[Throughput] = []
    with torch.inference_mode(), switches(config.tf32, config.threads):
        passes = forward_passes(networks, images, config)
        runs = [captured(run) for run in passes] if graph else passes
        timers = [timer(run, device) for run in runs]
        with alone():
            calls = [max(1, int(config.seconds / 20 / (t.timeit(2) / 2))) for t in timers]
            while len(found) < REPEATS and not (found and found[-1].spread <= config.spread):
                found.append(sampled(timers, calls, config, device))
            best = min(found, key=lambda f: f.spread)
            launched = timer(passes[0], device).timeit(10) / 10 if graph else None
            state = clocks(device)
    return replace(
        best,
        repeats=len(found),
        steady=best.spread <= config.spread,
        clocks=state,
        graph=graph,
        host_bound=None if launched is None else launched * best.median > HOST_BOUND * config.batch,
    )


def forward_passes(networks: list[nn.Module], images: Tensor, config: MeasureConfig) -> list[Callable[[], object]]:
    """Return each network's forward pass on `images`, compiled if so configured, and run twice.

    Dynamo forgets what it compiled before: beyond eight networks of a process it would silently compile no more.

    Raises:
        MeasureError: if one is not compiled whole.
    """
    if config.compiled:
        torch._dynamo.reset()
    passes: list[Callable[[], object]] = []
    for network in networks:
        network = network.to(device=images.device, dtype=images.dtype).eval()
        if config.channels_last:
            network = network.to(memory_format=torch.channels_last)
        run = whole(network, images) if config.compiled else network
        passes.append(partial(run, images))
        for _ in range(2):
            passes[-1]()
    return passes


def whole(network: nn.Module, images: Tensor) -> Callable[[Tensor], object]:
    """Return the compiled network.

    Raises:
        MeasureError: if it is not compiled, or not in one piece.
    """
    from torch._dynamo.utils import counters

    before = counters["stats"]["unique_graphs"]
    run = torch.compile(network, fullgraph=True, dynamic=False)
    try:
        run(images)
    except Exception as error:  # whatever Dynamo, Inductor or a C++ compiler has to say
        raise MeasureError(
            f"measure.compiled=true: torch.compile fails: {str(error).strip().splitlines()[0]}"
        ) from error
    if counters["stats"]["unique_graphs"] == before:
        raise MeasureError("measure.compiled=true: torch.compile left the network as it was; set it to false.")
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
        raise MeasureError(
            f"the network cannot be captured as a CUDA graph: {str(error).splitlines()[0]}; use measure.graph=false."
        ) from error
    graph.replay()
    return graph.replay


def timer(run: Callable[[], object], device: str) -> Timer:
    """Return a timer of calls, in seconds, whose clock waits for the device."""

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return Timer(run, timer=clock if device.startswith("cuda") else time.perf_counter)


def sampled(timers: list[Timer], calls: list[int], config: MeasureConfig, device: str) -> Throughput:
    """Time all in turn, as often as the first one's time allows."""
    times: list[list[float]] = []
    while len(times) < 10 or sum(t[0] for t in times) * calls[0] < config.seconds:
        times.append([t.timeit(n) / n for t, n in zip(timers, calls, strict=True)])
    seconds = np.array(times)
    p10, median, p90 = percentiles(config.batch / seconds[:, 0])
    low, ratio, high = percentiles(seconds[:, 1] / seconds[:, 0]) if len(timers) > 1 else (None, None, None)
    return Throughput(
        median=median,
        p10=p10,
        p90=p90,
        samples=len(times),
        batch=config.batch,
        dtype=config.dtype,
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        threads=config.threads,
        channels_last=config.channels_last,
        compiled=config.compiled,
        tf32=config.tf32,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        relative=ratio,
        relative_p10=low,
        relative_p90=high,
    )


def percentiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the 10th, 50th and 90th."""
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return float(p10), float(median), float(p90)


def clocks(device: str) -> dict[str, int]:
    """Return what NVML says of a GPU's clock now; nothing for a CPU, or without nvidia-ml-py."""
    if not device.startswith("cuda"):
        return {}
    with contextlib.suppress(ImportError):
        import pynvml

        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            return {
                "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
                "throttle": pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle),
            }
    return {}
