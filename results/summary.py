"""Networks in one line."""

from collections.abc import Mapping
from typing import Any


def summary(config: Mapping[str, Any]) -> str:
    """Describe a network, given as plain values."""
    from repmlp import config_from_dict  # only here, so that tables without networks are written without torch

    return config_from_dict(config).describe()
