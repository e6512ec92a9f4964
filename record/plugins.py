"""What users may bring: objects in Python, or in YAML a known name, or `my_package.module:Name`, with its arguments."""

import contextlib
import difflib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import resources
from typing import Any, TypeGuard

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import core_schema

OFFERS = {"space": ["suggest"], "data": ["task", "load"], "scheduler": ["rungs", "policy"], "runtime": ["prepared"]}
"""What a class of a family has to have."""
CALLED = {"data": "data set"}
ROOMS = {
    "space": "spaces.catalogue",
    "data": "search.data",
    "scheduler": "search.policies",
    "sampler": "search.samplers",
    "runtime": "search.measuring.runtimes",
}
"""The module of each family whose `named(name)` returns a known class; by name, so that this floor imports none."""


class Misfit(ValueError):
    """Arguments that a class does not take, with pydantic's errors."""

    def __init__(self, family: str, kind: type, error: ValidationError) -> None:
        super().__init__(str(error))
        self.family, self.kind, self.error = family, kind, error


def located(path: str) -> Any:
    """Return what `my_package.module:Name` names.

    Raises:
        ValueError: if it cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be imported ({error}); name a class as my_package.module:Name") from None
    return found


def named(family: str, name: str) -> type:
    """Return the class of a family (a key of `ROOMS`) by its known name or its path.

    Raises:
        ValueError: if there is none.
    """
    found = located(name) if ":" in name else importlib.import_module(ROOMS[family]).named(name)
    if not inspect.isclass(found):
        raise ValueError(f"{name} must be a class")
    lacking = [part for part in OFFERS.get(family, []) if not hasattr(found, part)]
    if lacking:
        raise ValueError(f"{name} lacks {' and '.join(lacking)}, which a {CALLED.get(family, family)} has")
    return found


def in_package(package: str, name: str, what: str) -> Any:
    """Return the class of the module `package.name` whose `name` that is: a file a class, and no list to keep.

    A hyphen of the name is an underscore of the module's.

    Raises:
        ValueError: naming those that are there, if there is none.
    """
    module = name.replace("-", "_")
    if module.isidentifier() and importlib.util.find_spec(f"{package}.{module}"):
        for found in vars(importlib.import_module(f"{package}.{module}")).values():
            if inspect.isclass(found) and known_name(found) == name:
                return found
    raise ValueError(f"must be one of {', '.join(names_in(package))}, or my_package.module:Name of your own {what}")


def names_in(package: str) -> list[str]:
    """Return the names of the classes that `in_package` finds."""
    found = []
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        text = (resources.files(package) / f"{module.name}.py").read_text()
        found += [name for name in dict.fromkeys((module.name, module.name.replace("_", "-"))) if f'"{name}"' in text]
    return found


def known_name(kind: type) -> str | None:
    """Return the name by which a class is known, if it has one: its attribute, or the default of its field `name`."""
    name = kind.model_fields["name"].default if has_name(kind) else getattr(kind, "name", None)
    return name if isinstance(name, str) else None


def has_name(kind: type) -> TypeGuard[type[BaseModel]]:
    return issubclass(kind, BaseModel) and "name" in kind.model_fields


def called(loaded: str, *arguments: Any, **options: Any) -> Any:
    """Call a function of a higher floor, by its path: what a user's object offers may lie there."""
    return located(loaded)(*arguments, **options)


def path_of(family: str, kind: type) -> str:
    """Return the name by which a class is found again: the known one, or its path.

    Raises:
        ValueError: if no other process could import it.
    """
    name = known_name(kind)
    with contextlib.suppress(ValueError):
        if name and named(family, name) is kind:
            return name
    return import_path(kind)


def import_path(kind: type) -> str:
    """Return the path of a class, `module:Name`.

    Raises:
        ValueError: if no other process could import it.
    """
    path = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ == "__main__" or "<locals>" in path:
        raise ValueError(f"{path} cannot be imported by other processes; define the class in a module of its own")
    return path


def arguments(kind: type) -> list[str]:
    """Return the names of what a class takes."""
    if issubclass(kind, BaseModel):
        return [name for name in kind.model_fields if name != "name"]
    if is_dataclass(kind):
        return [f.name for f in fields(kind) if f.init and f.name != "name"]
    return [name for name in inspect.signature(kind).parameters if name != "name"]


def nearest(word: str, known: list[str], family: str = "") -> str:
    """Say which known word was perhaps meant, or what is known, and which other classes of a family know it."""
    room = importlib.import_module(ROOMS[family]) if family else None
    others = [n for n in room.names() if word in arguments(room.named(n))] if room and hasattr(room, "names") else []
    if others:
        return f"it is for {', '.join(others)}; known here are {', '.join(known)}."
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known) or 'none'}."


class Plugged:
    """A field of a pydantic model that holds an object of a family.

    It takes the object, or a mapping with the `name` of its class, as for `named`, and its arguments; and is written as
    such a mapping.

    Args:
        family: a key of `ROOMS`.
        default: name that a mapping without one stands for.
    """

    def __init__(self, family: str, default: str = "") -> None:
        self.family, self.default = family, default

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.validated, serialization=core_schema.plain_serializer_function_ser_schema(self.written)
        )

    def validated(self, value: Any) -> Any:
        """Return the object that `value` is or describes.

        Raises:
            ValueError: if its class is not known, or does not take these arguments.
        """
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            if value is None or isinstance(value, int | float | list | tuple | type):
                raise ValueError("should be a mapping of keys to values")
            named(self.family, path_of(self.family, type(value)))
            return value
        name = value.get("name", self.default)
        try:
            kind = named(self.family, str(name))
        except ValueError as error:
            raise ValueError(f"name is missing: it {error}" if not name else str(error)) from None
        given = {key: v for key, v in value.items() if key != "name"}
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        try:
            unknown = sorted(set(map(str, given)) - set(arguments(kind)))
            if unknown and is_dataclass(kind):  # which pydantic checks only where the class says so
                raise ValueError(f"unknown key {unknown[0]}; {nearest(unknown[0], arguments(kind), self.family)}")
            return adapter.validate_python(given)
        except ValidationError as error:
            raise Misfit(self.family, kind, error) from None

    def written(self, value: Any) -> dict[str, Any]:
        """Return the mapping that describes an object."""
        plain = TypeAdapter(type(value)).dump_python(value, mode="json")
        return {"name": path_of(self.family, type(value)), **{k: v for k, v in plain.items() if k != "name"}}
