"""How candidates are costed, trained, scheduled and recorded.

The library: `from search import Search, Comparison, run, sample`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from record.study import Comparison, Search
    from search.running import run, sample

__all__ = ["Comparison", "Search", "run", "sample"]
WHERE = {"Comparison": "record.study", "Search": "record.study", "run": "search.running", "sample": "search.running"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for, as a worker needs none of them."""
    if name not in WHERE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(WHERE[name]), name)
