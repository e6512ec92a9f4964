"""A trial as it is recorded: one type, its states, and the pair of functions to and from storage."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from record.measure import DEFAULT, Measurement
from repmlp.networks import NetworkConfig, config_from_dict

if TYPE_CHECKING:  # a worker needs no Optuna
    from optuna.trial import FrozenTrial


class State(StrEnum):
    """Where a trial is on its way. The first three are RUNNING in Optuna's storage: such a trial goes on."""

    running = "running"
    paused = "paused"
    """It waits at a rung to be promoted."""
    confirming = "confirming"
    """Trained to the end; it is measured once more before it counts."""
    complete = "complete"
    stopped = "stopped"
    """Not promoted."""
    failed = "failed"
    infeasible = "infeasible"
    """Over a limit."""
    duplicate = "duplicate"
    """Another trial of the same network answered."""

    @property
    def open(self) -> bool:
        """Whether the trial has not ended."""
        return bool(FOLLOWING[self])


FOLLOWING: dict[State, frozenset[State]] = {
    State.running: frozenset(set(State) - {State.running}),
    State.paused: frozenset({State.running, State.stopped}),
    State.confirming: frozenset({State.complete}),
    **dict.fromkeys((s for s in State if s not in ("running", "paused", "confirming")), frozenset()),
}
"""What may come after each state; nothing comes after a trial's end."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """1 for the first."""
    accuracy: float
    """Percent, on the validation split: top-1, identification or mIoU."""
    loss: float
    """Mean training loss."""
    seconds: float
    """Training and evaluation."""
    details: dict[str, float] = field(default_factory=dict)
    """Other scores of the task, percent."""
    waited: float = 0.0
    """How many of these seconds passed in waiting for measurements on the same device."""


@dataclass(frozen=True)
class Final:
    """What a trial gave at full budget."""

    accuracy: float
    """Of the converted network on the validation split, percent."""
    conversion_error: float = 0.0
    """Largest difference of converted and trained outputs on it, relative to the largest output."""
    details: dict[str, float] = field(default_factory=dict)
    """Other scores of the converted network, percent."""
    images: int | None = None
    """Validation images that were judged right or wrong; None where the score is no share of images."""
    test: dict[str, float] | None = None
    """Scores of the converted network on the test images, percent; None if they were left alone."""
    test_images: int | None = None
    others: dict[str, float] = field(default_factory=dict)
    """What else was found out, by name of the quantity."""


@dataclass
class Trial:
    """One trial. Only the journal writes it."""

    number: int
    params: dict[str, Any] = field(default_factory=dict)
    """What its space asked, by the parameters' names."""
    config: dict[str, Any] = field(default_factory=dict)
    """The canonical network, as plain values; empty if it ended before one was chosen."""
    training_id: str = ""
    deploy_id: str = ""
    costs: dict[str, float] = field(default_factory=dict)
    """What is counted before training: `params` and `macs` of the converted network, and more where it is asked for."""
    seed: int = 0
    granted: int = 0
    """Epochs that it may train for until it is promoted."""
    state: State = State.running
    reason: str = ""
    twin: int | None = None
    """Number of the trial of the same network, if that one answers for this."""
    retried: bool = False
    """Whether it ran out of memory once."""
    note: str = ""
    """What did not go as the study has it, in a sentence."""
    origin: str = ""
    """The trial of an earlier run whose results these are."""
    measured: dict[str, Measurement] = field(default_factory=dict)
    """By measurement point."""
    confirmed: dict[str, Measurement] = field(default_factory=dict)
    """Second measurements, from before the trial ended; nothing that has ended changes."""
    curve: list[EpochResult] = field(default_factory=list)
    final: Final | None = None
    start: datetime | None = None
    end: datetime | None = None

    @property
    def training(self) -> tuple[str, int]:
        """What it trains: network and seed."""
        return self.training_id, self.seed

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state.open

    @cached_property
    def network(self) -> NetworkConfig:
        """Its configuration.

        Raises:
            ValueError: if the code of today does not know it.
        """
        return config_from_dict(self.config)

    def measurement(self, point: str = DEFAULT) -> Measurement | None:
        """Return the measurement that counts at a point: the second, where there is one."""
        return self.confirmed.get(point) or self.measured.get(point)

    @property
    def accuracy(self) -> float | None:
        """Percent, of the converted network at full budget."""
        return self.final.accuracy if self.final else None

    @property
    def seconds(self) -> float:
        """Of training."""
        return sum(result.seconds for result in self.curve)


PLAIN = [
    f.name
    for f in fields(Trial)
    if f.name not in ("number", "state", "measured", "confirmed", "curve", "final", "start", "end")
]
"""Fields that are stored as they are, under their names."""
MEASUREMENTS = {"measured": "throughput", "confirmed": "confirmed"}
"""Fields that hold a measurement a point: their name in storage, which the name of the point follows."""


def stored(trial: Trial, names: Iterable[str]) -> dict[str, Any]:
    """Return some fields of a trial as the attributes, of plain values, that storage has of them.

    Of the curve it is the last epoch, as each is written once: rewriting a list would grow with its square. A single
    measurement is named as measured.POINT or confirmed.POINT.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name == "curve":
            found[f"epoch {trial.curve[-1].epoch}"] = asdict(trial.curve[-1])
        elif name == "state":
            found["outcome"] = str(trial.state)
        elif name == "final":
            found[name] = asdict(cast(Final, trial.final))
        elif (whose := name.partition(".")[::2])[0] in MEASUREMENTS:
            found[key_of(*whose)] = asdict(getattr(trial, whose[0])[whose[1]])
        else:
            found[name] = getattr(trial, name)
    return found


def key_of(field: str, point: str) -> str:
    """Return the attribute of a measurement in storage."""
    return MEASUREMENTS[field] if point == DEFAULT else f"{MEASUREMENTS[field]} {point}"


def restored(frozen: "FrozenTrial", attributes: Mapping[str, Any], epochs: int) -> Trial:
    """Return the trial that storage has.

    Args:
        frozen: Optuna's view of it.
        attributes: its own in the format of today, see `record.stored`.
        epochs: the full budget, which tells a trial that waits at a rung from one that was trained to the end.
    """
    trial = Trial(frozen.number, **{name: attributes[name] for name in PLAIN if name in attributes})
    if attributes.get("final"):
        trial.final = Final(**attributes["final"])
    for name, prefix in MEASUREMENTS.items():
        keys = {key: key.removeprefix(prefix).strip() or DEFAULT for key in attributes if key.split(" ")[0] == prefix}
        found = {point: Measurement(**attributes[key]) for key, point in keys.items() if attributes[key]}
        setattr(trial, name, found)
    while (result := attributes.get(f"epoch {len(trial.curve) + 1}")) is not None:
        trial.curve.append(EpochResult(**result))
    trial.start, trial.end = frozen.datetime_start, frozen.datetime_complete
    if frozen.state.is_finished():
        trial.state = State(attributes.get("outcome", "failed"))
    elif trial.final is not None and trial.twin is None:
        trial.state = State.confirming
    elif 0 < trial.granted <= len(trial.curve) < epochs:
        trial.state = State.paused
    return trial
