"""From a trial to files for a server: the pick and the study that trains it, trained networks, the verified export.

The library: `from deploy import pick, load, trained, export`; most are methods of a run too.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.exporting import export
    from deploy.picking import Pick, pick
    from results.weights import load, trained

__all__ = ["Pick", "export", "load", "pick", "trained"]
WHERE = {"export": "deploy.exporting", "load": "results.weights", "trained": "results.weights"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: what picks needs nothing of what exports."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(WHERE.get(name, "deploy.picking")), name)
