"""Joules that inference takes, as meters of the hardware count them: NVML of NVIDIA GPUs, RAPL of processors."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
from scipy.stats import t

from search.measuring.runtimes import MeasureError, Subject

WINDOW = 5.0
"""Seconds that a window lasts at least; meters are renewed every tenth of a second or so."""
WINDOWS = 3
WARM_UP = 1.0
RAPL = Path("/sys/class/powercap")
PARTS = "package", "psys", "dram"
"""Zones that count, by the beginning of their names; cores and graphics lie within a package."""


def energy(subject: Subject) -> dict[str, float]:
    """Return joules an image, the mean of windows, with its 95 % interval of Student's t.

    On a GPU they are its own; on a CPU those of all packages, idle cores included, and of memory where that has a
    meter. Nobody else uses the device meanwhile.

    Raises:
        MeasureError: saying which meter is missing.
    """
    joules, runner = meter(str(subject.point.device)), subject.runner
    with subject.alone():
        calls = max(1, int(0.1 / (sum(runner.singly(3)) / 3)))
        until = time.monotonic() + WARM_UP
        while time.monotonic() < until:
            runner.turn(calls)
        found = [window(subject, joules, calls) for _ in range(WINDOWS)]
    middle, reach = mean(found), float(t.ppf(0.975, WINDOWS - 1)) * stdev(found) / WINDOWS**0.5
    return {"energy": middle, "energy_low": middle - reach, "energy_high": middle + reach}


def window(subject: Subject, joules: Callable[[], float], calls: int) -> float:
    """Return joules an image of one window."""
    batches, start, before = 0, time.monotonic(), joules()
    while time.monotonic() - start < WINDOW:
        subject.runner.turn(calls)
        batches += calls
    return (joules() - before) / (batches * subject.point.batch)


def meter(device: str) -> Callable[[], float]:
    """Return what tells the joules that a device has taken since some moment.

    Raises:
        MeasureError: saying what is missing.
    """
    if device == "cuda":
        return gpu_meter()
    if device != "cpu":
        raise MeasureError(f"energy has no meter for {device}; leave it out there.")
    return Rapl(RAPL)


def gpu_meter() -> Callable[[], float]:
    """Return what tells the joules that this process's GPU has taken since its driver was loaded."""
    try:
        import pynvml
    except ImportError:
        raise MeasureError("energy of a GPU needs the package nvidia-ml-py; pip install nvidia-ml-py.") from None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties('cuda').uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        raise MeasureError(f"energy of this GPU cannot be read: {error}.") from None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000


class Rapl:
    """The joules that a machine's processors and memory have taken, by its RAPL zones.

    A counter that starts again at 0 is noticed if it is asked before it does so twice; at 100 W that takes minutes.

    Args:
        folder: of the zones, as Linux has them.

    Raises:
        MeasureError: if there is none, or they may not be read.
    """

    def __init__(self, folder: Path) -> None:
        zones = {zone.resolve() for zone in folder.glob("intel-rapl*:*") if (zone / "energy_uj").exists()}
        named = {zone: (zone / "name").read_text().strip() for zone in sorted(zones)}
        self.zones = [zone for zone, name in named.items() if name.startswith(PARTS)]
        if any(name.startswith("psys") for name in named.values()):  # the whole platform, packages included
            self.zones = [zone for zone in self.zones if named[zone].startswith("psys")]
        if not self.zones:
            raise MeasureError(f"energy of this CPU cannot be read: {folder} has no RAPL zone of a package.")
        self.turns = dict.fromkeys(self.zones, 0)
        try:
            self.last = {zone: number(zone / "energy_uj") for zone in self.zones}
        except PermissionError as error:
            raise MeasureError(
                f"energy of this CPU cannot be read: only root may read {error.filename}; let others with chmod a+r."
            ) from None

    def __call__(self) -> float:
        """Return joules since some moment."""
        for zone in self.zones:
            now = number(zone / "energy_uj")
            if now < self.last[zone]:
                self.turns[zone] += number(zone / "max_energy_range_uj")
            self.last[zone] = now
        return (sum(self.last.values()) + sum(self.turns.values())) / 1e6


def number(path: Path) -> int:
    return int(path.read_text())
