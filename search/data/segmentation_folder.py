"""Folders of images with label maps, always streamed."""

from functools import partial
from pathlib import Path
from typing import Literal

from search.data.base import DataError, Source
from search.data.segments import IGNORED, Pair, SegmentedSet


class SegmentationFolder(SegmentedSet):
    """`root/{train,val,test}/*.jpg` or png, label maps in `root/{train,val,test}annot/*.png`, and `root/classes.txt`.

    The last has one name a line; labels beyond them, or named void, are ignored. Validation takes the images in val.
    """

    name: Literal["segmentation_folder"] = "segmentation_folder"

    def load(self, device: str = "cpu") -> Source:
        """List the files."""
        root, classes = self.folder, folder_classes(self.folder)
        train, validation = list_folder(root, "train"), list_folder(root, "val")
        return self.stream(device, train, validation, partial(list_folder, root, "test"), classes)


def list_folder(root: Path, split: str) -> list[Pair]:
    """Return the images `root/SPLIT/*.jpg` (or png) with the label maps of the same stem in `root/SPLITannot`.

    Raises:
        DataError: naming the first image without a map, or the folder if it has no image.
    """
    images = sorted(p for p in (root / split).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not images:
        raise DataError(f"{root / split} has no images (jpg or png); segmentation_folder needs them there.")
    maps = [root / f"{split}annot" / f"{image.stem}.png" for image in images]
    for image, labels in zip(images, maps, strict=True):
        if not labels.is_file():
            raise DataError(f"{image} has no label map {labels}.")
    return list(zip(images, maps, strict=True))


def folder_classes(root: Path) -> tuple[list[str], list[int]]:
    """Return the names in `root/classes.txt` without void, and the class of each of the 256 possible labels.

    Label n is line n, counted from 0 without blank ones.
    """
    try:
        lines = [line.strip() for line in (root / "classes.txt").read_text().splitlines() if line.strip()]
    except OSError:
        raise DataError(f"{root / 'classes.txt'} is missing; it names the classes, one a line.") from None
    names: list[str] = []
    table = [IGNORED] * 256
    for label, name in enumerate(lines):
        if name != "void":
            table[label] = len(names)
            names.append(name)
    return names, table
