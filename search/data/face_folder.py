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
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torchvision.transforms import v2

from search.data.base import LARGEST, DataError, Source, TaskName
from search.data.streams import Example, OneImage, Stream, StreamedImages, picture, read_labelled, whole
from search.data.tensors import Dataset, Split, check_magnified, held_out_and_rest, statistics

GALLERY, PROBE, UNSEEN = 0, 1, 2
"""Roles of held-out pictures, whose targets are `(identity, role)`: enrolled, to be identified, never learned."""


class FaceFolder(StreamedImages):
    """`root/split.csv` with the columns file, identity and split (train, test, unseen)."""

    task: ClassVar[TaskName] = "recognition"

    name: Literal["face_folder"] = "face_folder"
    pad: int = Field(default=2, ge=0, le=LARGEST)
    """Training images are zero-padded by so many pixels and cropped at random."""
    stream: bool = False
    """Whether images are read by workers as training goes, for sets too large to hold; they are RGB then. `workers` and
    `decode` are for these."""

    def load(self, device: str = "cpu") -> Source:
        """Open the set, streamed or on the device.

        Raises:
            DataError: if `split.csv` is missing or malformed, or there are too few pictures.
        """
        return open_faces(self, device) if self.stream else load_faces(self, device)


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

    def validation(self, config: FaceFolder) -> tuple[Tensor, Tensor, Tensor]:
        """Return the indices of gallery, probes (a share of each person's training pictures) and unseen people.

        Raises:
            DataError: if they are too few to be scored.
        """
        train = self.of(0)
        held_out, rest = held_out_and_rest(self.identities[train], config.validation, config.train_images)
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
def load_faces(config: FaceFolder, device: str) -> Dataset:
    """Read all faces; the held-out pictures are the gallery (the training pictures), probes and unseen people."""
    faces = list_faces(config)
    parts = faces.validation(config)
    held_out = with_roles(faces, parts, config.size)
    train = Split(held_out.images[: len(parts[0])], faces.identities[parts[0]]).to(device)
    return Dataset(
        train,
        held_out.to(device),
        faces.known,
        *statistics(train.images),
        read_test=lambda: with_roles(faces, faces.test(), config.size),
        pad=config.pad,
        flip=config.flip,
    )


def open_faces(config: FaceFolder, device: str) -> Stream:
    """List the faces of `split.csv`."""
    faces = list_faces(config)
    config.check_decoding(device)
    validation = faces.validation(config)

    def listed(parts: Sequence[Tensor]) -> list[Example]:
        roles = zip((GALLERY, PROBE, UNSEEN), parts, strict=True)
        return [(faces.files[i], (int(faces.identities[i]), role)) for role, part in roles for i in part.tolist()]

    return Stream(
        device=device,
        train=[(faces.files[i], int(faces.identities[i])) for i in validation[0].tolist()],
        validation=listed(validation),
        list_test=lambda: listed(faces.test()),
        training=OneImage(aligned_crop(config.side, config.pad, config.flip)),
        evaluation=OneImage(whole(config.side)),
        read=read_labelled,
        size=(config.side, config.side),
        classes=faces.known,
        workers=config.workers,
        decode=config.decode,
    )


def aligned_crop(size: int, pad: int, flip: bool) -> Any:
    """Return the augmentation of aligned faces: a padded shift and mirroring."""
    steps: list[Any] = [whole(size), v2.RandomCrop(size, pad)]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    return v2.Compose(steps)


def with_roles(faces: Faces, parts: Sequence[Tensor], size: int | None) -> Split:
    """Read the pictures of gallery, probes and unseen people, with targets (identity, role), `(N, 2)`."""
    chosen = torch.cat(list(parts))
    roles = torch.cat([torch.full_like(part, role) for part, role in zip(parts, (GALLERY, PROBE, UNSEEN), strict=True)])
    pictures = [face(faces.files[i], size) for i in chosen.tolist()]
    shapes = sorted({tuple(p.shape) for p in pictures})
    if len(shapes) > 1:
        raise DataError(f"the pictures are of shapes {shapes[0]} and {shapes[1]}; set data.size, all grey or all RGB.")
    return Split(torch.stack(pictures), torch.stack([faces.identities[chosen], roles], 1))


def list_faces(config: FaceFolder) -> Faces:
    """Read `split.csv`.

    Raises:
        DataError: if it is missing, malformed, lacks training or unseen people, or has a person in both.
    """
    root = config.folder
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


def face(path: Path, size: int | None) -> Tensor:
    """Read one picture `(C, H, W)`, grey or RGB as it is stored, centre-cropped at `size`."""
    stored = picture(path, None)
    image = v2.functional.pil_to_tensor(stored if stored.mode == "L" else stored.convert("RGB"))
    if size is not None:
        check_magnified(size, *image.shape[1:])
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
