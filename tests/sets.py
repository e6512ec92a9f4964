"""Tiny image sets on disk, laid out as their users' are."""

import csv
import struct
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

from record.plugins import Plugged

DATA_SETS = Plugged("data", "mnist5k")
"""Makes data sets of plain values, and back."""
Row = tuple[str, str, str]
"""file, identity, split"""
PALETTE = np.array([(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)], dtype=np.uint8)
"""Colour of each label of `write_segments`; none is a mixture of others."""


def noise(name: str, *shape: int) -> np.ndarray:
    """Random pixels that the name decides."""
    return np.random.default_rng(crc32(name.encode())).integers(0, 256, shape, dtype=np.uint8)


def rows_of_faces(people: int = 4, train: int = 6, test: int = 2, strangers: int = 6, pictures: int = 3) -> list[Row]:
    """People p0, p1, ... to learn and u0, u1, ... not to, in an order that is not theirs."""
    known = [
        (f"p{p}/{i}.png", f"p{p}", "test" if i < test else "train") for p in range(people) for i in range(test + train)
    ]
    unseen = [(f"u{p}/{i}.png", f"u{p}", "unseen") for p in range(strangers) for i in range(pictures)]
    return [*known, *unseen][::-1]


def write_faces(root: Path, rows: Iterable[Row] | None = None) -> Path:
    """Grey pictures of 24x28 pixels, all different but alike for a person, and `split.csv`."""
    rows = rows_of_faces() if rows is None else list(rows)
    for name, person, _ in rows:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        blocks = np.kron(noise(person, 7, 6) // 4 * 3, np.ones((4, 4), np.uint8))
        Image.fromarray(blocks + noise(name, 28, 24) // 4).save(root / name)
    with (root / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "identity", "split"), *rows])
    return root


def write_classes(root: Path, halves: Iterable[str] = ("train", "val"), images: int = 12) -> Path:
    """Classes ant, bee and cat; RGB pictures of 24x32 pixels, all different."""
    for half in halves:
        for name in ("ant", "bee", "cat"):
            folder = root / half / name
            folder.mkdir(parents=True)
            for i in range(images):
                Image.fromarray(noise(f"{half}{name}{i}", 24, 32, 3)).save(folder / f"{i:02}.png")
    return root


def write_fashion(root: Path, images: int = 60) -> Path:
    """Fashion-MNIST in torchvision's layout, but of random pixels; labels 0 to 9 in turn."""
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for half in ("train", "t10k"):
        pixels, labels = noise(half, images, 28, 28).tobytes(), bytes(i % 10 for i in range(images))
        (folder / f"{half}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, images, 28, 28) + pixels)
        (folder / f"{half}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, images) + labels)
    return root


def label_map(name: str, height: int, width: int, block: int = 8) -> np.ndarray:
    """Blocks of random labels 0 to 3."""
    blocks = noise(name, -(-height // block), -(-width // block)) % 4
    return np.kron(blocks, np.ones((block, block), np.uint8))[:height, :width]


def write_segments(root: Path, train: int = 8, val: int = 3, height: int = 24, width: int = 32) -> Path:
    """Classes sky, road and car, label 3 void; the colour of a pixel is that of its label in `PALETTE`."""
    for split, count in (("train", train), ("val", val)):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True)
        for i in range(count):
            labels = label_map(f"{split}{i}", height, width)
            Image.fromarray(PALETTE[labels]).save(root / split / f"{i}.png")
            Image.fromarray(labels).save(root / f"{split}annot" / f"{i}.png")
    (root / "classes.txt").write_text("sky\nroad\ncar\nvoid\n")
    return root


def write_cityscapes(root: Path, images: int = 6) -> Path:
    """Training images of two cities in torchvision's layout; every pixel of image n has the label 5 + n."""
    for i in range(images):
        city = f"city{i % 2}"
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / "train" / city).mkdir(parents=True, exist_ok=True)
        stem = f"{city}_00000{i}_000019"
        image = Image.fromarray(np.full((24, 48, 3), 10 * i, np.uint8))
        image.save(root / "leftImg8bit" / "train" / city / f"{stem}_leftImg8bit.png")
        for name, array in (
            ("labelIds", np.full((24, 48), 5 + i, np.uint8)),
            ("instanceIds", np.full((24, 48), 5 + i, np.uint8)),
            ("color", np.zeros((24, 48, 4), np.uint8)),
        ):
            Image.fromarray(array).save(root / "gtFine" / "train" / city / f"{stem}_gtFine_{name}.png")
        (root / "gtFine" / "train" / city / f"{stem}_gtFine_polygons.json").write_text("{}")
    return root
