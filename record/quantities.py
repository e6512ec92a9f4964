"""What a trial is judged by: one row a quantity, of which objectives, limits, columns, axes and help are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

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
    """counted: exact before training, the same for all networks with the same converted form. measured: on a device,
    before training. trained: known at the end."""
    help: str = ""
    divisor: float = 1
    """Of the value, for the unit."""
    source: str = ""
    """Attribute of a trial, with dots; empty for an entry of its `costs`."""

    def count(self, network: "NetworkConfig") -> float:
        """Return the value of a network, from its converted form alone."""
        raise NotImplementedError

    @cached_property
    def getter(self) -> attrgetter:
        return attrgetter(self.source)

    def value(self, trial: Any) -> float | None:
        """Return what a `record.trial.Trial` has, or None."""
        if not self.source:
            return trial.costs.get(self.name)
        try:
            return self.getter(trial)
        except AttributeError:  # something on the way is None
            return None

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
            "throughput",
            "throughput",
            "img/s",
            "maximize",
            "measured",
            "Images/s of the converted network, as the study measures.",
            source="measurement.median",
        ),
        Quantity(
            "latency",
            "latency",
            "ms a batch",
            "minimize",
            "measured",
            "Milliseconds that the converted network takes for a batch of measure.batch.",
            source="measurement.latency",
        ),
        Quantity(
            "relative",
            "throughput",
            "x base",
            None,
            "measured",
            "Throughput in that of the study's plainest network, measured in turn.",
            source="measurement.relative",
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
"""Those that are always there, by name."""


@lru_cache
def quantity(name: str) -> Quantity:
    """Return a quantity that can be an objective, by its name or, a user's own, as `my_package.module:Name`.

    Raises:
        ValueError: if there is none.
    """
    if ":" not in name:
        found = QUANTITIES.get(name)
        if found is None or found.better is None:
            raise ValueError(f"{name} must be one of {', '.join(objectives())}, or my_package.module:Name of your own")
        return found
    own = located(name)
    if not (isinstance(own, type) and issubclass(own, Quantity)):
        raise ValueError(f"{name} must be a class derived from record.quantities.Quantity")
    return own()  # type: ignore[call-arg]


def objectives() -> list[str]:
    """Return the names of the known quantities that can be objectives."""
    return [name for name, q in QUANTITIES.items() if q.better is not None]


def limits(own: Sequence[Quantity] = ()) -> dict[str, Quantity]:
    """Return the quantities that can be limited, by key, with those of a user's own."""
    return {q.limit: q for q in (*QUANTITIES.values(), *own) if q.better is not None}


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
