"""Throughput of one network in several runtimes, in turn."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from search.measuring.locks import DeviceLock
from search.measuring.runtimes import Runner
from search.measuring.switches import switches

ROUNDS = 10


def side_by_side(
    networks: Mapping[str, Callable[[], Any]], count: int, seconds: float, threads: int
) -> dict[str, tuple[float, float, float]]:
    """Return p10, median and p90 of images/s of each network on the CPU, timed in turn while no trial trains.

    Args:
        networks: forward passes by name, of modules in eval mode or sessions of another runtime.
        count: images of a batch.
        seconds: for each network.
        threads: CPU threads of torch; other runtimes keep their own.
    """
    runners = {name: Runner(run) for name, run in networks.items()}
    with torch.inference_mode(), switches(tf32=False, threads=threads), DeviceLock("cpu").alone():
        for each in runners.values():
            each.singly(2)
        calls = {name: max(1, int(2 * seconds / ROUNDS / sum(each.singly(2)))) for name, each in runners.items()}
        times: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(ROUNDS):
            for name, each in runners.items():
                times[name] += each.turn(calls[name]).blocks
    found = {}
    for name, of_network in times.items():
        p10, median, p90 = np.percentile(count / np.array(of_network), [10, 50, 90])
        found[name] = float(p10), float(median), float(p90)
    return found
