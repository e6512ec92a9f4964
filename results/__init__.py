"""What came out of studies: tables, statistics, figures and the report.

The library: `from results import open_run`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from record.run import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    """Import the public name when it is asked for."""
    if name != "open_run":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from record.run import open_run

    return open_run
