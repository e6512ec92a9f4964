"""A converted network measured at a point, beside a reference network."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import nn

from record.measure import Measurement, Point
from record.plugins import called
from record.quantities import QUANTITIES
from repmlp import build
from repmlp.networks import NetworkConfig
from search.measuring.clocks import Clocks
from search.measuring.costs import input_shape
from search.measuring.locks import DeviceLock
from search.measuring.runtimes import Runner, Subject
from search.measuring.switches import switches

REPEATS = 3
"""How often a measurement is tried until it is steady."""
BLOCKS = 10
"""Blocks of batches that are timed at least."""
HOST_BOUND = 1.2
"""A network whose operators take so many times as long when they are launched one by one is held up by the host."""
SURE = 400
"""Batches timed one by one from which a 99th percentile has a 95 % interval that ends: from 368 (0.99^n < 0.025)."""

KEPT: dict[NetworkConfig, dict[str, bytes]] = {}
"""Exported files of the reference network that was measured last, by name; in memory, as large as they are."""


def measured(
    network: NetworkConfig,
    reference: NetworkConfig | None,
    points: Mapping[str, Point],
    device: str = "cpu",
    scratch: Path | None = None,
) -> dict[str, Measurement]:
    """Build the converted forms of two networks, and measure the first beside the second while nobody trains here.

    What is exported serves all points of a dtype; of the reference, for as long as the process lives.

    Args:
        network: what is measured; fresh weights run as fast as trained ones.
        reference: beside which.
        points: where, by name.
        device: "cpu" or "cuda", on which the trials train.
        scratch: folder for exported files, which are gone at the end; None takes the system's.

    Raises:
        MeasureError: if a network cannot be measured like that.
    """
    networks = [network, *([reference] if reference else [])]
    with tempfile.TemporaryDirectory(prefix="repmlp-", dir=scratch) as folder:
        folders = [Path(folder) / str(place) for place in range(len(networks))]
        for each in folders:
            each.mkdir()
        if reference:
            for name, content in KEPT.get(reference, {}).items():
                (folders[1] / name).write_bytes(content)
        found = {}
        for name, point in points.items():
            settled = point.settled(device)
            alone = partial(quiet, settled, device)
            subjects = [
                Subject(build(config, deploy=True), input_shape(config), settled, place, alone)
                for config, place in zip(networks, folders, strict=True)
            ]
            found[name] = measurement(subjects)
        if reference:
            KEPT.clear()
            KEPT[reference] = {path.name: path.read_bytes() for path in folders[1].iterdir() if path.is_file()}
    return found


@contextmanager
def quiet(point: Point, device: str) -> Iterator[None]:
    """Have the device of a point alone; trials on a GPU pause too, since they also use the CPU."""
    with ExitStack() as stack:
        if point.device == "cpu" and device == "cuda":
            stack.enter_context(DeviceLock(device).alone())
        stack.enter_context(DeviceLock(str(point.device)).alone())
        yield


def measure(
    model: nn.Module,
    shape: tuple[int, int, int],
    point: Point,
    device: str = "cpu",
    reference: nn.Module | None = None,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Measurement:
    """Time forward passes of `model`, already converted, in turn with those of `reference`.

    At least ten blocks of batches follow an uncounted warm-up; their median resists a passing disturbance, which the
    spread from p10 to p90 shows. The ratio of the two, block by block, resists a lasting one too. On a CPU each batch
    is timed by itself too, on a GPU others are. Every switch of PyTorch that matters is set, and restored in the end,
    so that it does not count what the process did before.

    Args:
        model: a converted network; it is moved to the dtype, layout and device of the point.
        shape: (C, H, W) of the images.
        point: where.
        device: "cpu" or "cuda", for a point that names none.
        reference: another one, for the same images.
        alone: makes the context in which nobody else uses the device. Compilation, export, warm-up and whatever they
            allocate come before.

    Raises:
        MeasureError: if a network cannot be compiled whole, captured as a CUDA graph or exported, the runtime is not
            here, or its command fails.
    """
    point = point.settled(device)
    with tempfile.TemporaryDirectory(prefix="repmlp-") as folder:
        subjects = []
        for place, network in enumerate([model, *([reference] if reference is not None else [])]):
            subjects.append(Subject(network, shape, point, Path(folder) / str(place), alone))
            subjects[-1].folder.mkdir()
        return measurement(subjects)


def measurement(subjects: list[Subject]) -> Measurement:
    """Measure the first of these networks, in turn with the other, if there is one."""
    point = subjects[0].point
    found: list[Measurement] = []
    with torch.inference_mode(), switches(point.tf32, point.threads):
        runners = [subject.runner for subject in subjects]
        with subjects[0].alone(), Clocks(str(point.device)) as clocks:
            calls = [max(1, int(point.seconds / 20 / (sum(r.singly(2)) / 2))) for r in runners]
            while len(found) < REPEATS and not (found and found[-1].spread <= point.spread):
                found.append(sampled(runners, calls, point))
            best = min(found, key=lambda f: f.spread)
            launched = runners[0].launched()
        others = asked(subjects[0])
    return replace(
        best,
        repeats=len(found),
        steady=best.spread <= point.spread,
        clocks=clocks.seen(),
        host_bound=None if launched is None else launched * best.median > HOST_BOUND * point.batch,
        others=others,
    )


def sampled(runners: list[Runner], calls: list[int], point: Point) -> Measurement:
    """Time all in turn, as often as the first one's time allows, and as the 99th percentile needs."""
    blocks: list[list[float]] = [[] for _ in runners]
    each: list[float] = []
    turns, sure = 0, SURE if "latency_p99" in point.also else 0
    while turns < runners[0].turns or len(blocks[0]) < BLOCKS or sum(blocks[0]) * calls[0] < point.seconds:
        for place, runner in enumerate(runners):
            turn = runner.turn(calls[place])
            blocks[place] += turn.blocks
            each += turn.each if place == 0 else []
        turns += 1
    if len(each) < max(sure, BLOCKS):
        each += runners[0].singly(max(sure, BLOCKS) - len(each))
    seconds = np.array(blocks)
    p10, median, p90 = percentiles(point.batch / seconds[0])
    low, ratio, high = percentiles(seconds[1] / seconds[0]) if len(runners) > 1 else (None, None, None)
    slow = slowest(1000 * np.array(each))
    return Measurement(
        median=median,
        p10=p10,
        p90=p90,
        samples=len(blocks[0]),
        batch=point.batch,
        dtype=point.dtype,
        device=torch.cuda.get_device_name() if point.device == "cuda" else str(point.device),
        threads=point.threads,
        runtime=point.runtime,
        channels_last=point.channels_last,
        tf32=point.tf32,
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        relative=ratio,
        relative_p10=low,
        relative_p90=high,
        calls=len(each),
        latency_p50=1000 * float(np.median(each)),
        latency_p99=slow[1],
        latency_p99_low=slow[0],
        latency_p99_high=slow[2],
    )


def percentiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the 10th, 50th and 90th."""
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return float(p10), float(median), float(p90)


def slowest(values: NDArray[np.float64]) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the 99th percentile between the ends of its 95 % interval of order statistics; None where too few."""
    count, ordered = len(values), np.sort(values)
    low, high = (int(place) for place in binom.ppf([0.025, 0.975], count, 0.99))
    if count < SURE or high >= count:
        return None, None, None
    return float(ordered[low - 1]), float(np.percentile(values, 99)), float(ordered[high])


def asked(subject: Subject) -> dict[str, float]:
    """Return what else is asked for at a point, each by the function that its quantity names."""
    found: dict[str, float] = {}
    for kind in subject.point.also:
        if QUANTITIES[kind].by:
            found |= called(QUANTITIES[kind].by, subject)
    return found
