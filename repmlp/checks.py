"""Checks that configurations share, and what makes their parts of plain values.

Every check raises ValueError naming what was given, its value and what works.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import cache, partial
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

Size = tuple[int, int]
T = TypeVar("T")
LARGEST, WIDEST, DEEPEST = 1 << 20, 1000, 100
"""The most that a count, a factor, and the blocks of a stage can be."""


def check_fields(config: Any) -> None:
    """Check the fields of a configuration by their types; those of other types than these are left to it.

    A `Literal` must be one of its words, an `int` positive and a `bool` a truth value; a `Size`, which may be given as
    one integer, becomes a pair. Each may be None where its type says so.
    """
    for name, check, optional in checks_of(cast(Any, type(config))):
        value = getattr(config, name)
        if value is None and optional:
            continue
        checked = check(value, name)
        if checked is not value:
            set_(config, name, checked)


@cache
def checks_of(configuration: Any) -> list[tuple[str, Callable[[Any, str], Any], bool]]:
    """Return name, check, and whether None is a value too, of each field that its type says how to check."""
    found: list[tuple[str, Callable[[Any, str], Any], bool]] = []
    types, by_type = get_type_hints(configuration), {int: positive, bool: truth, Size: pair}
    for field in fields(configuration):
        kind, options = types[field.name], get_args(types[field.name])
        optional = len(options) == 2 and options[1] is NoneType
        kind = options[0] if optional else kind
        if get_origin(kind) is Literal:
            found.append((field.name, partial(one_of, words=(*get_args(kind), *[None] * optional)), optional))
        elif kind in by_type:
            found.append((field.name, by_type[kind], optional))
    return found


def one_of(value: Any, name: str, words: Iterable[T]) -> T:
    """Check that a value is one of those that there are, and return it."""
    words = tuple(words)
    if value not in words:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(str, words))}.")
    return value


def truth(value: Any, name: str) -> bool:
    """Check that a value is true or false, and return it."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be true or false.")
    return value


def positive(value: Any, name: str) -> int:
    """Check that a value is a positive integer, and return it."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a positive integer.")
    return at_most(value, name, DEEPEST if name == "blocks" else LARGEST)


def pair(value: Any, name: str) -> Size:
    """Return an integer or a pair as a pair of positive integers."""
    given = value
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2
        or any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in value)
    ):
        raise ValueError(f"{name}={given!r} must be a positive integer or a pair of them, such as 7 or (7, 5).")
    return at_most(value[0], name, LARGEST), at_most(value[1], name, LARGEST)


def at_most(value: T, name: str, most: Any) -> T:
    """Check that a number is no larger than any that makes sense, as tensors of its size could not even be counted."""
    if value > most:
        raise ValueError(f"{name}={value!r} is too large; use at most {most:,}.")
    return value


def odd_pair(value: Any, name: str) -> Size:
    """Return an odd kernel size as a pair."""
    kernel = pair(value, name)
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise ValueError(
            f"{name}={value!r} must be odd in both directions, so that the output keeps the size of the map; "
            f"use {tuple(k + 1 - k % 2 for k in kernel)}."
        )
    return kernel


def factor(value: Any, name: str) -> float:
    """Check that a value is a positive, finite number, and return it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name}={value!r} must be a positive, finite number, such as 0.5 or 1.")
    return at_most(value, name, WIDEST)


def sequence(values: Any, name: str, what: str) -> tuple[Any, ...]:
    """Return what is listed as a tuple."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name}={values!r} must be a list of {what}.")
    return tuple(values)


def mapping(values: Any, name: str, what: str) -> Mapping[Any, Any]:
    """Check that a value is a mapping, and return it."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}={values!r} must be {what} by name.")
    return values


def made(kind: type[T], values: Any, name: str) -> T:
    """Return a dataclass of this kind as it is, or make it of plain values.

    Raises:
        ValueError: naming the field, if `values` are neither, or a field is wrong, missing or unknown.
    """
    if isinstance(values, kind):
        return values
    mapping(values, name, f"fields of a {kind.__name__}")
    known = {f.name: f.default is f.default_factory is MISSING for f in fields(cast(Any, kind)) if f.init}
    unknown = [str(key) for key in values if key not in known]
    if unknown:
        raise ValueError(f"{name} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
    missing = [key for key, required in known.items() if required and key not in values]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)} too; given are {', '.join(values) or 'no fields'}.")
    with naming(name):
        return kind(**values)


def from_dict(kinds: Mapping[str, type[T]], values: Any, name: str) -> T:
    """Return a dataclass of one of these kinds as it is, or make it of plain values, whose `kind` says which it is."""
    if isinstance(values, tuple(kinds.values())):
        return cast(T, values)
    kind = one_of(mapping(values, name, "fields of a block").get("kind"), f"{name}: kind", kinds)
    return made(kinds[kind], values, name)


def stages_of(kind: type[T], values: Any) -> tuple[T, ...]:
    """Return the stages of a network, each of which may be given as plain values; ValueError if there is none."""
    stages = sequence(values, "stages", "stages, at least one")
    if not stages:
        raise ValueError("stages=() must name at least one stage.")
    return tuple(made(kind, stage, f"stages.{index}") for index, stage in enumerate(stages))


@contextmanager
def naming(part: str) -> Iterator[None]:
    """Say which part of a network it is that a check within refuses."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{part}: {error}") from None


def set_(instance: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass while it is being made."""
    object.__setattr__(instance, name, value)
