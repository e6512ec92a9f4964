"""Throughput of a converted network beside a reference network, by torch.utils.benchmark."""

import contextlib
import logging
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # on import, it reports a missing CUDA
from torch.utils.benchmark import Timer  # noqa: E402

REPEATS = 3
"""How often a measurement is tried until it is steady."""


class MeasureConfig(BaseModel):
    """Under which conditions throughput is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(default=128, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = Field(default=1, ge=1)
    """CPU threads."""
    channels_last: bool = False
    """Images and weights are laid out with channels last."""
    compiled: bool = False
    """Through torch.compile, which first takes up to a minute a network."""
    seconds: float = Field(default=0.5, gt=0)
    """Time spent measuring a network, warm-up apart; as much is spent on the reference network beside it."""
    spread: float = Field(default=0.2, gt=0)
    """Largest (p90 - p10) / median of a steady measurement; a worse one is repeated up to twice, then flagged."""
    confirm: bool = True
    """Members of the final front are measured again at the end, if throughput or latency is an objective."""


@dataclass(frozen=True)
class Throughput:
    """Images per second with their spread and the conditions."""

    median: float
    p10: float
    p90: float
    samples: int
    batch: int
    dtype: str
    device: str
    threads: int
    channels_last: bool = False
    compiled: bool = False
    relative: float | None = None
    """Median ratio to the reference network's throughput, sample by sample in turn."""
    relative_p10: float | None = None
    relative_p90: float | None = None
    repeats: int = 1
    """How often it was tried; the one of least spread counts."""
    steady: bool = True
    """Whether the spread is within the study's limit."""
    clocks: dict[str, int] = field(default_factory=dict)
    """Of a GPU after the measurement, where NVML tells: `sm_mhz`, and `throttle`, NVML's bit mask of reasons."""

    @property
    def latency(self) -> float:
        """Median time of a batch in milliseconds."""
        return 1000 * self.batch / self.median

    @property
    def spread(self) -> float:
        """Distance from p10 to p90, as a share of the median."""
        return (self.p90 - self.p10) / self.median


def measure(
    model: nn.Module,
    shape: tuple[int, int, int],
    config: MeasureConfig,
    device: str,
    reference: nn.Module | None = None,
) -> Throughput:
    """Time forward passes of `model`, already converted, in turn with those of `reference`.

    At least ten timed samples follow an uncounted warm-up; the median resists a passing disturbance, which the spread
    from p10 to p90 shows. The ratio of the two, sample by sample, resists a lasting one too.

    Args:
        model: a converted network; it is moved to the dtype, layout and device of the measurement.
        shape: (C, H, W) of the images.
        config: the conditions.
        device: "cpu" or "cuda".
        reference: another one, for the same images.
    """
    images = torch.randn(config.batch, *shape, device=device, dtype=getattr(torch, config.dtype))
    if config.channels_last:
        images = images.to(memory_format=torch.channels_last)
    timers = [timer(network, images, config) for network in (model, reference) if network is not None]
    found: list[Throughput] = []
    with torch.inference_mode():
        calls = [max(1, int(config.seconds / 20 / t.timeit(2).median)) for t in timers]
        while len(found) < REPEATS and not (found and found[-1].spread <= config.spread):
            found.append(sampled(timers, calls, config, device))
    best = min(found, key=lambda f: f.spread)
    return replace(best, repeats=len(found), steady=best.spread <= config.spread, clocks=clocks(device))


def timer(model: nn.Module, images: torch.Tensor, config: MeasureConfig) -> Timer:
    """Return a timer of a forward pass."""
    model = model.to(device=images.device, dtype=images.dtype).eval()
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    run = torch.compile(model) if config.compiled else model
    return Timer("model(images)", globals={"model": run, "images": images}, num_threads=config.threads)


def sampled(timers: list[Timer], calls: list[int], config: MeasureConfig, device: str) -> Throughput:
    """Time all in turn, as often as the first one's time allows."""
    times: list[list[float]] = []
    while len(times) < 10 or sum(t[0] for t in times) * calls[0] < config.seconds:
        times.append([t.timeit(n).median for t, n in zip(timers, calls, strict=True)])
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
