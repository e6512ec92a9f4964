"""Where and how a network is run when its speed is measured, and what a measurement gave."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from record.plugins import named

DEFAULT = "default"
"""Name of the only point of a study that names none."""
AUTO = "auto"
IN_FILES = ("onnx", "openvino", "tensorrt", "command")
"""Runtimes that run an exported file, and not PyTorch's module."""
OLDER = frozenset({"compiled", "graph"})
"""Keys that older studies have in place of `runtime`."""


class Point(BaseModel):
    """A measurement point: one way in which a network may be deployed, under which its speed is measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    batch: int = Field(default=128, ge=1, le=1 << 16)
    runtime: str = AUTO
    """torch, operator by operator; torch-compiled, by torch.compile, which first takes up to a minute a network;
    cuda-graph, replayed as one CUDA graph, so that the network is measured, and not how fast Python launches it; onnx,
    openvino and tensorrt, from the exported file; command, a program of yours; or your own, as
    `my_package.module:Name`. auto is cuda-graph on a GPU, else torch."""
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = "float32"
    """int8 is for runtimes of exported files, which are quantized with calibration on random images: it is as fast."""
    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads."""
    device: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """cpu or cuda; null is that of the trials for PyTorch's runtimes, cuda for tensorrt, else cpu. With runtime command
    it may be the name of any target, which one measurement at a time then has alone, beside trials that train on."""
    channels_last: bool = False
    """Images and weights are laid out with channels last, in PyTorch's runtimes."""
    tf32: bool = False
    """On a GPU, float32 products and convolutions may use TF32: faster, with 10 bits of mantissa."""
    seconds: float = Field(default=0.5, gt=0, le=3600)
    """Time spent measuring a network, warm-up apart; as much is spent on the reference network beside it."""
    spread: float = Field(default=0.2, gt=0)
    """Largest (p90 - p10) / median of a steady measurement; a worse one is repeated up to twice, then flagged."""
    confirm: bool = True
    """A trial that is on the front once it is trained is measured again before it counts, if an objective is measured
    here."""
    also: tuple[str, ...] = ()
    """Quantities to measure here beside throughput and latency though no objective or limit names them, such as
    latency_p99, peak_memory, size or energy."""
    command: str = ""
    """For runtime command: a shell command that times the file {file} on random images of batch {batch}, {samples}
    times after a warm-up, and prints the seconds of each as a JSON list in its last line."""
    timeout: float = Field(default=600, gt=0, le=86_400)
    """Seconds that the command may take, each time."""
    retries: int = Field(default=1, ge=0, le=100)
    """How often a command that fails is tried again."""

    @model_validator(mode="before")
    @classmethod
    def of_older_studies(cls, values: Any) -> Any:
        """Read what older studies say with two switches: compiled, and graph (on a GPU, whether replayed)."""
        if not isinstance(values, Mapping) or not OLDER & set(values):
            return values
        if "runtime" in values:
            raise ValueError("compiled and graph are older words for runtime: leave them out")
        kept = {key: value for key, value in values.items() if key not in OLDER}
        for key in OLDER & set(values):
            if not isinstance(values[key], bool):
                raise ValueError(f"{key}={values[key]!r} should be true or false")
        plain = AUTO if values.get("graph", True) else "torch"
        return {**kept, "runtime": "torch-compiled" if values.get("compiled") else plain}

    @model_validator(mode="after")
    def fits(self) -> "Point":
        """See that the keys go together."""
        if self.runtime != AUTO:
            named("runtime", self.runtime)
        in_file = self.runtime in IN_FILES
        if in_file and self.dtype not in ("float32", "int8"):
            raise ValueError(f"dtype={self.dtype} is for PyTorch's runtimes; {self.runtime} takes float32 or int8")
        if self.dtype == "int8" and not in_file and ":" not in self.runtime:
            raise ValueError(f"dtype=int8 is for the runtimes {', '.join(IN_FILES)}; this is {self.runtime}")
        if in_file and (self.channels_last or self.tf32):
            key = "channels_last" if self.channels_last else "tf32"
            raise ValueError(f"{key}=true is for PyTorch's runtimes; leave it out with runtime={self.runtime}")
        if bool(self.command) != (self.runtime == "command"):
            raise ValueError("command and runtime=command go together: give both or neither")
        if self.device not in (None, "cpu", "cuda") and self.runtime != "command":
            raise ValueError(f"device={self.device} must be cpu or cuda; other targets are for runtime=command")
        return self

    def settled(self, device: str, also: Iterable[str] = ()) -> "Point":
        """Return the point with a definite device and runtime, and with more quantities to measure.

        Args:
            device: "cpu" or "cuda", of the trials.
            also: names of quantities.
        """
        usual = "cuda" if self.runtime == "tensorrt" else "cpu" if self.runtime in IN_FILES else device
        where = self.device or usual
        auto = "cuda-graph" if where == "cuda" else "torch"
        more = tuple(dict.fromkeys((*self.also, *also)))
        runtime = auto if self.runtime == AUTO else self.runtime
        return self.model_copy(update={"device": where, "runtime": runtime, "also": more})

    def alike(self) -> dict[str, Any]:
        """Return what decides how fast a network is here, and not how long and how often that is measured."""
        return self.model_dump(exclude={"also", "confirm", "seconds", "spread", "timeout", "retries"})


