"""How every candidate of a study is trained."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["auto", "float32", "bfloat16", "float16"]
MANY = 1_000_000
"""The most that is counted: epochs, trials, images of a batch."""


class Recipe(BaseModel):
    """How every candidate of a study is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(default=9, ge=1, le=MANY)
    batch: int = Field(default=128, ge=2, le=MANY)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak; follows `schedule` step by step."""
    schedule: Literal["cosine", "poly", "step"] = "cosine"
    """cosine: to 0. poly: (1 - share done)^0.9. step: a tenth at each of `milestones`."""
    milestones: tuple[float, ...] = (0.6, 0.8667, 0.9667)
    """Shares of the steps after the warm-up at which the step schedule falls; those of the paper's face recipe."""
    warmup: float = Field(default=0, ge=0)
    """Epochs of linear increase before the schedule begins."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    """Not applied to biases and normalisation."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    mixup: float = Field(default=0, ge=0)
    """alpha of mixup (arXiv 1710.09412), for classification; 0 leaves it out."""
    margin: float = Field(default=0.35, ge=0)
    """m of AM-Softmax (arXiv 1801.05599), for recognition."""
    logit_scale: float = Field(default=30.0, gt=0)
    """s of AM-Softmax."""
    fc3_penalty: float = Field(default=0, ge=0)
    """Factor of `repmlp.penalty.distance_penalty`, which drives far weights of the merged FC3 to zero."""
    fc3_range: float = Field(default=0, ge=0)
    """Factor of `repmlp.penalty.range_penalty`, which keeps the merged FC3 within a range that 8 bits hold well."""
    precision: Precision = "auto"
    """Of products; weights stay float32. auto takes bfloat16 where the device multiplies it in hardware, float16, with
    a scaled loss, on GPUs before Ampere, else float32; a study settles it when it begins, and keeps it."""
    channels_last: bool | None = None
    """Layout of maps and convolutions in training; null takes channels last on a CPU, where convolutions are faster so,
    and PyTorch's default on a GPU."""
    graph: Literal["auto", "off"] = "off"
    """auto replays a training step as one CUDA graph where it can be captured. Not verified on a GPU yet."""
    compiled: bool = False
    """Through torch.compile, which first takes up to minutes a network."""
    sync_bn: bool = False
    """With several GPUs a trial, BN's statistics are those of the whole batch, at two collectives a BN and step."""

    @model_validator(mode="before")
    @classmethod
    def check_bf16(cls, values: Any) -> Any:
        if isinstance(values, dict) and "bf16" in values:
            fitting = "bfloat16" if values["bf16"] else "float32"
            raise ValueError(
                f"training.bf16={values['bf16']} is now training.precision; write precision: {fitting}, or auto, which "
                "takes bfloat16 where the processor has it"
            )
        return values

    def share_of_rate(self, done: float) -> float:
        """Return the share of the peak rate after the share `done` of all steps."""
        if self.schedule == "poly":
            return (1 - done) ** 0.9
        if self.schedule == "step":
            return 0.1 ** sum(done >= m for m in self.milestones)
        return 0.5 * (1 + math.cos(math.pi * done))
