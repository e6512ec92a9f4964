"""Image sets too large to hold: read from files and augmented by worker processes as training goes."""

import math
import os
import signal
import struct
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from search.data.base import Batch, DataError, Located, Shard, Share, Size

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of ImageNet's training images, in 0..255, as everybody normalises with."""
Example = tuple[Path, Any]
"""File of an image, and its label or the file of its label map."""
Transform = Callable[[Any, Any], tuple[Tensor, Tensor]]
"""From an image `(3, H, W)` and its target to what is stacked into batches: `(k, 3, size, size)` and k targets."""

Labelled = TypeVar("Labelled", bound=tuple[str, int])

VALUES = 2**26
"""Numbers of a batch of images that are evaluated, at most: 256 MiB."""


class Item(NamedTuple):
    """What is asked of a worker: all that its answer depends on, so that it can serve every epoch and part."""

    example: Example
    training: bool
    """Whether it is augmented as in training, or cropped as in evaluation."""
    seed: int
    """Of its augmentation."""


@dataclass(frozen=True)
class Stream:
    """A source that reads its images when they are needed; memory is that of the batches under way.

    Its processes start with the first batch and end with the stream. One epoch or evaluation is under way at a time:
    the next one to begin ends it.
    """

    device: str
    train: Sequence[Example]
    validation: Sequence[Example]
    list_test: Callable[[], Sequence[Example]]
    """Lists the test images when they are wanted."""
    training: Transform
    evaluation: Transform
    read: Callable[[Example], tuple[Any, Any]]
    size: Size
    classes: int
    class_names: Sequence[str] = ()
    workers: int = 0
    """Processes that read; 0 reads in this one."""
    decode: Literal["cpu", "cuda"] = "cpu"
    """Who decodes and augments images: what reads them, or the device, which takes JPEG files alone."""
    channels: int = 3

    def __len__(self) -> int:
        return len(self.train)

    def batches(self, batch: int, generator: torch.Generator, shard: Shard = (0, 1)) -> Iterator[Batch]:
        """Yield one shuffled, augmented epoch; an image's augmentation depends on the epoch and the image alone."""
        order = torch.randperm(len(self), generator=generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        rank, n = shard
        chosen = order[: len(order) // batch * batch].view(-1, batch)[:, rank::n]
        yield from self.loaded(self.train, chosen.tolist(), training=True, seed=seed)

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of ImageNet, in 0..255."""
        return list(MEAN), list(STD)

    def held_out(self) -> Iterator[Batch]:
        """Yield the validation images, or their tiles, at most 32 at a time."""
        yield from self.evaluated(self.validation)

    def test(self) -> Iterator[Batch]:
        """Yield the test images, or their tiles, at most 32 at a time."""
        yield from self.evaluated(self.list_test())

    def evaluated(self, examples: Sequence[Example]) -> Iterator[Batch]:
        """Yield examples as they are evaluated, in order."""
        most = max(1, min(32, VALUES // (3 * math.prod(self.size))))
        indices = [i.tolist() for i in torch.arange(len(examples)).split(most)]
        for images, targets in self.loaded(examples, indices, training=False):
            yield from zip(images.split(most), targets.split(most), strict=True)

    def loaded(
        self, examples: Sequence[Example], indices: list[list[int]], training: bool, seed: int = 0
    ) -> Iterator[Batch]:
        """Read the examples of each batch and normalise them on the device."""
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (MEAN, STD))
        items = ([Item(examples[i], training, seed * 1_000_003 + i) for i in batch] for batch in indices)
        for loaded in self.loader.run(items):
            images, targets = self.decoded(*loaded) if self.decode == "cuda" else loaded
            moved = images.to(self.device, non_blocking=True)
            yield (moved.float() - mean) / std, targets.to(self.device, non_blocking=True)

    @cached_property
    def loader(self) -> "Loader":
        """The worker processes; a copy by `dataclasses.replace` has its own."""
        if self.decode == "cuda":
            return Loader(Files(), joined, self.workers, pin_memory=False)  # nvJPEG takes pageable memory
        examples = Examples(self.read, self.training, self.evaluation)
        return Loader(examples, stacked, self.workers, pin_memory=self.device != "cpu")

    def decoded(self, data: Tensor, sizes: list[int], items: list[Item]) -> Batch:
        """Decode JPEG files, one after the other in `data`, on the device, and augment them there."""
        images = decode_jpeg(list(data.split(sizes)), mode=ImageReadMode.RGB, device=self.device)
        transform = self.training if items[0].training else self.evaluation
        return stacked(
            [seeded(transform, i, item.example[1], item.seed) for i, item in zip(images, items, strict=True)]
        )


class Loader:
    """A `DataLoader` whose processes stay from one run over a data set to the next.

    Args:
        dataset: takes items.
        collate: makes a batch of what the data set returns.
        workers: number of processes; 0 reads in this one.
        pin_memory: whether batches are put into page-locked memory.
    """

    def __init__(
        self, dataset: TorchDataset[Any], collate: Callable[[list[Any]], Any], workers: int, pin_memory: bool
    ) -> None:
        self.order = Order()
        self.end_workers: weakref.finalize | None = None
        self.loader = DataLoader(
            dataset,
            batch_sampler=self.order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate,
            pin_memory=pin_memory,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),
        )

    def run(self, batches: Iterator[list[Item]]) -> Iterator[Any]:
        """Yield what is made of each batch of items.

        Raises:
            RuntimeError: if another run has begun meanwhile, which ends this one.
        """
        if self.order.batches is not None:
            self.stop()
        self.order.batches = batches
        iterator: Any = iter(self.loader)
        if self.loader.num_workers and self.end_workers is None:
            # in a cycle of garbage the iterator's own end comes after that of its pipes, and waits 5 s for each worker
            self.end_workers = weakref.finalize(self, iterator._shutdown_workers)
        for loaded in iterator:
            yield loaded
            if self.order.batches is not batches:
                raise RuntimeError("another epoch or evaluation of this stream began before this one was finished.")
        self.order.batches = None

    def stop(self) -> None:
        """End the processes and drop what they have read ahead; the next run starts new ones.

        Letting go of them would not do: a traceback may keep the iterator, and an interrupt may have left its queues
        in any state.
        """
        if self.end_workers is not None:
            self.end_workers()
        self.end_workers = self.loader._iterator = None


class Order:
    """The batch sampler of a loader, which keeps it for life: of the run under way, or None."""

    batches: Iterator[list[Item]] | None = None

    def __iter__(self) -> Iterator[list[Item]]:
        assert self.batches is not None
        return self.batches


def ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to workers too, to the trainer, which may go on with them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Examples(TorchDataset[Batch]):
    """Examples read and augmented."""

    def __init__(self, read: Callable[[Example], Any], training: Transform, evaluation: Transform) -> None:
        self.read, self.training, self.evaluation = read, training, evaluation

    def __getitem__(self, item: Item) -> Batch:
        transform = self.training if item.training else self.evaluation
        image, target = self.read(item.example)
        return seeded(transform, image, target, item.seed)


class Files(TorchDataset[tuple[bytes, Item]]):
    """JPEG files as they are stored."""

    def __getitem__(self, item: Item) -> tuple[bytes, Item]:
        path = item.example[0]
        data = path.read_bytes()
        if not data.startswith(b"\xff\xd8\xff"):
            raise DataError(
                f"{path} is no JPEG file, and data.decode=cuda reads no other; convert it, or set decode=cpu."
            )
        return data, item


def joined(files: list[tuple[bytes, Item]]) -> tuple[Tensor, list[int], list[Item]]:
    """Return all bytes as one uint8 tensor, as each tensor from a worker takes a file descriptor; sizes; and items."""
    contents, items = zip(*files, strict=True)
    return torch.frombuffer(bytearray().join(contents), dtype=torch.uint8), [len(c) for c in contents], list(items)


def seeded(transform: Transform, image: Any, target: Any, seed: int) -> Batch:
    """Transform an image with random numbers from its seed, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image, target)


def stacked(examples: list[Batch]) -> Batch:
    images, targets = zip(*examples, strict=True)
    return torch.cat(images), torch.cat(targets)


class StreamedSet(Located):
    """A set that is streamed. Its images are RGB."""

    place: ClassVar[frozenset[str]] = frozenset({"root", "workers"})

    flip: bool = False
    """Whether training images are mirrored at random."""
    workers: int = Field(default=2, ge=0, le=1024)
    """Processes that read a streamed set for one trial."""

    @property
    def side(self) -> int:
        """Side of a streamed image."""
        return self.size or 224


class StreamedImages(StreamedSet):
    """A streamed set of images that have a label each, or (identity, role)."""

    place: ClassVar[frozenset[str]] = frozenset({"root", "workers", "decode"})

    validation: Share = 0.1
    """Share of the training set that is held out, the same for each class; searches score on it."""
    decode: Literal["cpu", "cuda"] = "cpu"
    """Where streamed images are decoded and augmented. With cuda, every file must be a JPEG: the workers only read
    bytes, and torchvision's nvJPEG decodes them on the trainer's GPU. Unverified on a GPU: only run with torchvision's
    decoder for the CPU."""

    def check_decoding(self, device: str) -> None:
        """Raise DataError if images cannot be decoded on this device, whose JPEG decoder is asked for."""
        if self.decode == "cuda" and torch.device(device).type != "cuda":
            raise DataError(
                f"data.decode=cuda was given, which needs a trainer on a CUDA GPU, but this one is on {device}; "
                "set data.decode=cpu, or resources.gpus=1 on a machine with a GPU."
            )


def whole(size: int) -> Callable[[Tensor], Tensor]:
    """Return a transform to the largest square in the middle."""
    return v2.Compose([v2.Resize(size), v2.CenterCrop(size)])


class OneImage:
    """A transform of an image that leaves its label, or (identity, role), alone."""

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Tensor, label: int | tuple[int, int]) -> Batch:
        return self.transform(image).unsqueeze(0), torch.tensor([label])


def picture(path: Path | str, mode: str | None = "RGB") -> Image.Image:
    """Return an image file, decoded.

    Args:
        path: of the file.
        mode: that it is converted to; None keeps its own.

    Raises:
        DataError: if it is missing, empty, cut off, no image, or of far more pixels than an image has.
    """
    try:
        with Image.open(path) as stored:
            stored.load()
            return stored if mode is None else stored.convert(mode)
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; remove or replace it.") from None


def once(samples: list[Labelled]) -> list[Labelled]:
    """Return samples (path, label) without those that a link to a folder lists again under the same label."""
    kept: dict[tuple[str, str, int], Labelled] = {}
    real = cache(os.path.realpath)
    for sample in samples:
        folder, _, name = sample[0].rpartition(os.sep)
        kept.setdefault((real(folder), name, sample[1]), sample)
    return list(kept.values())


def read_labelled(example: Example) -> tuple[Tensor, Any]:
    """Read an image as uint8 `(3, H, W)`.

    Raises:
        DataError: if it cannot be read.
    """
    path, label = example
    return v2.functional.pil_to_tensor(picture(path)), label
