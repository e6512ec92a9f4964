"""Ids survive what configurations learn later; what they are today is in tests/test_summary.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from typing import Any

import pytest

from repmlp import config_to_dict, deploy_id, training_id
from repmlp.ids import FIELDS, digest, path_of
from repmlp.networks import NetworkConfig
from repmlp.networks.cifar import CifarNet, Stage, pure_mlp
from tests.own_networks import Patches
from tests.unit.repmlp.test_networks import FAMILIES


def grown(kind: type, **new: tuple[type, Any]) -> Any:
    """Return a class as it may be in a later version: with more fields, where it is today."""
    more = [(name, type_, field(default=default)) for name, (type_, default) in new.items()]
    later = make_dataclass(kind.__name__, more, bases=(kind,), frozen=True, kw_only=True)
    later.__module__ = kind.__module__
    return later


def later(value: Any) -> Any:
    """Return a configuration whose every part has two more fields at their defaults."""
    if isinstance(value, tuple):
        return tuple(later(part) for part in value)
    if not is_dataclass(value):
        return value
    kind = grown(type(value), dropout=(float, 0.0), layers=(tuple, (1, 2)))
    return kind(**{f.name: later(getattr(value, f.name)) for f in fields(value)})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_field_at_its_default_keeps_the_id_wherever_it_is(family: str) -> None:
    config = FAMILIES[family]
    grown_up = later(config)
    assert grown_up.dropout == 0.0
    assert (training_id(grown_up), deploy_id(grown_up)) == (training_id(config), deploy_id(config))
    assert config_to_dict(grown_up)["dropout"] == 0.0


@pytest.mark.parametrize("change", [{"dropout": 0.5}, {"layers": (1, 3)}])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_field_beside_its_default_changes_the_id(family: str, change: dict[str, object]) -> None:
    config = later(FAMILIES[family])
    assert training_id(replace(config, **change)) != training_id(config)


def test_a_new_field_of_a_stage_changes_the_id_of_the_network() -> None:
    kind = grown(Stage, dropout=(float, 0.0))
    stages = pure_mlp().stages
    first = kind(**{f.name: getattr(stages[0], f.name) for f in fields(stages[0])})
    ids = {d: training_id(CifarNet(stages=(replace(first, dropout=d), *stages[1:]))) for d in (0.0, 0.1)}
    assert ids[0.0] == training_id(pure_mlp()) != ids[0.1]


def test_the_fields_of_today_count_at_any_value() -> None:
    assert training_id(replace(pure_mlp(), head=256)) != training_id(pure_mlp())
    assert all(set(names.split()) for names in FIELDS.values())


def test_every_part_of_every_family_has_its_fields_recorded() -> None:
    def parts(value: Any) -> Iterator[Any]:
        if is_dataclass(value):
            yield value
            for f in fields(value):
                yield from parts(getattr(value, f.name))
        elif isinstance(value, tuple):
            for part in value:
                yield from parts(part)

    found = {path_of(type(part)) for config in FAMILIES.values() for part in parts(config)}
    assert found <= FIELDS.keys()
    assert FIELDS.keys() - found == {"repmlp.config:ConvBlock"}


@dataclass(frozen=True)
class Plain:
    width: int
    depth: int = 2


@dataclass(frozen=True)
class Other:
    width: int
    depth: int = 2


def test_classes_of_ones_own_are_told_apart_and_keep_their_ids_when_they_grow() -> None:
    assert digest(Plain(1)) == digest(grown(Plain, dropout=(float, 0.0))(width=1))
    assert len({digest(v) for v in (Plain(1), Other(1), Plain(2), Plain(1, 3), (Plain(1), Other(1)))}) == 5
    config: NetworkConfig = Patches()
    assert training_id(config) == training_id(later(config)) != training_id(Patches(channels=5))
