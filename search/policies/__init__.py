"""Which trial goes on, and with what budget: a file a scheduler, known by its name.

A scheduler is what a study says (a frozen pydantic model with a `name`, `rungs(epochs)` and `policy(journal)`); its
policy is what decides as results come in.
"""

from record.plugins import in_package, names_in


def names() -> list[str]:
    """Return the names of the schedulers in this package."""
    return names_in(__name__)


def named(name: str) -> type:
    """Return the scheduler of that name.

    Raises:
        ValueError: if there is none.
    """
    return in_package(__name__, name, "scheduler")
