"""What the trials of a study are judged by: its quantities, limits and measurement points, with their names settled."""

from functools import cached_property
from typing import TYPE_CHECKING

from record.measure import DEFAULT, Point
from record.quantities import QUANTITIES, Quantity, everywhere, limits, quantity

if TYPE_CHECKING:
    from record.resources import Resources
    from record.trial import Trial


class Judged:
    """The part of a study that says by what its trials are judged, and where that is measured."""

    if TYPE_CHECKING:
        objectives: tuple[str | type[Quantity], ...]
        limits: dict[str, float]
        measure: dict[str, Point]
        also: tuple[str, ...]
        resources: Resources

        @property
        def listed(self) -> list[str]: ...

    def check_judged(self) -> None:
        """Raise ValueError unless the objectives, limits and measurement points go together."""
        try:
            names = [q.name for q in self.quantities]
        except ValueError as error:
            raise ValueError(f"objectives: {error}") from None
        if all(q.when == "trained" for q in self.quantities):
            raise ValueError(f"objectives: {' and '.join(names)} are known at the end alone; name a cost too")
        if len(set(names)) < len(names):
            raise ValueError(f"objectives: {' and '.join(map(str, self.objectives))} name one quantity twice")
        known = {key: q for key, q in limits(self.known).items() if q.when != "trained"}
        for key in self.limits:
            if key not in known and self.first_limit(key) not in known:
                raise ValueError(f"limits.{key} is not there; what is known without training is {', '.join(known)}")
        for q in self.quantities:
            if q.when == "measured" and not q.maximised and q.limit not in self.bounds:
                raise ValueError(
                    f"the objective {q.name} needs limits.{q.limit}, from which the hypervolume is counted, in "
                    f"{'' if q.divisor == 1 else f'{q.divisor:g} '}{q.unit}; or use another objective"
                )
        ends = [q.name for q in QUANTITIES.values() if q.when == "trained" and q.by]
        for also in self.also:
            if also not in ends:
                raise ValueError(f"also={also} is not there; there is {', '.join(ends)}")
        for name, point in self.measure.items():
            if point.device == "cuda" and self.resources.device == "cpu":
                raise ValueError(f"measure.{name}.device=cuda needs a GPU a trial, such as resources.gpus=1")
            for also in point.also:
                if (found := QUANTITIES.get(also)) is None or found.when != "measured":
                    able = ", ".join(q.name for q in QUANTITIES.values() if q.when == "measured")
                    raise ValueError(f"measure.{name}.also={also} is not measured; there are {able}")

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """The objectives, in order."""
        return tuple(quantity(str(name), tuple(self.measure)) for name in self.objectives)

    @cached_property
    def known(self) -> tuple[Quantity, ...]:
        """All quantities that its trials may have, what is measured once for each measurement point."""
        there = everywhere(tuple(self.measure))
        return (*there, *(q for q in self.quantities if q.name not in {t.name for t in there}))

    @cached_property
    def measured(self) -> tuple[Quantity, ...]:
        """What is measured and judged by."""
        return tuple(dict.fromkeys(q for q in self.counting if q.when == "measured"))

    @property
    def first(self) -> str:
        """The measurement point that is meant where none is named."""
        return next(iter(self.measure))

    def first_limit(self, key: str) -> str:
        """Return the key of a limit with the first measurement point's name, which it leaves out."""
        return key if self.first == DEFAULT or "." in key else f"{key}.{self.first}"

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The limits, by keys that name their measurement points."""
        known = limits(self.known)
        return {key if key in known else self.first_limit(key): limit for key, limit in self.limits.items()}

    @cached_property
    def counting(self) -> list[Quantity]:
        """Quantities by which trials are judged: the objectives, and what is limited."""
        known = limits(self.known)
        return [*self.quantities, *(known[key] for key in self.bounds)]

    @cached_property
    def points(self) -> dict[str, Point]:
        """The measurement points, with definite devices and runtimes, and with all that is to be measured there."""
        return {name: point.settled(self.resources.device, self.asked(name)) for name, point in self.measure.items()}

    def asked(self, point: str) -> list[str]:
        """Return the kinds of quantities that count at a point."""
        return [q.kind for q in self.counting if q.when == "measured" and q.point == point]

    @property
    def asked_at_the_end(self) -> tuple[str, ...]:
        """Names of what is to be found out of each trained network beside its accuracy."""
        return tuple(dict.fromkeys((*(q.name for q in self.quantities if q.when == "trained" and q.by), *self.also)))

    @cached_property
    def early(self) -> tuple[Quantity, ...]:
        """The objectives that are known, or can be told, before a training ends: accuracy and costs."""
        return tuple(q for q in self.quantities if q.when != "trained" or q.name == "accuracy")

    @cached_property
    def needed(self) -> dict[str, Point]:
        """Points at which every trial is measured, before it trains."""
        return {n: p for n, p in self.points.items() if n == self.first or self.listed or self.asked(n)}

    @cached_property
    def confirmed(self) -> dict[str, Point]:
        """Points at which a trial of the front is measured again."""
        objectives = {q.point for q in self.quantities if q.when == "measured"}
        return {name: point for name, point in self.points.items() if name in objectives and point.confirm}

    def costs(self, trial: "Trial") -> dict[str, float]:
        """Return what is known of a trial without training: what was counted, and what was measured."""
        values = {q.name: q.value(trial) for q in self.measured}
        return {**trial.costs, **{name: value for name, value in values.items() if value is not None}}

    @property
    def own(self) -> list[Quantity]:
        """The objectives that a user brings."""
        return [q for q in self.quantities if q.kind not in QUANTITIES]

    @property
    def extra(self) -> list[Quantity]:
        """What tables show beside accuracy, throughput and counts: objectives, limits, and what else was asked for."""
        usual = ("accuracy", "throughput", "params", "macs")
        also = {(kind, name) for name, point in self.measure.items() for kind in point.also}
        counting = {q.name for q in self.counting}
        return [
            q
            for q in self.known
            if (q.kind not in usual or (q.point != self.first and q.when == "measured"))
            and (q.name in counting or (q.kind, q.point) in also or q.name in self.also)
        ]

    @property
    def maximised(self) -> list[bool]:
        """Whether more is better, an entry an objective."""
        return [q.maximised for q in self.quantities]

    @property
    def times(self) -> bool:
        """Whether what a device takes counts: as an objective or as a limit."""
        return any(q.when == "measured" for q in self.counting)
