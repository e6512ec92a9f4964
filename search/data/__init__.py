"""Data sets: a module each, found by name. Importing this alone imports neither PyTorch nor any of them.

The set `image_folder` is the class in `search/data/image_folder.py` whose field `name` has that default. A set of one's
own is `my_package.module:Name`, a pydantic class or a frozen dataclass that can be imported where a study runs. Its
fields are the keys of `data` in a study file; it has `task` (classification, recognition or segmentation),
`load(device) -> Source` and, where some fields only say where the data lies, their names in `place`.
"""

from typing import Any

from record.plugins import in_package, names_in
from search.data.base import Batch, DataConfig, DataError, Shard, Size, Source, TaskName

__all__ = ["Batch", "DataConfig", "DataError", "Shard", "Size", "Source", "TaskName", "load", "named", "names"]


def load(config: DataConfig, device: str = "cpu") -> Source:
    """Open a data set; see `DataConfig.load`."""
    return config.load(device)


def names() -> list[str]:
    """Return the names of the data sets in this package."""
    return names_in(__name__)


def named(name: str) -> type[DataConfig]:
    """Return the class of a data set of this package.

    Raises:
        ValueError: if there is none.
    """
    return in_package(__name__, name, "data set")


def __getattr__(name: str) -> Any:
    """Import the class of a data set, such as `Cifar10`, when it is asked for."""
    for known in names():
        if known.replace("_", "") == name.lower():
            return named(known)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
