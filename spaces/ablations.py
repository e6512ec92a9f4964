"""Ablations: a base network and named variants of it, all trained alike."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from repmlp.config import Size
from repmlp.networks import NetworkConfig
from spaces.choices import Trial, choose
from spaces.named import WAYS, named
from spaces.variants import changed, sweep

BASE = {"table": 1, "row": "Pure MLP"}


@dataclass(frozen=True, kw_only=True)
class AblationSpace:
    """An ablation: a base network and named variants of it, to be trained with the same seeds."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012
    images: ClassVar[tuple[int, Size, int]] = (3, (32, 32), 10)

    name: Literal["ablation"] = "ablation"
    base: dict[str, Any] = field(default_factory=lambda: dict(BASE))
    """A configuration (`kind`), a builder's arguments (`build`), or `table` and `row` of the paper."""
    base_name: str = ""
    """What the base is called; the row of the paper, or "base", if it is not given."""
    variants: dict[str, str | dict[str, Any]] = field(default_factory=lambda: {"w/o Local": "without_local"})
    """Name to a change (see `spaces.variants`): one by name, such as `without_local`; some with values, such as
    `{fc3_as_conv: 9}`; fields with dots, such as `{stages.*.block.groups: 4}`; or a network of its own, as the base
    is."""
    sweeps: dict[str, list[Any]] = field(default_factory=dict)
    """More variants: one for each value of a change, such as `{groups: [1, 2, 4]}`; `kernels_alone` and
    `kernels_cumulative` take kernels."""
    table: int | None = None
    """Table of the paper whose rows of the same names `analyze.py ablation --paper` sets beside ours."""

    def __post_init__(self) -> None:
        if not self.variants and not self.sweeps:
            raise ValueError("variants must name at least one change, such as {w/o Local: without_local}.")
        if self.first in self.changes:
            raise ValueError(f"a variant is called {self.first!r} as the base is; give one of them another name.")

    @property
    def first(self) -> str:
        """Return the name of the base."""
        return self.base_name or str(self.base.get("row", "base"))

    @cached_property
    def changes(self) -> dict[str, str | dict[str, Any]]:
        """Return all variants by name."""
        swept = [sweep(name, values) for name, values in self.sweeps.items()]
        return {**self.variants, **{name: change for variants in swept for name, change in variants.items()}}

    @property
    def names(self) -> list[str]:
        """Return the names of all networks, the base first."""
        return [self.first, *self.changes]

    def suggest(self, trial: Trial, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Ask `trial` for one of the networks, for images of `in_channels` and `size`.

        Raises:
            ValueError: naming the variant, if its change does not fit the base.
        """
        return self.network(choose(trial, "network", self.names), in_channels, size, classes)

    def network(self, name: str, in_channels: int, size: Size, classes: int) -> NetworkConfig:
        """Return the network of that name."""
        base = named(self.first, self.base, in_channels, size, classes)
        if name == self.first:
            return base
        change = self.changes[name]
        if isinstance(change, dict) and not set(WAYS).isdisjoint(change):
            return named(name, change, in_channels, size, classes)
        try:
            result = changed(base, change)
        except ValueError as error:
            raise ValueError(f"variant {name!r}: {error}") from None
        if result == base and name in self.variants and change != "before_conversion":
            raise ValueError(f"variant {name!r} is the base itself, since {change} changes nothing there.")
        return result

    def count(self, in_channels: int, size: Size, classes: int) -> int:
        """Return the number of different networks."""
        return len({self.network(name, in_channels, size, classes) for name in self.names})
