"""Claim: with a trainer busy on every core, latency measured under the device lock is that of an idle machine.

One process a core trains; it pauses for the idle side, takes the shared side of the lock for each batch on the locked
side, and takes no lock on the third. Sides are measured in turn, round by round, and each ratio is the median over
rounds, to the idle side of the same round. `python -m benchmarks.quiet_measurement [--rounds 7]`, about three minutes.
"""

import argparse
import json
import multiprocessing as mp
import os
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.timing import write_csv
from repmlp import CifarNet, ConvBlock, Stage, build
from search.locks import DeviceLock
from search.throughput import MeasureConfig, Throughput, measure

IDLE, LOCKED, FREE, OVER = range(4)
NETWORK = CifarNet(
    stages=(Stage(channels=32, blocks=2, block=ConvBlock()), Stage(channels=64, blocks=2, block=ConvBlock())),
    in_channels=3,
    size=(32, 32),
    classes=10,
)
CONDITIONS = MeasureConfig(batch=32, seconds=1.0)


def train(side: Any, batches: Any) -> None:
    """Train on random images as the side that is being measured says."""
    torch.set_num_threads(1)
    lock, model = DeviceLock("cpu"), build(NETWORK)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    while side.value != OVER:
        if side.value == IDLE:
            time.sleep(0.01)
            continue
        with lock.shared() if side.value == LOCKED else nullcontext():
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        with batches.get_lock():
            batches.value += 1


def measured(side: Any, which: int) -> Throughput:
    """Measure on one side, once the trainers have changed over."""
    side.value = which
    time.sleep(0.5)
    with DeviceLock("cpu").alone() if which == LOCKED else nullcontext():
        return measure(build(NETWORK, deploy=True), (3, 32, 32), CONDITIONS, "cpu")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    context = mp.get_context("spawn")
    side, batches = context.Value("i", LOCKED), context.Value("i", 0)
    trainers = [context.Process(target=train, args=(side, batches), daemon=True) for _ in range(os.cpu_count() or 1)]
    for trainer in trainers:
        trainer.start()
    while batches.value < 2 * len(trainers):
        time.sleep(0.1)
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        idle, locked, free = (measured(side, which) for which in (IDLE, LOCKED, FREE))
        for name, found in (("", locked), ("_without_lock", free)):
            ratios.setdefault(f"median_ratio{name}", []).append(idle.median / found.median)
            ratios.setdefault(f"p90_ratio{name}", []).append(idle.p10 / found.p10)
        print(", ".join(f"{name} {values[-1]:.3f}" for name, values in ratios.items()), flush=True)
    side.value = OVER
    for trainer in trainers:
        trainer.join()
    figures: dict[str, object] = {name: round(statistics.median(values), 4) for name, values in ratios.items()}
    write_csv("quiet_measurement", [figures], f"cpu{os.cpu_count()}", CONDITIONS.dtype)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
