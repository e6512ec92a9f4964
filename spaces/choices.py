"""What a trial is asked: one of the values that a space offers, of those that fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol, TypeVar

from repmlp.config import positive

T = TypeVar("T")


class Trial(Protocol):
    """The part of Optuna's trials that spaces use."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of `choices`."""


class Parameter(str):
    """The name of a parameter as a sampler knows it, which wants the choices of a name fixed.

    A parameter that cannot offer all of its values carries in it those that it offers; `plain` is the name alone.
    """

    plain: str

    def __new__(cls, plain: str, offered: Sequence[Any] = ()) -> "Parameter":
        name = super().__new__(cls, f"{plain} of {', '.join(map(str, offered))}" if offered else plain)
        name.plain = plain
        return name


def plain_name(name: str) -> str:
    """Return the name of a parameter alone."""
    return name.plain if isinstance(name, Parameter) else name


class Recorded:
    """Another trial, with a note of what it was asked, by the plain names of the parameters."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return the other trial's choice."""
        value = self.trial.suggest_categorical(name, choices)
        self.params[plain_name(name)] = value
        return value


class Plainest:
    """A trial that leaves RepMLP out where it can, and else takes what is offered first: the baseline of a space."""

    plain: Any = None
    """The value without RepMLP of the parameter that `choose` asks for."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return a choice."""
        return self.taken(name, choices)

    def taken(self, name: str, choices: Sequence[Any]) -> Any:
        """Return a choice of a parameter, or the only value of what is none."""
        plain, self.plain = self.plain, None
        return plain if plain in choices else choices[0]


class Preset(Plainest):
    """A trial that takes wanted values where they are offered, and else is as plain as possible.

    Args:
        wanted: values by the plain name of the parameter.
    """

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.wanted = wanted
        self.params: dict[str, Any] = {}
        """What was asked, by the names that samplers know, with the values taken."""
        self.asked: set[str] = set()
        self.refused: dict[str, Sequence[Any]] = {}
        """Wanted, but not among these."""

    @property
    def fits(self) -> bool:
        """Whether everything wanted was asked, and offered."""
        return not self.refused and set(self.wanted) <= self.asked

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return a choice."""
        self.params[name] = self.taken(name, choices)
        return self.params[name]

    def taken(self, name: str, choices: Sequence[Any]) -> Any:
        """Return a choice, and note what was wanted in vain."""
        known = plain_name(name)
        self.asked.add(known)
        if known in self.wanted:
            offered = [c for c in choices if written(c) == written(self.wanted[known])]
            if offered:
                return offered[0]
            self.refused[known] = choices
        return super().taken(name, choices)


def written(value: Any) -> str:
    """Return a value as it is compared: a list of YAML, a tuple and the text of either are the same."""
    return str(value).translate(str.maketrans("[]", "()")).replace(",)", ")")


def choose(
    trial: Trial, name: str, values: Sequence[T], fits: Callable[[T], bool] = lambda _: True, plain: T | None = None
) -> T:
    """Let `trial` choose one of the values that fit; `plain` is the one that leaves RepMLP out.

    One that fits alone is no parameter; a `Plainest` trial hears of it all the same.

    Raises:
        ValueError: if none fits.
    """
    offered: dict[Any, T] = {v if isinstance(v, int | float | str) else str(v): v for v in values if fits(v)}
    if not offered:
        raise ValueError(f"{name}: none of {', '.join(map(str, values))} fits; offer smaller values in the space.")
    if isinstance(trial, Plainest):
        trial.plain = plain
    if len(offered) == 1:
        if isinstance(trial, Plainest):
            trial.taken(name, list(offered))
        return next(iter(offered.values()))
    parameter = Parameter(name, list(offered) if len(offered) < len(set(values)) else ())
    return offered[trial.suggest_categorical(parameter, list(offered))]


def fitting(values: Sequence[T], fits: Callable[[T], bool]) -> list[T]:
    """Return the values that fit, or all of them if none does, so that a later choice says why."""
    return [v for v in values if fits(v)] or list(values)


def check_offers(space: Any) -> None:
    """Raise ValueError if a field of `space` offers nothing."""
    for field in fields(space):
        if getattr(space, field.name) == ():
            raise ValueError(f"{field.name} must offer at least one value.")


def check_positive(space: Any, *names: str) -> None:
    """Raise ValueError unless the values that these fields offer are positive integers."""
    for name in names:
        for value in getattr(space, name):
            positive(value, name)


def check_stages(space: Any, *names: str) -> None:
    """Raise ValueError unless what these fields offer, a tuple a stage, are positive integers, at least one a stage."""
    for name in names:
        for number, values in enumerate(getattr(space, name), start=1):
            if not values or min(values) < 1:
                raise ValueError(f"{name} of stage {number} are {values}; give positive integers, such as [16, 32].")
            for value in values:
                positive(value, name)
