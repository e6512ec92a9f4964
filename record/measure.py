"""Under which conditions throughput is measured, and what a measurement gave."""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MeasureConfig(BaseModel):
    """Under which conditions throughput is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch: int = Field(default=128, ge=1, le=1 << 16)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads."""
    channels_last: bool = False
    """Images and weights are laid out with channels last."""
    compiled: bool = False
    """Through torch.compile, which first takes up to a minute a network; one that it cannot take whole fails."""
    tf32: bool = False
    """On a GPU, float32 products and convolutions may use TF32: faster, with 10 bits of mantissa."""
    graph: bool = True
    """On a GPU, the network's operators are replayed as one CUDA graph, so that the network is measured, and not how
    fast Python launches it; false launches them one by one."""
    seconds: float = Field(default=0.5, gt=0, le=3600)
    """Time spent measuring a network, warm-up apart; as much is spent on the reference network beside it."""
    spread: float = Field(default=0.2, gt=0)
    """Largest (p90 - p10) / median of a steady measurement; a worse one is repeated up to twice, then flagged."""
    confirm: bool = True
    """A trial that is on the front once it is trained is measured again before it counts, if throughput or latency is
    an objective."""


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
    tf32: bool = False
    cudnn_benchmark: bool = False
    """Whether cuDNN chose its algorithms by trying them, which depends on the moment."""
    graph: bool = False
    """Whether replays of a CUDA graph were timed."""
    host_bound: bool | None = None
    """Whether the same operators, launched one by one, take over 1.2 times as long; None where no graph was timed."""
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
