"""Timing of alternatives in turn, so that a drift of the machine's speed hits all of them alike."""

import argparse
import csv
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.benchmark import Timer


def in_turn(
    sides: Mapping[str, Callable[[], object]], rounds: int = 7, min_time: float = 0.1
) -> dict[str, list[float]]:
    """Time each side once a round, A B A B ..., after one uncounted call of each.

    Args:
        sides: name to the call to time.
        rounds: how often each side is measured.
        min_time: seconds each measurement lasts at least.

    Returns:
        Name to `rounds` times in seconds, each the median over one measurement.
    """
    timers = {
        name: Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads()) for name, run in sides.items()
    }
    for run in sides.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.blocked_autorange(min_run_time=min_time).median)
    return times


def arguments(description: str | None) -> argparse.Namespace:
    """Parse what every benchmark takes: `--device`, and `--quick` for a look at whether it works."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="few, short rounds, whose figures mean little")
    return parser.parse_args()


def device_of(device: str) -> str:
    """Return what files of results call a device: its name and, of a CPU, its cores."""
    if device == "cpu":
        return f"cpu{os.cpu_count()}"
    return torch.cuda.get_device_name().replace(" ", "-")


def ratio(slow: list[float], fast: list[float]) -> float:
    """Return the median of the ratios round by round."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def spread(times: list[float]) -> str:
    """Show a median and its range in milliseconds."""
    return f"{1e3 * statistics.median(times):.2f} ms ({1e3 * min(times):.2f}-{1e3 * max(times):.2f})"


def write_csv(name: str, rows: list[dict[str, object]], device: str, dtype: str) -> Path:
    """Write rows to `benchmarks/measured/`, or to MEASURED, in a file named by device, dtype and torch version."""
    folder = Path(os.environ.get("MEASURED", Path(__file__).parent / "measured"))
    folder.mkdir(exist_ok=True)
    version = torch.__version__.split("+")[0]
    path = folder / f"{name}-{device}-{platform.machine()}-{dtype}-torch{version}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path
