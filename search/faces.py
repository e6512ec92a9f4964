"""Faces: identities to learn, and people never seen in training who make recognition hard.

`split.csv` lists `file`, `identity` and `split`: train and test pictures show the people that are learned; unseen ones
show others. The unseen people are cut in two halves by name: the first are distractors and make verification pairs in
validation, the second in the test.
"""

import csv
import functools
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from search.data import DataConfig, DataError, Dataset, Split, statistics, stratified

GALLERY, PROBE, UNSEEN = 0, 1, 2
"""Roles of held-out pictures, whose targets are `(identity, role)`: enrolled, to be identified, never learned."""


@functools.lru_cache(maxsize=2)
def load_faces(config: DataConfig, device: str = "cpu") -> Dataset:
    """Read all faces; the held-out pictures are the gallery (the training pictures), probes and unseen people.

    Raises:
        DataError: if `split.csv` is missing or lacks training or unseen people.
    """
    images, identities, splits = read_faces(config)
    chosen = (splits == 0).nonzero().flatten()
    held_out, rest = stratified(identities[chosen], config.validation, torch.Generator().manual_seed(0))
    gallery, probes = chosen[rest], chosen[held_out]
    train = Split(images[gallery].to(device), identities[gallery].to(device))
    validation = roles(images, identities, gallery, probes, unseen_half(identities, splits, 0))
    return Dataset(
        config,
        train,
        Split(validation.images.to(device), validation.labels.to(device)),
        int(identities[chosen].max()) + 1,
        *statistics(train.images),
    )


def load_test_faces(config: DataConfig) -> Split:
    """Read the test: the training pictures as gallery, the test pictures, and the other half of the unseen people."""
    images, identities, splits = read_faces(config)
    gallery, probes = ((splits == number).nonzero().flatten() for number in (0, 1))
    return roles(images, identities, gallery, probes, unseen_half(identities, splits, 1))


def roles(images: Tensor, identities: Tensor, gallery: Tensor, probes: Tensor, unseen: Tensor) -> Split:
    """Return the pictures of each role with their targets `(N, 2)`."""
    parts = ((gallery, GALLERY), (probes, PROBE), (unseen, UNSEEN))
    targets = [torch.stack([identities[i], torch.full_like(i, role)], 1) for i, role in parts]
    return Split(images[torch.cat([gallery, probes, unseen])], torch.cat(targets))


def unseen_half(identities: Tensor, splits: Tensor, half: int) -> Tensor:
    """Return the pictures of the first or second half of the unseen people, as indices."""
    people = identities[splits == 2].unique()
    mine = people[: len(people) // 2] if half == 0 else people[len(people) // 2 :]
    return torch.isin(identities, mine).nonzero().flatten()


def read_faces(config: DataConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return uint8 images `(N, 1, H, W)` or `(N, 3, H, W)`, identities `(N,)` and splits `(N,)` (0, 1, 2 as listed).

    People of the training pictures are numbered first, by name.
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
    wrong = {split for *_, split in rows} - set(names)
    if wrong or not {"train", "unseen"} <= {split for *_, split in rows}:
        raise DataError(f"{root}/split.csv: split must be train, test or unseen, with train and unseen present.")
    known = sorted({person for _, person, split in rows if split == "train"})
    others = sorted({person for _, person, _ in rows} - set(known))
    number = {person: i for i, person in enumerate([*known, *others])}
    fit = v2.Compose([v2.Resize(config.size, antialias=True), v2.CenterCrop(config.size)]) if config.size else None
    images = [picture(root / file) for file, _, _ in rows]
    if fit is not None:
        images = [fit(image) for image in images]
    return (
        torch.stack(images),
        torch.tensor([number[person] for _, person, _ in rows]),
        torch.tensor([names[split] for *_, split in rows]),
    )


def picture(path: Path) -> Tensor:
    """Read one picture, grey or RGB as it is stored."""
    from torchvision.io import decode_image

    try:
        return decode_image(str(path))
    except RuntimeError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


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
