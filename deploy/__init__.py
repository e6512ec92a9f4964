"""From a trial to files for a server: the pick, its trained network, and the verified export.

The library: `from deploy import pick, load, export`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.decision import pick
    from deploy.exporting import export
    from deploy.trained import load

__all__ = ["export", "load", "pick"]
WHERE = {"pick": "deploy.decision", "load": "deploy.trained", "export": "deploy.exporting"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name not in WHERE:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(WHERE[name]), name)
