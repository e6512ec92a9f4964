"""Faces: identities to learn, and people never seen in training who make recognition hard.

`split.csv` lists `file`, `identity` and `split`: train and test pictures show the people that are learned; unseen ones
show others. The unseen people are cut in two halves by name: the first are distractors and make verification pairs in
validation, the second in the test.
"""

import csv
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from search.data.tensors import DataConfig, DataError, Dataset, Split, held_out_and_rest, statistics

GALLERY, PROBE, UNSEEN = 0, 1, 2
"""Roles of held-out pictures, whose targets are `(identity, role)`: enrolled, to be identified, never learned."""


@dataclass(frozen=True)
class Faces:
    """What `split.csv` lists. People of the training pictures are numbered first, by name."""

    files: list[Path]
    identities: Tensor
    """`(N,)`, int64."""
    splits: Tensor
    """`(N,)`: 0 for train, 1 for test, 2 for unseen."""
    known: int
    """Number of people that are learned."""

    def of(self, split: int) -> Tensor:
        """Return the indices of a split."""
        return (self.splits == split).nonzero().flatten()

    def validation(self, config: DataConfig) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of gallery, probes (a share of each person's training pictures) and unseen people.

        Raises:
            DataError: if they are too few to be scored.
        """
        train = self.of(0)
        held_out, rest = held_out_and_rest(self.identities[train], config)
        return self.scorable(train[rest], train[held_out], self.unseen_half(0))

    def test(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of gallery (all training pictures), probes (the test pictures) and unseen people.

        Raises:
            DataError: if they are too few to be scored.
        """
        return self.scorable(self.of(0), self.of(1), self.unseen_half(1))

    def scorable(self, gallery: Tensor, probes: Tensor, unseen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the three if MegaFace's trials and the ten folds of verification can be made of them."""
        if len(self.identities[probes].unique()) == len(probes):
            raise DataError(
                f"no person has two of the {len(probes)} held-out pictures, which are compared; raise data.validation, "
                "or give more pictures of a person."
            )
        sizes = self.identities[unseen].bincount()
        same = int((sizes * (sizes - 1)).sum()) // 2
        count = 2 * min(same, len(unseen) * (len(unseen) - 1) // 2 - same)
        if count < 10:
            raise DataError(
                f"half of the unseen people makes {count} verification pairs, of one person and of two alike; at least "
                "10 are needed. Give two pictures each of more unseen people."
            )
        return gallery, probes, unseen

    def unseen_half(self, half: int) -> Tensor:
        """Return the indices of the first or second half of the unseen people."""
        people = self.identities[self.of(2)].unique()
        mine = people[: len(people) // 2] if half == 0 else people[len(people) // 2 :]
        return torch.isin(self.identities, mine).nonzero().flatten()


@functools.lru_cache(maxsize=2)
def load_faces(config: DataConfig, device: str = "cpu") -> Dataset:
    """Read all faces; the held-out pictures are the gallery (the training pictures), probes and unseen people.

    Raises:
        DataError: if `split.csv` is missing or malformed, or there are too few pictures.
    """
    faces = list_faces(config)
    parts = faces.validation(config)
    held_out = with_roles(faces, parts, config.size)
    train = Split(held_out.images[: len(parts[0])].to(device), faces.identities[parts[0]].to(device))
    validation = Split(held_out.images.to(device), held_out.labels.to(device))
    return Dataset(config, train, validation, faces.known, *statistics(train.images))


def load_test_faces(config: DataConfig) -> Split:
    """Read the test: the training pictures as gallery, the test pictures, and the other half of the unseen people."""
    faces = list_faces(config)
    return with_roles(faces, faces.test(), config.size)


def with_roles(faces: Faces, parts: Sequence[Tensor], size: int | None) -> Split:
    """Read the pictures of gallery, probes and unseen people, with targets (identity, role), `(N, 2)`."""
    chosen = torch.cat(list(parts))
    roles = torch.cat([torch.full_like(part, role) for part, role in zip(parts, (GALLERY, PROBE, UNSEEN), strict=True)])
    pictures = [picture(faces.files[i], size) for i in chosen.tolist()]
    shapes = sorted({tuple(p.shape) for p in pictures})
    if len(shapes) > 1:
        raise DataError(f"the pictures are of shapes {shapes[0]} and {shapes[1]}; set data.size, all grey or all RGB.")
    return Split(torch.stack(pictures), torch.stack([faces.identities[chosen], roles], 1))


def list_faces(config: DataConfig) -> Faces:
    """Read `split.csv`.

    Raises:
        DataError: if it is missing, malformed, lacks training or unseen people, or has a person in both.
    """
    if config.root is None:
        raise DataError("data.name=face_folder needs data.root, the folder with split.csv and the pictures.")
    root = Path(config.root)
    try:
        with (root / "split.csv").open(newline="") as file:
            rows = [(row["file"], row["identity"], row["split"]) for row in csv.DictReader(file)]
    except (OSError, KeyError) as error:
        raise DataError(f"{root}/split.csv must list file, identity and split of each picture ({error!r}).") from None
    names = {"train": 0, "test": 1, "unseen": 2}
    present = {split for *_, split in rows}
    if not present <= set(names) or not {"train", "unseen"} <= present:
        raise DataError(f"{root}/split.csv: split must be train, test or unseen, with train and unseen present.")
    train, test, unseen = ({person for _, person, split in rows if split == name} for name in names)
    if train & unseen or test - train:
        person = min((train & unseen) or (test - train))
        raise DataError(
            f"{root}/split.csv: {person} is {'both train and unseen' if train & unseen else 'test without train'}; "
            "test shows people of train, unseen others."
        )
    known, others = sorted(train), sorted(unseen)
    number = {person: i for i, person in enumerate([*known, *others])}
    return Faces(
        files=[root / file for file, *_ in rows],
        identities=torch.tensor([number[person] for _, person, _ in rows]),
        splits=torch.tensor([names[split] for *_, split in rows]),
        known=len(known),
    )


def picture(path: Path, size: int | None) -> Tensor:
    """Read one picture `(C, H, W)`, grey or RGB as it is stored, centre-cropped at `size`."""
    try:
        with Image.open(path) as stored:
            image = v2.functional.pil_to_tensor(stored if stored.mode == "L" else stored.convert("RGB"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    return image if size is None else v2.functional.center_crop(v2.functional.resize(image, [size]), [size])


def pairs(identities: Tensor, most: int = 3000) -> tuple[Tensor, Tensor, Tensor]:
    """Return (first, second, same): as many pairs of one person as of two, at most `most` of each, drawn by seed 0.

    Args:
        identities: `(N,)`, of the pictures to pair.
        most: pairs of each kind.
    """
    first, second = torch.combinations(torch.arange(len(identities))).unbind(1)
    same = identities[first] == identities[second]
    generator = torch.Generator().manual_seed(0)
    count = min(most, int(same.sum()), int((~same).sum()))
    found = [m.nonzero().flatten() for m in (same, ~same)]
    taken = torch.cat([f[torch.randperm(len(f), generator=generator)[:count]] for f in found])
    taken = taken[torch.randperm(len(taken), generator=generator)]
    return first[taken], second[taken], same[taken]
