"""The study: what a YAML file and `key=value` overrides say, validated."""

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from search.data import DataConfig
from search.measuring.throughput import MeasureConfig
from search.training.precision import Precision, native
from search.training.trainer import Recipe
from spaces.ablations import AblationSpace
from spaces.catalogue import SPACES, Space
from spaces.cifar_mlp import CifarMLPSpace
from spaces.fixed import FixedSpace

Objective = Literal["accuracy", "throughput", "latency", "macs", "params"]
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "accuracy": "maximize",
    "throughput": "maximize",
    "latency": "minimize",
    "macs": "minimize",
    "params": "minimize",
}


class StudyError(ValueError):
    """A study that cannot be run; the message names the key, the value and what would be right."""


class Limits(BaseModel):
    """What a candidate may cost; one over a limit is not trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_params: int | None = Field(default=None, gt=0)
    max_macs: int | None = Field(default=None, gt=0)
    min_throughput: float | None = Field(default=None, gt=0)
    """Images/s of the converted network, as the study measures it."""

    max_latency: float | None = Field(default=None, gt=0)
    """Milliseconds that the converted network takes for a batch of `measure.batch`."""

    def excess(self, costs: Mapping[str, float]) -> dict[str, float]:
        """Return each limit's relative excess, 0 or less where it is kept, for the costs that are known so far."""
        found = {}
        for name, limit in self.model_dump(exclude_none=True).items():
            bound, _, cost = name.partition("_")
            if cost in costs:
                share = costs[cost] / limit - 1
                found[name] = share if bound == "max" else -share
        return found


class HalvingConfig(BaseModel):
    """When trials are stopped early."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_rung: int | None = Field(default=None, ge=1)
    """Epochs before trials are first compared; later rungs come after `factor` times as many. null takes a 27th of the
    full budget, at least 1."""
    factor: int = Field(default=3, ge=2)
    """The best 1/factor of the trials that reached a rung go on."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which trials are compared, all below `epochs`."""
        found, rung = [], self.first_rung or max(1, round(epochs / 27))
        while rung < epochs:
            found.append(rung)
            rung *= self.factor
        return tuple(found)


