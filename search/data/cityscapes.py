"""Cityscapes, always streamed."""

from functools import partial
from pathlib import Path
from typing import Literal

from torchvision import datasets

from search.data.base import DataError, Share, Source
from search.data.segments import IGNORED, Pair, SegmentedSet, cut


class Cityscapes(SegmentedSet):
    """Cityscapes as torchvision lays it out, with its 19 classes."""

    name: Literal["cityscapes"] = "cityscapes"
    validation: Share = 0.1
    """Share of the training set that is held out; searches score on it."""

    def load(self, device: str = "cpu") -> Source:
        """List the files."""
        train, validation = cut(list_cityscapes(self.folder), self.validation)
        test = partial(list_cityscapes, self.folder, "val")
        return self.stream(device, train, validation, test, cityscapes_classes())


def list_cityscapes(root: Path, split: str = "train") -> list[Pair]:
    """Return the finely labelled images of Cityscapes and their maps, by name; its labelled "val" is our test."""
    try:
        found = datasets.Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
    except RuntimeError as error:
        raise DataError(f"Cityscapes is not in data.root={root} as torchvision lays it out ({error}).") from None
    # torchvision gives them as the file system does, which may differ from copy to copy
    return sorted((Path(image), Path(maps[0])) for image, maps in zip(found.images, found.targets, strict=True))


def cityscapes_classes() -> tuple[list[str], list[int]]:
    """Return the names of the 19 classes, and the class of each of the 256 possible labels."""
    counted = sorted((c for c in datasets.Cityscapes.classes if 0 <= c.train_id < 19), key=lambda c: c.train_id)
    table = [IGNORED] * 256
    for entry in counted:
        table[entry.id] = entry.train_id
    return [entry.name for entry in counted], table
