"""A study, whole: what is varied, on which data, how it is trained and measured, and what is wanted of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from record.folders import elsewhere, folder_at
from record.judged import Judged
from record.measure import DEFAULT, Point, Points
from record.plugins import Plugged, import_path, named, path_of
from record.quantities import QUANTITIES, Quantity
from record.recipe import MANY, Recipe
from record.resources import Resources
from spaces.ablations import AblationSpace
from spaces.cifar_mlp import CifarMLPSpace


class StudyError(ValueError):
    """A study that cannot be run; the message names the key, the value and what would be right."""


class Study(Judged, BaseModel):
    """What a search and a comparison share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Names the run folder."""
    space: Annotated[Any, Plugged("space")] = CifarMLPSpace()
    """Chosen by its `name`; `python run_search.py --spaces` lists them. Or your own, as `my_package.module:Name`."""
    data: Annotated[Any, Plugged("data", "mnist5k")] = Field(default_factory=lambda: named("data", "mnist5k")())
    """Where images come from, chosen by `name`; `search/data/` has a file a set."""
    training: Recipe = Recipe()
    seed: int = Field(default=0, ge=0, lt=1 << 31)
    objectives: tuple[str | type[Quantity], ...] = ("accuracy", "throughput")
    """accuracy, and one or more of throughput, latency, latency_p99, peak_memory, size, energy, macs, params,
    accuracy_int8, or your own quantity: its class, which is kept as `my_package.module:Name`. What is measured may name
    its point, as throughput.bulk; without one the first point of `measure` is meant."""
    limits: dict[str, Annotated[float, Field(gt=0)]] = {}
    """What a candidate may cost; one over a limit is not trained. max_params, max_macs, max_latency (ms that the
    converted network takes for a batch) and so on, min_throughput (images/s), and max_ or min_ with the name of your
    own objective; of a measurement point, such as max_latency_p99.served."""
    measure: Points = Field(default_factory=lambda: {DEFAULT: Point()})
    """Under which conditions the speed is measured: the keys of one point, such as {batch: 128}, or several points by
    name, such as {served: {batch: 1, runtime: onnx}, bulk: {batch: 128}}, beside keys that they share. Points that no
    objective or limit names are measured for the front alone; but for the first, and all where networks are listed."""
    also: tuple[str, ...] = ()
    """What else to find out of each trained network though no objective names it: accuracy_int8, its accuracy once it
    is quantized to 8 bits."""
    resources: Resources = Resources()
    storage: str | None = None
    """Optuna storage URL, such as sqlite:///study.db; None keeps a journal in the run folder."""
    runs: str = "runs"
    """Folder of the run folders; also one elsewhere, such as s3://bucket/runs, which all workers reach."""

    @field_validator("objectives", mode="before")
    @classmethod
    def by_name(cls, value: Any) -> Any:
        """Write classes of a user's own as their paths."""
        if not isinstance(value, list | tuple):
            return value
        return tuple(import_path(v) if isinstance(v, type) else v for v in value)

    @field_validator("objectives")
    @classmethod
    def check_objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "accuracy" not in value or len(value) < 2 or len(set(value)) < len(value):
            others = ", ".join(q.name for q in QUANTITIES.values() if q.better and q.name != "accuracy")
            raise ValueError(f"name accuracy and at least one of {others}, each once")
        return value

    @field_validator("runs")
    @classmethod
    def check_runs(cls, value: str) -> str:
        if "://" in value and not elsewhere(value):
            raise ValueError("give the path of a folder here, or a URL that fsspec knows, such as s3://bucket/runs")
        folder_at(value)
        return value

    @field_validator("limits", mode="before")
    @classmethod
    def drop_absent(cls, value: Any) -> Any:
        """Leave out limits that are null, and join keys that dots on the command line have parted."""
        if not isinstance(value, Mapping):
            return value
        parts = {k: v if isinstance(v, Mapping) else {"": v} for k, v in value.items()}
        whole = {f"{k}.{point}" if point else k: v for k, part in parts.items() for point, v in part.items()}
        return {k: v for k, v in whole.items() if v is not None}

    @model_validator(mode="after")
    def check_quantities(self) -> "Study":
        self.check_judged()
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

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, of which nothing is remembered that followed from the old ones."""
        copied = super().model_copy(update=update, deep=deep)
        for name in set(vars(copied)) - set(type(self).model_fields):
            del copied.__dict__[name]
        return copied

    @property
    def listed(self) -> list[str]:
        """Names of the networks that are all trained with each seed; none in a search."""
        return []

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs at which trials are paused and compared."""
        return ()

    @property
    def budgets(self) -> tuple[int, ...]:
        """Epochs at which trials are compared: the rungs, and the full budget."""
        return (*self.rungs, self.training.epochs)

    @property
    def budget(self) -> int:
        """Trainings that the study asks for."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """The run folder; one elsewhere is of universal_pathlib, which does what paths of pathlib do."""
        return folder_at(self.runs) / self.name

    @property
    def local(self) -> Path:
        """Where what stays on this machine is, such as locks: the run folder, or runs/NAME if that is elsewhere."""
        return Path("runs" if elsewhere(self.runs) else self.runs) / self.name

    def settled(self, precision: str) -> "Study":
        """Return the study with a definite precision: its own, or this one if it leaves that open."""
        if self.training.precision != "auto":
            return self
        return self.model_copy(update={"training": self.training.model_copy(update={"precision": precision})})


class Search(Study):
    """A search: candidates of a space are tried, and the best go on."""

    trials: int = Field(default=20, ge=1, le=MANY)
    """Candidates to train; duplicates and those over a limit do not count. A larger number continues the study."""
    sampler: str | dict[str, Any] | type = "surrogate"
    """surrogate, random, tpe, nsga2, gp or local; or your own: its class, which is kept as `my_package.module:Name`, or
    {name: ..., and its arguments}."""
    start_with: tuple[Literal["paper"] | dict[str, Any], ...] = ()
    """Networks to try first: parameters of the space by name, such as {stage1.kind: repmlp}, what is left out being as
    plain as possible; paper, for the networks of Tables 2-4 that the space holds; or any network to set beside the
    space's, described as `fixed` does, such as {build: timm, model: repvit_m0_9}."""
    from_runs: tuple[str, ...] = ()
    """Earlier runs (folders, or URL#NAME). Their results are taken over if data, training and, where speed counts,
    measurement are the same; else the search starts with the networks of their fronts."""
    scheduler: Annotated[Any, Plugged("scheduler", "halving")] = Field(
        default_factory=lambda: named("scheduler", "halving")()
    )
    """halving stops trials early, asynchronously; full trains every candidate to the end. `halving: {...}` and
    `halving: null` are short for these."""

    @model_validator(mode="before")
    @classmethod
    def spell_out(cls, values: Any) -> Any:
        """Write the short form of the scheduler in full."""
        if not isinstance(values, Mapping) or "halving" not in values:
            return values
        values = dict(values)
        short = values.pop("halving")
        if "scheduler" in values:
            raise ValueError("halving is short for scheduler: give one of the two")
        return {**values, "scheduler": {"name": "full"} if short is None else short}

    @field_validator("sampler", mode="before")
    @classmethod
    def check_sampler(cls, value: Any) -> Any:
        """Write a class as its path, and see that it is there."""
        if isinstance(value, type):
            return path_of("sampler", value)
        if isinstance(value, Mapping) and isinstance(value.get("name"), type):
            return {**value, "name": path_of("sampler", value["name"])}
        name = value.get("name") if isinstance(value, Mapping) else value
        if isinstance(name, str):
            named("sampler", name)
        elif isinstance(value, Mapping):
            raise ValueError("name is missing: it says which sampler is meant")
        return value

    @model_validator(mode="after")
    def check_space(self) -> "Search":
        if isinstance(self.space, AblationSpace):
            raise ValueError("an ablation needs seeds, such as seeds: 3; fewer let nothing be concluded")
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        return tuple(self.scheduler.rungs(self.training.epochs))

    @property
    def budget(self) -> int:
        return self.trials


