"""Throughput of one network in several runtimes, in turn."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from search.locks import DeviceLock

ROUNDS = 10


def side_by_side(
    networks: Mapping[str, Callable[[Tensor], Any]], images: Tensor, seconds: float, threads: int
) -> dict[str, tuple[float, float, float]]:
    """Return p10, median and p90 of images/s of each network on the CPU, timed in turn while no trial trains.

    Args:
        networks: by name; modules in eval mode, or sessions of another runtime.
        images: `(N, C, H, W)`, the batch.
        seconds: for each network.
        threads: CPU threads of torch; other runtimes keep their own.
    """
    timers = {
        name: Timer("run(images)", globals={"run": run, "images": images}, num_threads=threads)
        for name, run in networks.items()
    }
    with torch.inference_mode(), DeviceLock("cpu").alone():
        calls = {name: max(1, int(seconds / ROUNDS / timer.timeit(2).median)) for name, timer in timers.items()}
        times: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(ROUNDS):
            for name, timer in timers.items():
                times[name].append(timer.timeit(calls[name]).median)
    found = {}
    for name, of_network in times.items():
        p10, median, p90 = np.percentile(len(images) / np.array(of_network), [10, 50, 90])
        found[name] = float(p10), float(median), float(p90)
    return found
