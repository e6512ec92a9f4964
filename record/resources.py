"""What a trial gets of the machines, and how many run at once."""

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Resources(BaseModel):
    """What a trial gets, and how many run at once."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    concurrent: int = Field(default=2, ge=1, le=1024)
    cpus: float = Field(default=1, gt=0, le=1024)
    """CPUs a trial; it runs as many threads."""
    gpus: float = Field(default=0, ge=0)
    """GPUs a trial; a fraction lets several share one. 0 trains on the CPU."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Data-parallel workers a trial, each with `cpus` and `gpus`; they share `training.batch`."""
    measure_on: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Custom Ray resources, such as {target_device: 1}, of the nodes that measure throughput; {} measures where a trial
    trains."""
    address: str | None = None
    """Address of a running Ray cluster; None starts Ray here."""
    backend: Literal["ray", "local"] = "ray"
    """Who runs the workers: Ray, on this machine or a cluster, or plain processes of this machine."""

    @model_validator(mode="after")
    def check_gpus(self) -> "Resources":
        if self.gpus > 1:
            raise ValueError(
                f"resources.gpus={self.gpus:g}: a worker uses one GPU at most; for several a trial give it workers, "
                f"such as resources.workers={math.ceil(self.gpus)} resources.gpus=1"
            )
        if 0 < self.gpus < 1 and self.workers > 1:
            raise ValueError(
                f"resources.gpus={self.gpus:g} with resources.workers={self.workers}: data-parallel workers need a GPU "
                "each; use resources.gpus=1, or one worker"
            )
        return self

    @model_validator(mode="after")
    def check_backend(self) -> "Resources":
        wanted = [name for name in ("address", "measure_on") if getattr(self, name)]
        if self.backend == "local" and wanted:
            raise ValueError(f"resources.{wanted[0]} needs resources.backend=ray; local runs on this machine alone")
        return self

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"