class Resources(BaseModel):
    """What a trial gets, and how many run at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    concurrent: int = Field(default=2, ge=1)
    cpus: float = Field(default=1, gt=0)
    """CPUs a trial; it runs as many threads."""
    gpus: float = Field(default=0, ge=0)
    """GPUs a trial; a fraction lets several share one. 0 trains on the CPU."""
    workers: int = Field(default=1, ge=1)
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


class Study(BaseModel):
    """A search, an ablation or a full training: space, data, recipe, budget and what is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Names the run folder."""
    space: Annotated[Space, Field(discriminator="name")] = CifarMLPSpace()
    """Chosen by its `name`; `python run_search.py --spaces` lists them."""
    data: DataConfig = DataConfig()
    training: Recipe = Recipe()
    trials: int = Field(default=20, ge=1)
    """Candidates to train; duplicates and those over a limit do not count. A larger number continues the study."""
    seed: int = Field(default=0, ge=0)
    seeds: int | None = Field(default=None, ge=1)
    """For spaces that list networks (ablation, fixed): each is trained to the end with so many seeds, `seed` and those
    after it, one seed after the other, so that a stopped study is balanced; `trials`, `sampler` and `halving` have no
    effect. A larger number continues the study. null searches."""
    test: bool = True
    """With `seeds`: the converted networks are scored on the test images too, which nothing is chosen by."""
    sampler: Literal["surrogate", "random", "tpe", "nsga2", "gp", "local"] = "surrogate"
    start_with: tuple[Literal["paper"] | dict[str, Any], ...] = ()
    """Networks to try first: parameters of the space by name, such as {stage1.kind: repmlp}, what is left out being as
    plain as possible; or paper, for the networks of Tables 2-4 that the space holds."""
    from_runs: tuple[str, ...] = ()
    """Earlier runs (folders, or URL#NAME). Their results are taken over if data, training and, where speed counts,
    measurement are the same; else the search starts with the networks of their fronts."""
    objectives: tuple[Objective, ...] = ("accuracy", "throughput")
    limits: Limits = Limits()
    halving: HalvingConfig | None = HalvingConfig()
    """null trains every candidate to the end."""
    measure: MeasureConfig = MeasureConfig()
    resources: Resources = Resources()
    storage: str | None = None
    """Optuna storage URL, such as sqlite:///study.db; None keeps a journal in the run folder."""
    runs: str = "runs"
    """Folder of the run folders."""

    @field_validator("objectives")
    @classmethod
    def check_objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "accuracy" not in value or len(value) < 2 or len(set(value)) < len(value):
            raise ValueError("name accuracy and at least one of throughput, latency, macs, params, each once")
        return value

    @model_validator(mode="after")
    def check_flip(self) -> "Study":
        if self.data.name == "mnist5k" and self.data.flip:
            raise ValueError("data.flip=true mirrors digits, which changes what they mean; leave it false for mnist5k")
        return self

    @model_validator(mode="after")
    def check_latency(self) -> "Study":
        if "latency" in self.objectives and self.limits.max_latency is None:
            raise ValueError(
                "the objective latency needs limits.max_latency, in ms a batch, from which the hypervolume is counted; "
                "or use throughput"
            )
        return self

    @model_validator(mode="after")
    def check_mixup(self) -> "Study":
        if self.training.mixup and self.data.task != "classification":
            raise ValueError(f"training.mixup={self.training.mixup:g} is for classification; set it to 0 here")
        return self

    @model_validator(mode="after")
    def check_workers(self) -> "Study":
        batch, workers = self.training.batch, self.resources.workers
        if batch % workers:
            raise ValueError(
                f"training.batch={batch} cannot be shared evenly by resources.workers={workers}; use a multiple of it, "
                f"such as {batch - batch % workers or workers}"
            )
        return self

    @model_validator(mode="after")
    def check_sync_bn(self) -> "Study":
        if self.training.sync_bn and not (self.resources.gpus and self.resources.workers > 1):
            raise ValueError(
                "training.sync_bn=true is for several GPUs a trial, such as resources.workers=2 resources.gpus=1; "
                "leave it false here"
            )
        return self

    @model_validator(mode="after")
    def check_seeds(self) -> "Study":
        if self.seeds is None and isinstance(self.space, AblationSpace):
            raise ValueError("an ablation needs seeds, such as seeds: 3; fewer let nothing be concluded")
        if self.seeds is not None and not isinstance(self.space, AblationSpace | FixedSpace):
            raise ValueError(
                f"seeds={self.seeds} is for the spaces ablation and fixed, which list networks; {self.space.name} is "
                "searched, so leave it out"
            )
        return self

    @property
    def listed(self) -> list[str]:
        """Names of the networks that are all trained with each seed; none in a search."""
        return self.space.names if self.seeds and isinstance(self.space, AblationSpace | FixedSpace) else []

    @property
    def budget(self) -> int:
        """Trainings that the study asks for."""
        return len(self.listed) * (self.seeds or 0) or self.trials

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are paused and compared."""
        return self.halving.rungs(self.training.epochs) if self.halving and not self.listed else ()

    @property
    def budgets(self) -> tuple[int, ...]:
        """Epochs at which trials are compared: the rungs, and the full budget."""
        return (*self.rungs, self.training.epochs)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.runs) / self.name

    def settled(self, precision: Precision | None = None) -> "Study":
        """Return the study with a definite precision: its own, else `precision`, else that of its device here."""
        if self.training.precision != "auto":
            return self
        found = precision or native(self.resources.device)
        return self.model_copy(update={"training": self.training.model_copy(update={"precision": found})})

    def identity(self) -> dict[str, Any]:
        """Return what must stay the same for a run to be continued: all but budget, place and resources."""
        same = self.model_dump(mode="json", exclude={"trials", "resources", "storage", "runs"})
        return {**same, "seeds": self.seeds and 1}  # whether, not how many


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and merge `key=value` overrides, such as `training.epochs=3`.

    Raises:
        StudyError: naming what is wrong, where, and what would be right.
    """
    try:
        loaded = OmegaConf.load(path)
        if not OmegaConf.is_dict(loaded):
            raise StudyError(f"{path} must be a mapping of keys to values, such as `trials: 20`.")
        merged = OmegaConf.merge({"name": path.stem}, loaded, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist; ready-made studies are in studies/.") from None
    except (OmegaConfBaseException, ValueError, OSError) as error:
        raise StudyError(f"{path} cannot be read as YAML with key=value overrides: {first_line(error)}") from None
    except Exception as error:
        if "yaml" not in type(error).__module__:
            raise
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise StudyError(f"{path}: " + "; ".join(explain(e) for e in error.errors()[:3])) from None


def explain(error: Any) -> str:
    """Turn one of pydantic's errors into a phrase: key, value, rule, and for an unknown key the nearest known one."""
    key = ".".join(without_tag(error["loc"]))
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = f"{key}.name={error['ctx']['tag']!r}" if "tag" in error["ctx"] else f"{key}.name is missing: it"
        return f"{given} must be one of {', '.join(SPACES)}."
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = known_keys(error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
        return f"unknown key {key}; {hint}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if error["type"] == "tuple_type":
        message = "should be a list, such as [1, 2]"
    elif error["type"].endswith(("model_type", "model_attributes_type")):
        message = "should be a mapping of keys to values"
    if error["type"] == "value_error" and isinstance(error["input"], Mapping):  # the message names field and value
        return f"{key}: {message}." if key else f"{message}."
    return f"{key}={error['input']!r}: {message}."


def without_tag(path: Sequence[int | str]) -> list[str]:
    """Return a place in a study as it is written there: pydantic puts the name of a space behind `space`."""
    names = [str(name) for name in path]
    return names[:1] + names[2:] if names[:1] == ["space"] else names


def known_keys(path: Sequence[int | str]) -> list[str]:
    """Return the keys of the part of a study at `path`."""
    schema: Any = Study.model_json_schema()
    part = schema
    for name in path:
        tags = part.get("discriminator", {}).get("mapping", {})
        part = {"$ref": tags[name]} if name in tags else part.get("properties", {}).get(str(name), {})
        for option in [part, *part.get("anyOf", [])]:
            if "$ref" in option:
                part = schema["$defs"][option["$ref"].rpartition("/")[2]]
    return list(part.get("properties", {}))


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
