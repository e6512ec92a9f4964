"""What a trial is judged by: one row a quantity, of which objectives, limits, columns, axes and help are made."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from record.measure import DEFAULT
from record.plugins import located

if TYPE_CHECKING:
    from repmlp.networks import NetworkConfig

Direction = Literal["maximize", "minimize"]
When = Literal["counted", "measured", "trained"]


@dataclass(frozen=True)
class Quantity:
    """Something that is known of a trial, as a number.

    A quantity of a user's own derives from this class, takes no arguments, and defines `count`; a study names it as
    `my_package.module:Name` among its objectives.
    """

    name: str
    """Of the objective in a study and of the column in a frame."""
    title: str
    """As people read it."""
    unit: str
    better: Direction | None = None
    """None for what is shown and is no objective."""
    when: When = "counted"
    """counted: exact before training, the same for all networks with the same converted form. measured: at each
    measurement point, before training. trained: known at the end."""
    help: str = ""
    divisor: float = 1
    """Of the value, for the unit."""
    source: str = ""
    """Attribute of a trial, or of a measurement, with dots; empty for an entry of the trial's `costs`, or of the
    `others` of its measurement or its end."""
    by: str = ""
    """What finds it out where it is asked for, as `module:function`; empty for what every trial or measurement gives.
    It takes a `search.measuring.runtimes.Subject`, or at the end of a training the trainer and the converted network.
    """
    point: str = DEFAULT
    """Of what is measured: where."""

    def count(self, network: "NetworkConfig") -> float:
        """Return the value of a network, from its converted form alone."""
        raise NotImplementedError

    @cached_property
    def getter(self) -> attrgetter:
        return attrgetter(self.source)

    def value(self, trial: Any) -> float | None:
        """Return what a `record.trial.Trial` has, or None."""
        subject = trial.measurement(self.point) if self.when == "measured" else trial.final if self.by else trial
        if subject is None:
            return None
        if not self.source:
            return (subject.costs if self.when == "counted" else subject.others).get(self.kind)
        try:
            return self.getter(subject)
        except AttributeError:  # something on the way is None
            return None

    def at(self, point: str) -> "Quantity":
        """Return the quantity of a measurement point, whose name it bears, as `throughput.bulk`."""
        if point == DEFAULT:
            return self
        return replace(self, name=f"{self.kind}.{point}", title=f"{self.title}, {point}", point=point)

    @property
    def kind(self) -> str:
        """The name without a measurement point's."""
        return self.name.partition(".")[0]

    @property
    def axis(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})"

    @property
    def limit(self) -> str:
        """Key of a limit on it, such as max_params."""
        return f"{'min' if self.better == 'maximize' else 'max'}_{self.name}"

    @property
    def maximised(self) -> bool:
        return self.better == "maximize"


QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity(
            "accuracy", "accuracy", "%", "maximize", "trained", "Percent, on the validation images.", source="accuracy"
        ),
        Quantity(
            "accuracy_int8",
            "int8 accuracy",
            "%",
            "maximize",
            "trained",
            "Percent, on the validation images, once quantized to 8 bits and run by onnxruntime.",
            by="search.training.int8:accuracy_int8",
        ),
        Quantity(
            "throughput",
            "throughput",
            "img/s",
            "maximize",
            "measured",
            "Images/s of the converted network, as the study measures.",
            source="median",
        ),
        Quantity(
            "latency",
            "latency",
            "ms a batch",
            "minimize",
            "measured",
            "Median milliseconds that the converted network takes for a batch, each timed by itself.",
            source="latency",
        ),
        Quantity(
            "latency_p99",
            "latency p99",
            "ms a batch",
            "minimize",
            "measured",
            "Milliseconds within which 99 of 100 batches are through.",
            source="latency_p99",
        ),
        Quantity(
            "relative",
            "throughput",
            "x base",
            None,
            "measured",
            "Throughput in that of the study's plainest network, measured in turn.",
            source="relative",
        ),
        Quantity(
            "peak_memory",
            "peak memory",
            "MB",
            "minimize",
            "measured",
            "Memory that inference needs at most, weights included: of the GPU, or what a process grows by.",
            divisor=1e6,
            by="search.measuring.memory:peak_memory",
        ),
        Quantity(
            "size",
            "file size",
            "MB",
            "minimize",
            "measured",
            "Bytes of the exported file that the runtime reads; for PyTorch's, of the weights.",
            divisor=1e6,
            by="search.measuring.size:size",
        ),
        Quantity(
            "energy",
            "energy",
            "mJ an image",
            "minimize",
            "measured",
            "Joules an image of the GPU, or of the processor's packages, read from their meters.",
            divisor=1e-3,
            by="search.measuring.energy:energy",
        ),
        Quantity(
            "macs",
            "FLOPs",
            "M",
            "minimize",
            help="Multiply-accumulates of the converted network, the paper's FLOPs.",
            divisor=1e6,
        ),
        Quantity("params", "params", "M", "minimize", help="Parameters of the converted network.", divisor=1e6),
        Quantity("seconds", "training", "s", None, "trained", "Seconds of training.", source="seconds"),
    )
}
"""Those that are always there, by name; what is measured, at the first measurement point."""


@lru_cache
def own_quantity(name: str) -> Quantity:
    """Return a quantity of a user's own, named as `my_package.module:Name`.

    Raises:
        ValueError: if there is none.
    """
    own = located(name)
    if not (isinstance(own, type) and issubclass(own, Quantity)):
        raise ValueError(f"{name} must be a class derived from record.quantities.Quantity")
    return own()  # type: ignore[call-arg]


def quantity(name: str, points: Sequence[str] = (DEFAULT,)) -> Quantity:
    """Return a quantity that can be an objective, by its name or, a user's own, as `my_package.module:Name`.

    Args:
        name: of what is measured, the name of a measurement point may follow, as in `throughput.bulk`; without one the
            first point is meant.
        points: names of the measurement points.

    Raises:
        ValueError: if there is none.
    """
    if ":" in name:
        return own_quantity(name)
    kind, _, point = name.partition(".")
    found = QUANTITIES.get(kind)
    if found is None or found.better is None:
        raise ValueError(f"{name!r} must be one of {', '.join(objectives())}, or my_package.module:Name of your own")
    if point and (found.when != "measured" or point not in points):
        there = f"the measurement points {', '.join(points)}" if found.when == "measured" else "no measurement point"
        raise ValueError(f"{name} is not there: {kind} has {there}")
    return found.at(point or points[0]) if found.when == "measured" else found


def objectives() -> list[str]:
    """Return the names of the known quantities that can be objectives."""
    return [name for name, q in QUANTITIES.items() if q.better is not None]


def everywhere(points: Collection[str]) -> list[Quantity]:
    """Return all known quantities, those that are measured for each measurement point, the first point first."""
    found: list[Quantity] = []
    for q in QUANTITIES.values():
        found += [q.at(point) for point in points] if q.when == "measured" else [q]
    return found


def limits(quantities: Sequence[Quantity] = tuple(QUANTITIES.values())) -> dict[str, Quantity]:
    """Return the quantities that can be limited, by key."""
    return {q.limit: q for q in quantities if q.better is not None}


def excess(values: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Return each limit's relative excess, 0 or less where it is kept, for the values that are known.

    Args:
        values: by name of the quantity.
        given: limits by key, such as max_params.
    """
    found = {}
    for key, limit in given.items():
        bound, _, name = key.partition("_")
        if name in values:
            share = values[name] / limit - 1
            found[key] = share if bound == "max" else -share
    return found
