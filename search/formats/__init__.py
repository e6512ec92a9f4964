"""Files that a converted network is exported to: a module a format, found by name; each has a runtime of its own.

The format `onnx` is the class in `search/formats/onnx.py` whose `name` that is. A format of one's own is
`my_package.module:Name`, a class derived from `FileFormat`.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from record.plugins import in_package, located, names_in

if TYPE_CHECKING:
    from torch import Tensor, nn

Network = Callable[["Tensor"], "Tensor"]
"""From images `(N, C, H, W)` to outputs."""


class FormatError(ValueError):
    """A format that is not known, or cannot be written here."""


class FileFormat:
    """One kind of file."""

    name: ClassVar[str]
    """As users give it."""
    file: ClassVar[str]
    runtime: ClassVar[str]
    """What runs it."""
    tolerance: ClassVar[float] = 1e-4
    """Largest difference of outputs, relative to the largest output."""
    title: ClassVar[str]
    """What its users need, as a heading."""
    calibrates: ClassVar[bool] = False
    """Whether the example that it is written with should be many images, on which it is calibrated."""
    whole: ClassVar[bool] = True
    """Whether it holds all that runs, so that normalisation may be part of it, and not only weights."""
    loading: ClassVar[str]
    """Python that loads it from FOLDER and defines `model`, a function of a NumPy array of images that gives an array
    of outputs."""

    def write(self, model: "nn.Module", example: "Tensor", path: Path) -> None:
        """Write a network, given an input of two images or more.

        It is a `search.formats.served.Served`, whose `words()` belong into the file where there is room for them.

        Raises:
            FormatError: saying why it cannot be written here.
        """

    def open(self, path: Path, threads: int) -> "Network":
        """Return the file's network in its runtime on the CPU, with so many threads."""
        raise NotImplementedError


def names() -> list[str]:
    """Return the names of the formats in this package."""
    return names_in(__name__)


def chosen(given: Sequence[str]) -> dict[str, FileFormat]:
    """Return formats by name, the weights first, which are always there.

    Raises:
        FormatError: naming those that are known, if one is not.
    """
    try:
        kinds = [located(n) if ":" in n else in_package(__name__, n.strip(), "format") for n in ("safetensors", *given)]
    except ValueError as error:
        raise FormatError(f"{','.join(given)} is not a list such as safetensors,onnx,pt2: {error}.") from None
    return {kind.name: kind() for kind in kinds}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporters from printing their progress and warnings of their own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
