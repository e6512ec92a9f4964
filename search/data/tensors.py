"""Image sets held on the device as uint8, split once, augmented there in batches.

A set of one's own whose tensors fit in memory is a `TensorSet` with a `read`, or any class whose `load` calls
`in_memory`.
"""

import functools
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from search.data.base import LARGEST, Batch, DataConfig, DataError, Shard, Share, Size, Source, TaskName

WHOLE = 150_000_000
"""Pixel values whose statistics are taken at once, in four times the memory; those of CIFAR-10 are."""
MAGNIFIED = 8
"""How many times as large as they are stored images held in memory may become."""


@dataclass(frozen=True)
class Split:
    """Images `(N, C, H, W)`, uint8, and targets `(N, ...)`, int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: str | torch.device) -> "Split":
        """Return both on a device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A source whose images are all on the device; test images are read when they are first wanted."""

    train: Split
    validation: Split
    classes: int
    mean: Tensor
    """Mean of each channel over the training images, `(1, C, 1, 1)`, in 0..255."""
    std: Tensor
    read_test: Callable[[], Split] | None = None
    pad: int = 0
    """Training images are zero-padded by so many pixels and cropped at random."""
    flip: bool = False
    """Whether training images are mirrored at random."""
    class_names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.train)

    @property
    def channels(self) -> int:
        """C."""
        return self.train.images.shape[1]

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.train.images.shape[2], self.train.images.shape[3]

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, in 0..255."""
        return self.mean.flatten().tolist(), self.std.flatten().tolist()

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 images to float32 of mean 0 and deviation 1 for each channel."""
        return images.float().sub_(self.mean).div_(self.std)

    def batches(self, batch: int, generator: torch.Generator, shard: Shard = (0, 1)) -> Iterator[Batch]:
        """Yield one shuffled, augmented, normalised epoch; what is drawn for it is moved to the device at once."""
        steps, (rank, n) = len(self) // batch, shard
        order = torch.randperm(len(self), generator=generator)[: steps * batch]
        moves = draw_moves(len(order), self.pad, self.flip, generator)
        device = self.train.labels.device
        mine = torch.stack([order, *moves]).view(4, steps, batch)[:, :, rank::n].to(device)
        for indices, down, right, mirrored in mine.unbind(1):
            images = cut_out(self.padded, indices, self.size, down, right, mirrored)
            yield self.normalise(images), self.train.labels[indices]

    @functools.cached_property
    def padded(self) -> Tensor:
        """Training images, zero-padded, uint8; a second copy of them on the device, unless `pad` is 0."""
        return F.pad(self.train.images, [self.pad] * 4) if self.pad else self.train.images

    def held_out(self) -> Iterator[Batch]:
        """Yield the validation images, normalised."""
        yield from self.normalised(self.validation)

    def test(self) -> Iterator[Batch]:
        """Yield the test images, normalised as the training images are."""
        yield from self.normalised(self.test_split)

    @functools.cached_property
    def test_split(self) -> Split:
        """Test images; DataError if there are none."""
        if self.read_test is None:
            raise DataError("this set has no test images.")
        return self.read_test().to(self.train.labels.device)

    def normalised(self, split: Split) -> Iterator[Batch]:
        """Yield the images of a split in order."""
        for images, labels in zip(split.images.split(256), split.labels.split(256), strict=True):
            yield self.normalise(images), labels


class TensorSet(DataConfig):
    """A set of classes that is held in memory."""

    task: ClassVar[TaskName] = "classification"

    validation: Share = 0.1
    """Share of the training set that is held out, the same for each class; searches score on it."""
    pad: int = Field(default=2, ge=0, le=LARGEST)
    """Training images are zero-padded by so many pixels and cropped at random."""
    flip: bool = False
    """Whether training images are mirrored at random."""

    @abstractmethod
    def read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return the training or the test images, uint8 `(N, C, H, W)`, and their labels, int64 `(N,)`."""

    def split(self, train: bool) -> Split:
        """Return what is read, resized as configured."""
        images, labels = self.read(train)
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            images = resize(images, self.size)
        return Split(images, labels)

    def load(self, device: str = "cpu") -> Source:
        """Read the training images, cut off the validation split and move both to `device`; the last two are kept.

        Memory on the device is that of the uint8 images: 154 MB for the 50,000 of CIFAR-10.

        Raises:
            DataError: if the set is missing or has too few images of a class.
        """
        return load_images(self, device)


@functools.lru_cache(maxsize=2)
def load_images(config: TensorSet, device: str) -> Dataset:
    return in_memory(
        config.split(train=True),
        functools.partial(config.split, train=False),
        device,
        validation=config.validation,
        train_images=config.train_images,
        pad=config.pad,
        flip=config.flip,
    )


