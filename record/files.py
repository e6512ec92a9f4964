"""Study files: YAML with `key=value` overrides, and what is said of mistakes in them."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from record.measure import DEFAULT
from record.plugins import Misfit, arguments, nearest
from record.stored import upgraded_data
from record.study import Comparison, Search, Study, StudyError, kind_of

PLUGGED = ("space", "data", "scheduler")
ONLY_SEARCHED = [name for name in Search.model_fields if name not in Study.model_fields]
LEVELS = 50
MOST = 3
"""Mistakes that are told at once."""


def read_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study file and merge `key=value` overrides, such as `training.epochs=3`.

    Raises:
        StudyError: naming what is wrong, where, and what would be right.
    """
    try:
        check_depth(path.read_text(encoding="utf-8"), str(path))
        for override in overrides:
            check_depth(override.partition("=")[2], override[:40])
        loaded = OmegaConf.load(path)
        if not OmegaConf.is_dict(loaded):
            raise StudyError(f"{path} must be a mapping of keys to values, such as `trials: 20`.")
        merged = OmegaConf.merge({"name": path.stem}, loaded, OmegaConf.from_dotlist(list(overrides)))
        values = OmegaConf.to_container(merged, resolve=True)
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path} does not exist; ready-made studies are in studies/.") from None
    except (OmegaConfBaseException, ValueError, TypeError, OSError) as error:
        raise StudyError(f"{path} cannot be read as YAML with key=value overrides: {first_line(error)}") from None
    except Exception as error:
        if "yaml" not in type(error).__module__:
            raise
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return checked(values, f"{path}: ")


def check_depth(text: str, where: str) -> None:
    """Raise StudyError if YAML is nested deeper than `LEVELS`, whose readers end in a crash far below."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > LEVELS:
            raise StudyError(f"{where} is nested over {LEVELS} levels deep; a study has some five.")


def checked(values: Any, where: str = "") -> Study:
    """Return the study that plain values describe.

    Raises:
        StudyError: naming what is wrong.
    """
    values = {k: v for k, v in values.items() if k != "seeds" or v is not None}
    if isinstance(values.get("data"), Mapping):
        values["data"] = upgraded_data(values["data"])
    kind = kind_of(values)
    searching = [key for key in values if key in (*ONLY_SEARCHED, "halving")]
    if kind is Comparison and searching:
        raise StudyError(
            f"{where}{', '.join(searching[:-1])}{' and ' * (len(searching) > 1)}{searching[-1]} "
            f"{'are' if len(searching) > 1 else 'is'} for a search, and seeds={values['seeds']} is for a comparison of "
            "the networks that the spaces ablation and fixed list; leave out one or the other."
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise StudyError(where + "; ".join(list(explained(kind, error))[:MOST])) from None


def explained(kind: type, error: ValidationError, path: Sequence[str] = (), family: str = "") -> Iterator[str]:
    """Yield a phrase for each mistake: key, value, rule, and for an unknown key the nearest known one.

    Args:
        kind: the class that was to be made.
        error: why it was not.
        path: keys that lead to it.
        family: of the class, if it is one of several for its key, see `record.plugins`.
    """
    for each in error.errors():
        names = [*path, *map(str, each["loc"])]
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, Misfit):
            yield from explained(cause.kind, cause.error, names, cause.family)
        else:
            yield phrase(kind, each, names, len(path), family)


def phrase(kind: type, error: Any, names: list[str], depth: int, family: str) -> str:
    """Say what is wrong with one value."""
    key = ".".join(names).replace(f"measure.{DEFAULT}.", "measure.")  # which is not named where it is the only one
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = part_of(kind, names[depth:-1])
        if kind is Search and key in Comparison.model_fields:
            return f"unknown key {key}; it is for a comparison, which has seeds."
        return f"unknown key {key}; {nearest(names[-1], known, family)}"
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if message.startswith(("unknown key ", "name is missing")):
        return message.replace("unknown key ", f"unknown key {key}.") if " key " in message else f"{key}.{message}."
    if error["type"] == "tuple_type":
        message = "should be a list, such as [1, 2]"
    elif error["type"].endswith(("model_type", "model_attributes_type", "dict_type")):
        message = "should be a mapping of keys to values"
    if error["type"] == "value_error" and isinstance(error["input"], Mapping):
        if names[-1:] and names[-1] in PLUGGED and "must be one of" in message:
            return f"{key}.name={error['input'].get('name')!r} {message[message.index('must be one of') :]}."
        named = not key or message.startswith(f"{key}.")  # the message names field and value
        return f"{message}." if named else f"{key}: {message}."
    return f"{key}={short(error['input'])}: {message}."


def part_of(kind: Any, path: Sequence[str]) -> list[str]:
    """Return the keys of a class, or of the part of it at `path`."""
    for place, name in enumerate(path):
        field = getattr(kind, "model_fields", {}).get(name)
        of_names = typing.get_args(field.annotation) if field else ()  # of a mapping by names: what each name has
        if of_names[:1] == (str,) and len(path) > place + 1:
            return arguments(of_names[1])
        if field is None or not isinstance(field.annotation, type):
            return []
        kind = field.annotation
    return ["name", *arguments(kind)] if isinstance(kind, type) and issubclass(kind, Study) else arguments(kind)


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def short(value: Any) -> str:
    """Write a value as Python does, cut off after some 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."
