"""What the trials of a run were asked, by the names that a space gives its parameters."""

from typing import Any

import pandas as pd

from results.frames import Run

PREFIX = "param."
NOT_ASKED = "not asked"
"""The value of a parameter in a trial that had no use for it, such as g in a plain stage."""


def asked(run: Run) -> pd.DataFrame:
    """Return a column of values a parameter and a row a trial, with `NOT_ASKED` where it was not.

    A parameter that carries what it could offer in its name, such as `stage1.groups of 1, 2`, goes by the name before
    " of ". Whole numbers are integers, whatever the frame made of them for want of values.
    """
    found: dict[str, list[Any]] = {}
    for column in run.trials.filter(like=PREFIX):
        bare = str(column).removeprefix(PREFIX).partition(" of ")[0]
        before = found.get(bare, [NOT_ASKED] * len(run.trials))
        found[bare] = [old if pd.isna(new) else whole(new) for old, new in zip(before, run.trials[column], strict=True)]
    return pd.DataFrame(found, index=run.trials.index, dtype=object)


def whole(value: Any) -> Any:
    """Return an integer for a float that is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