def in_memory(
    train: Split,
    read_test: Callable[[], Split] | None = None,
    device: str = "cpu",
    *,
    validation: float = 0.1,
    train_images: int | None = None,
    pad: int = 0,
    flip: bool = False,
    class_names: Sequence[str] = (),
) -> Dataset:
    """Make a source on `device` of training images on the CPU and what reads the test images; see `TensorSet`.

    Raises:
        DataError: if a class has too few images.
    """
    held_out, rest = held_out_and_rest(train.labels, validation, train_images)
    kept, validating = (Split(train.images[part], train.labels[part]).to(device) for part in (rest, held_out))
    classes = int(train.labels.max()) + 1
    return Dataset(kept, validating, classes, *statistics(kept.images), read_test, pad, flip, class_names)


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of uint8 `(N, C, H, W)`, as `(1, C, 1, 1)`."""
    if images.numel() > WHOLE:
        return statistics_of_many(images)
    pixels = images.float()
    return pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True).clamp_min(1)


def statistics_of_many(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return `statistics` in float64 and in parts, whose memory is that of a few images."""
    parts = images.split(256)
    count = images.numel() // images.shape[1]
    mean = sum(part.double().sum((0, 2, 3), keepdim=True) for part in parts) / count
    squares = sum((part.double() - mean).square().sum((0, 2, 3), keepdim=True) for part in parts)
    return torch.as_tensor(mean).float(), torch.as_tensor(squares / (count - 1)).sqrt().float().clamp_min(1)


def check_magnified(size: int, height: int, width: int) -> None:
    """Raise DataError if images become over `MAGNIFIED` times as large, which costs memory and shows nothing new."""
    side = min(height, width)
    if size > MAGNIFIED * side:
        raise DataError(
            f"data.size={size} is over {MAGNIFIED} times the {side} pixels of stored images; use at most "
            f"{MAGNIFIED * side}."
        )


def held_out_and_rest(labels: Tensor, validation: float, train_images: int | None = None) -> tuple[Tensor, Tensor]:
    """Return indices of the share `validation` of each class and of the rest, of `train_images` (all, for None).

    Raises:
        DataError: if a class has too few images.
    """
    generator, used = torch.Generator().manual_seed(0), torch.arange(len(labels))
    if train_images is not None and train_images < len(labels):
        used, _ = stratified(labels, train_images / len(labels), generator)
    held_out, rest = stratified(labels[used], validation, generator)
    return used[held_out], used[rest]


def stratified(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return indices of `share` of each class, drawn by `generator`, and those of the rest, both in order.

    Raises:
        DataError: if a class has too few images for one on each side.
    """
    taken = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise DataError(f"class {int(label)} has {len(members)} images, too few to take {share:.0%} and leave any.")
        taken.append(members[torch.randperm(len(members), generator=generator)[:count]])
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.cat(taken)] = True
    return mask.nonzero().flatten(), (~mask).nonzero().flatten()


def resize(images: Tensor, size: int) -> Tensor:
    """Return uint8 images `(n, C, size, size)`; beside them it needs memory for few.

    Raises:
        DataError: if they take more than half of the memory that is free, or are magnified too much.
    """
    check_magnified(size, *images.shape[2:])
    needed, free = images.shape[:2].numel() * size**2, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > free / 2:
        raise DataError(
            f"data.size={size} makes of {len(images)} images {needed / 2**30:,.1f} GiB, more than half of the "
            f"{free / 2**30:.1f} GiB that are free; lower it."
        )

    def small(some: Tensor) -> Tensor:
        scaled = F.interpolate(some.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        return scaled.round().clamp(0, 255).to(torch.uint8)

    return torch.cat([small(some) for some in images.split(256)])


def draw_moves(count: int, pad: int, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw how far the crop of each image begins down and to the right, and whether it is mirrored: 1 or 0."""
    down, right = torch.randint(2 * pad + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if flip else 0.0)
    return down, right, mirrored.long()


def cut_out(images: Tensor, indices: Tensor, size: Size, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Cut crops out of images in one gather.

    Args:
        images: `(N, C, H, W)`.
        indices: of those to cut, `(n,)`.
        size: (h, w) of the crops.
        down: first row of each crop, `(n,)`.
        right: first column.
        mirrored: 1 where a crop is mirrored, 0 elsewhere.

    Returns:
        `(n, C, h, w)`.
    """
    height, width = size
    device = images.device
    columns = torch.arange(width, device=device) * (1 - 2 * mirrored[:, None]) + mirrored[:, None] * (width - 1)
    rows = torch.arange(height, device=device) + down[:, None]
    columns = columns + right[:, None]
    channels = torch.arange(images.shape[1], device=device)[:, None, None]
    return images[indices[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]]


def named(name: str) -> type[DataConfig]:
    """Return the class of a source."""
    return DataConfig
