"""What the trials of a run were asked, by the names that a space gives its parameters."""

from typing import Any

import pandas as pd

from record.run import Run

PREFIX = "param."
NOT_ASKED = "not asked"
"""The value of a parameter in a trial that had no use for it, such as g in a plain stage."""


def asked(run: Run) -> pd.DataFrame:
    """Return a column of values a parameter and a row a trial, with `NOT_ASKED` where it was not.

    Whole numbers are integers, whatever the frame made of them for want of values.
    """
    found = {
        str(column).removeprefix(PREFIX): [
            NOT_ASKED if pd.isna(value) else whole(value) for value in run.trials[column]
        ]
        for column in run.trials.filter(like=PREFIX)
    }
    return pd.DataFrame(found, index=run.trials.index, dtype=object)


def whole(value: Any) -> Any:
    """Return an integer for a float that is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
