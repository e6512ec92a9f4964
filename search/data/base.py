"""What every data set has: its configuration, and the source of batches that it opens. Imports no PyTorch."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Generator, Tensor

TaskName = Literal["classification", "recognition", "segmentation"]
Shard = tuple[int, int]
"""Rank of a data-parallel worker and their number."""
Batch = tuple["Tensor", "Tensor"]
Size = tuple[int, int]
Share = Annotated[float, Field(gt=0, lt=1)]
LARGEST = 8192
"""Most pixels of a side."""


class DataError(ValueError):
    """Data that is missing or cannot be used; the message says what to do."""


class DataConfig(BaseModel):
    """Which images, and how they are split and augmented: a data set's part of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: ClassVar[TaskName]
    """What networks learn on this set."""
    place: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that say where the data lies and how it is read, but not what it is."""

    name: str = ""
    size: int | None = Field(default=None, ge=4, le=LARGEST)
    """Side of the square images, or crops in segmentation; None keeps that of the set, but is 224 where it is
    streamed."""
    train_images: int | None = Field(default=None, ge=1)
    """Use so many training images, the same share of each class; None uses all."""

    @abstractmethod
    def load(self, device: str = "cpu") -> "Source":
        """Open the training images and cut off the validation split.

        The splits depend on the configuration alone, so every trial of a study sees the same.

        Raises:
            DataError: if the set is missing or has too few images of a class.
        """


class Located(DataConfig):
    """A data set in a folder."""

    place: ClassVar[frozenset[str]] = frozenset({"root"})

    root: str | None = None
    """Folder of the set."""

    @property
    def folder(self) -> Path:
        """The folder; DataError if none is given."""
        if self.root is None:
            raise DataError(f"data.name={self.name} needs data.root, the folder it is in; for example data.root=data.")
        return Path(self.root)


class Source(Protocol):
    """Where a trainer gets images from. Images are float32 `(N, C, H, W)`, normalised, on the device.

    Targets are labels `(N,)`, or in segmentation `(N, H, W)` with 255 for pixels that do not count; for held-out faces
    see `search.data.face_folder`. `search.data.tensors` makes a source of tensors, `search.data.streams` of files.
    """

    @property
    def channels(self) -> int:
        """C."""

    @property
    def size(self) -> Size:
        """(H, W)."""

    @property
    def classes(self) -> int:
        """Labels: classes, people, or classes of pixels."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; empty where the set has none."""

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in 0..255, that images are normalised with."""

    def __len__(self) -> int:
        """Return the number of training images."""

    def batches(self, batch: int, generator: "Generator", shard: Shard = (0, 1)) -> Iterator[Batch]:
        """Yield one shuffled, augmented epoch; an incomplete last batch is left out.

        `generator`, on the CPU, decides order and augmentation. Of `shard` (rank, n), every n-th image of each batch.
        """

    def held_out(self) -> Iterator[Batch]:
        """Yield the validation images, in order."""

    def test(self) -> Iterator[Batch]:
        """Yield the test images, in order, for the one report of a finished pick or ablation; they are read only now.

        Raises:
            DataError: if the set has none.
        """
