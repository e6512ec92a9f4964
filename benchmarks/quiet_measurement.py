"""Claim: with a trainer busy on every core, latency measured under the device lock is that of an idle machine.

One process a core trains; it pauses for the idle side, takes the shared side of the lock for each batch on the locked
side, and takes no lock on the third. Sides are measured in turn, round by round, and each ratio is the median over
rounds, to the idle side of the same round. `python -m benchmarks.quiet_measurement`, about three minutes; with
`--device cuda`, two processes train on the GPU.
"""

import json
import multiprocessing as mp
import os
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch

from benchmarks.timing import arguments, device_of, write_csv
from repmlp import CifarNet, ConvBlock, Stage, build
from search.measuring.locks import DeviceLock
from search.measuring.points import Measurement, Point, measure

IDLE, LOCKED, FREE, OVER = range(4)
NETWORK = CifarNet(
    stages=(Stage(channels=32, blocks=2, block=ConvBlock()), Stage(channels=64, blocks=2, block=ConvBlock())),
    in_channels=3,
    size=(32, 32),
    classes=10,
)
CONDITIONS = Point(batch=32, seconds=1.0)


def train(side: Any, batches: Any, device: str) -> None:
    """Train on random images as the side that is being measured says."""
    torch.set_num_threads(1)
    lock, model = DeviceLock(device), build(NETWORK).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    images, labels = torch.randn(64, 3, 32, 32, device=device), torch.randint(10, (64,), device=device)
    while side.value != OVER:
        now = side.value
        if now == IDLE:
            time.sleep(0.01)
            continue
        with lock.shared() if now == LOCKED else nullcontext():
            while side.value == now:
                torch.nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
                optimizer.zero_grad()
                lock.give_way()
                with batches.get_lock():
                    batches.value += 1


def measured(side: Any, which: int, device: str) -> Measurement:
    """Measure on one side, once the trainers have changed over."""
    side.value = which
    time.sleep(0.5)
    alone = DeviceLock(device).alone if which == LOCKED else nullcontext
    return measure(build(NETWORK, deploy=True), (3, 32, 32), CONDITIONS, device, alone=alone)


def main() -> None:
    given = arguments(__doc__)
    device, rounds, count = given.device, 2 if given.quick else 7, 2 if given.device == "cuda" else os.cpu_count() or 1
    context = mp.get_context("spawn")
    side, batches = context.Value("i", LOCKED), context.Value("i", 0)
    trainers = [context.Process(target=train, args=(side, batches, device), daemon=True) for _ in range(count)]
    for trainer in trainers:
        trainer.start()
    while batches.value < 2 * len(trainers):
        time.sleep(0.1)
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        idle, locked, free = (measured(side, which, device) for which in (IDLE, LOCKED, FREE))
        for name, found in (("", locked), ("_without_lock", free)):
            ratios.setdefault(f"median_ratio{name}", []).append(idle.median / found.median)
            ratios.setdefault(f"p90_ratio{name}", []).append(idle.p10 / found.p10)
        print(", ".join(f"{name} {values[-1]:.3f}" for name, values in ratios.items()), flush=True)
    side.value = OVER
    for trainer in trainers:
        trainer.join()
    figures: dict[str, object] = {name: round(statistics.median(values), 4) for name, values in ratios.items()}
    write_csv("quiet_measurement", [figures], device_of(device), CONDITIONS.dtype)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
