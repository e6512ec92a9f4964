"""A study as plain values, and what two studies have to do with each other."""

import json
from collections.abc import Mapping
from typing import Any

from record.folders import hidden
from record.study import Study

PLACE = frozenset({"name", "trials", "seeds", "resources", "storage", "runs"})
"""Keys that say how much is done, and where, and so may change as a study goes on."""


def plain(study: Study) -> dict[str, Any]:
    """Return the whole study as plain values, which `study_of` reads."""
    return study.model_dump(mode="json")


def what_data(study: Study) -> dict[str, Any]:
    """Return which images a study trains on, wherever they lie."""
    place = getattr(study.data, "place", ())
    return {key: value for key, value in plain(study)["data"].items() if key not in place}


def public(study: Study) -> dict[str, Any]:
    """Return the whole study as plain values, as it may be stored and shown: without passwords."""
    return json.loads(hidden(json.dumps(plain(study))))


def training(study: Study) -> dict[str, Any]:
    """Return what a study's trainings have in common, as plain values: its name, the recipe and the images."""
    return {"study": study.name, "recipe": plain(study)["training"], "data": what_data(study)}


def differences(old: Study, new: Study) -> list[str]:
    """Name what of two studies differs apart from budget, place and resources, with both values."""

    def defining(study: Study) -> dict[str, Any]:
        kept = {key: value for key, value in public(study).items() if key not in PLACE}
        return {**kept, "data": what_data(study), "kind": type(study).__name__.lower()}

    return unlike(defining(old), defining(new))


def changes_nothing(old: Study, new: Study) -> bool:
    """Whether a run of the old study may go on as the new one."""
    return not differences(old, new)


def trains_alike(one: Study, other: Study) -> bool:
    """Whether a network trained in the one study has all results that it would have in the other."""
    asked = set(other.asked_at_the_end) <= set(one.asked_at_the_end)
    return asked and one.training == other.training and what_data(one) == what_data(other)


def measures_alike(one: Study, other: Study) -> bool:
    """Whether what the other study measures of every trial was measured in the same way in the one."""
    there = {name: point.alike() for name, point in one.points.items()}
    here = {name: point.alike() for name, point in other.needed.items()}
    return here.items() <= there.items() and one.resources.measure_on == other.resources.measure_on


def unlike(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """Name the keys whose values differ, with both values."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += unlike(before, after, f"{path}{key}.")
        elif before != after:
            found.append(f"{path}{key} is {before!r} there and {after!r} here")
    return found