def by_name(value: Any) -> Any:
    """Return points by name; the keys of a point stand for a single one, called `default`, or for what all share."""
    if isinstance(value, Point):
        return {DEFAULT: value}
    if not isinstance(value, Mapping):
        return value
    keys = {*Point.model_fields, *OLDER}
    shared = {key: each for key, each in value.items() if key in keys}
    points = {key: each for key, each in value.items() if key not in keys}
    if any(isinstance(each, Mapping | Point) for each in points.values()):
        return {name: {**shared, **each} if isinstance(each, Mapping) else each for name, each in points.items()}
    return {DEFAULT: value}


def check_names(points: dict[str, Point]) -> dict[str, Point]:
    if not points:
        raise ValueError("at least one point is needed, such as {batch: 128}")
    for name in points:
        if not name.isidentifier() or name in {*Point.model_fields, *OLDER}:
            raise ValueError(f"a point cannot be called {name!r}: use a word of letters, digits and _ that is no key")
    return points


def written(points: dict[str, Point]) -> dict[str, Any]:
    """Write points as they are read: a single one without its name."""
    plain = {name: point.model_dump(mode="json") for name, point in points.items()}
    return plain[DEFAULT] if list(plain) == [DEFAULT] else plain


Points = Annotated[dict[str, Point], BeforeValidator(by_name), AfterValidator(check_names), PlainSerializer(written)]
"""Measurement points by name, the first of which is meant where none is named."""


@dataclass(frozen=True)
class Measurement:
    """What a network takes at a measurement point: images per second, milliseconds a batch, and the conditions."""

    median: float
    """Images/s, of blocks of batches."""
    p10: float
    p90: float
    samples: int
    """Blocks."""
    batch: int
    dtype: str
    device: str
    threads: int
    runtime: str = "torch"
    channels_last: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False
    """Whether cuDNN chose its algorithms by trying them, which depends on the moment."""
    host_bound: bool | None = None
    """Whether the same operators, launched one by one, take over 1.2 times as long; None where no graph was timed."""
    relative: float | None = None
    """Median ratio to the reference network's throughput, block by block in turn."""
    relative_p10: float | None = None
    relative_p90: float | None = None
    repeats: int = 1
    """How often it was tried; the one of least spread counts."""
    steady: bool = True
    """Whether the spread is within the study's limit."""
    clocks: dict[str, int] = field(default_factory=dict)
    """Of a GPU during the measurement, where NVML tells: `sm_mhz` (median) and `sm_mhz_least`, and `throttle`, all
    reasons of NVML's bit mask that were seen."""
    calls: int = 0
    """Batches that were timed each by itself."""
    latency_p50: float | None = None
    """Median milliseconds of these."""
    latency_p99: float | None = None
    """The 99th percentile; None where there are too few for its interval."""
    latency_p99_low: float | None = None
    """Its 95 % interval, of order statistics."""
    latency_p99_high: float | None = None
    others: dict[str, float] = field(default_factory=dict)
    """What else was measured, by name of the quantity, and bounds of its 95 % interval as NAME_low and NAME_high."""

    @property
    def latency(self) -> float:
        """Median time of a batch in milliseconds; of older records the batch by the throughput."""
        return 1000 * self.batch / self.median if self.latency_p50 is None else self.latency_p50

    @property
    def spread(self) -> float:
        """Distance from p10 to p90, as a share of the median."""
        return (self.p90 - self.p10) / self.median