class Comparison(Study):
    """A comparison: the networks that a space lists are all trained to the end, with the same seeds."""

    seeds: int = Field(default=3, ge=1, le=10_000)
    """Each network is trained with so many, `seed` and those after it, one seed after the other, so that a stopped
    study is balanced. A larger number continues the study."""
    test: bool = True
    """The converted networks are scored on the test images too, which nothing is chosen by."""

    @model_validator(mode="after")
    def check_space(self) -> "Comparison":
        if not hasattr(self.space, "names"):
            raise ValueError(
                f"seeds={self.seeds} is for the spaces ablation and fixed, which list networks; "
                f"{getattr(self.space, 'name', type(self.space).__name__)} is searched, so leave it out"
            )
        return self

    @property
    def listed(self) -> list[str]:
        return list(self.space.names)

    @property
    def budget(self) -> int:
        return len(self.listed) * self.seeds


def study_of(values: Mapping[str, Any]) -> Study:
    """Return the study that plain values describe: with `seeds` a comparison, else a search.

    Raises:
        ValidationError: of pydantic.
    """
    return kind_of(values).model_validate(values)


def kind_of(values: Mapping[str, Any]) -> type[Study]:
    """Return the class of the study that plain values describe."""
    return Comparison if values.get("seeds") is not None else Search
