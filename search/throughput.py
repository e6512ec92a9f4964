"""Throughput of a converted network, by torch.utils.benchmark."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # on import, it reports a missing CUDA
from torch.utils.benchmark import Timer  # noqa: E402


class MeasureConfig(BaseModel):
    """Under which conditions throughput is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(default=128, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = Field(default=1, ge=1)
    """CPU threads."""
    seconds: float = Field(default=0.5, gt=0)
    """Time spent measuring, warm-up apart."""


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

    @property
    def latency(self) -> float:
        """Median time of a batch in milliseconds."""
        return 1000 * self.batch / self.median


def measure(model: nn.Module, shape: tuple[int, int, int], config: MeasureConfig, device: str) -> Throughput:
    """Time forward passes of `model`, already converted.

    At least ten timed samples follow an uncounted warm-up; the median resists a passing disturbance, which the spread
    from p10 to p90 shows.

    Args:
        model: a converted network; it is moved to the dtype and device of the measurement.
        shape: (C, H, W) of the images.
        config: batch, dtype, threads and duration.
        device: "cpu" or "cuda".
    """
    dtype = getattr(torch, config.dtype)
    model = model.to(device=device, dtype=dtype).eval()
    images = torch.randn(config.batch, *shape, device=device, dtype=dtype)
    timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=config.threads)
    with torch.inference_mode():
        once = timer.timeit(2).median
        calls = max(1, int(config.seconds / 20 / once))
        samples = max(10, int(config.seconds / (calls * once)))
        speeds = [config.batch / timer.timeit(calls).median for _ in range(samples)]
    p10, median, p90 = np.percentile(speeds, [10, 50, 90])
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
    return Throughput(float(median), float(p10), float(p90), samples, config.batch, config.dtype, name, config.threads)
