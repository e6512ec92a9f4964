"""Joules that inference takes, as meters of the hardware count them: NVML of NVIDIA GPUs, RAPL of processors."""

import time
from statistics import mean, stdev
from typing import Any

import torch
from scipy.stats import t

from search.measuring.runtimes import MeasureError, Subject

WINDOW = 5.0
"""Seconds that a window lasts at least; meters are read every tenth of a second or so."""
WINDOWS = 3
WARM_UP = 1.0


def energy(subject: Subject) -> dict[str, float]:
    """Return joules an image, the mean of windows, with its 95 % interval of Student's t.

    On a GPU they are its own; on a CPU those of all packages, idle cores included, and of memory where that has a
    meter. Nobody else uses the device meanwhile.

    Raises:
        MeasureError: saying which meter is missing.
    """
    device, runner = str(subject.point.device), subject.runner
    monitor = meter(device)
    with subject.alone():
        calls = max(1, int(0.1 / (sum(runner.singly(3)) / 3)))
        until = time.monotonic() + WARM_UP
        while time.monotonic() < until:
            runner.turn(calls)
        found = [window(subject, monitor, calls) for _ in range(WINDOWS)]
    middle, reach = mean(found), float(t.ppf(0.975, WINDOWS - 1)) * stdev(found) / WINDOWS**0.5
    return {"energy": middle, "energy_low": middle - reach, "energy_high": middle + reach}


def window(subject: Subject, monitor: Any, calls: int) -> float:
    """Return joules an image of one window."""
    batches, start = 0, time.monotonic()
    monitor.begin_window("inference")
    while time.monotonic() - start < WINDOW:
        subject.runner.turn(calls)
        batches += calls
    spent = monitor.end_window("inference")
    parts = [spent.gpu_energy, spent.cpu_energy, spent.dram_energy]
    return sum(sum(part.values()) for part in parts if part) / (batches * subject.point.batch)


def meter(device: str) -> Any:
    """Return zeus's monitor of a device.

    Raises:
        MeasureError: saying what is missing.
    """
    if device not in ("cpu", "cuda"):
        raise MeasureError(f"energy has no meter for {device}; leave it out there.")
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError:
        raise MeasureError("energy needs the package zeus; pip install zeus.") from None
    try:
        if device == "cuda":
            return ZeusMonitor(gpu_indices=[torch.cuda.current_device()], cpu_indices=[], approx_instant_energy=True)
        found = ZeusMonitor(gpu_indices=[], cpu_indices=None)
    except Exception as error:  # zeus has one class for each thing that is missing
        raise MeasureError(f"energy cannot be read of this {device}: {' '.join(str(error).split())}.") from None
    if not found.cpu_indices:
        raise MeasureError("energy cannot be read of this cpu: no RAPL meter is readable in /sys/class/powercap.")
    return found
