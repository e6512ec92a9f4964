from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import normalize

from search.data import DataError, FaceFolder, load
from search.data.face_folder import GALLERY, PROBE, UNSEEN, list_faces, pairs
from tests.sets import Row, rows_of_faces, write_faces


def config(root: Path, **fields: object) -> FaceFolder:
    return FaceFolder(**{"root": str(root), "validation": 0.34, **fields})


def replaced(file: str, **changes: str) -> list[Row]:
    """The usual rows, of which one says something else."""
    rows = [dict(zip(("file", "identity", "split"), row)) for row in rows_of_faces()]
    rows = [{**row, **changes} if row["file"] == file else row for row in rows]
    return [(row["file"], row["identity"], row["split"]) for row in rows]


def test_people_of_training_are_numbered_first_by_name(tmp_path: Path) -> None:
    faces = list_faces(config(write_faces(tmp_path)))
    assert faces.known == 4
    names = ["p0", "p1", "p2", "p3", "u0", "u1", "u2", "u3", "u4", "u5"]
    assert [names[i] for i in faces.identities.tolist()] == [file.parent.name for file in faces.files]
    assert [file.relative_to(tmp_path).as_posix() for file in faces.files] == [row[0] for row in rows_of_faces()]
    assert [faces.of(split).numel() for split in (0, 1, 2)] == [24, 8, 18]


def test_validation_takes_probes_of_each_person_and_the_first_half_of_the_unseen(tmp_path: Path) -> None:
    faces = list_faces(config(write_faces(tmp_path)))
    gallery, probes, unseen = faces.validation(config(tmp_path))
    assert faces.identities[gallery].bincount().tolist() == [4] * 4
    assert faces.identities[probes].bincount().tolist() == [2] * 4
    assert {faces.files[i].parent.name for i in unseen.tolist()} == {"u0", "u1", "u2"}
    assert torch.equal(torch.cat([gallery, probes]).sort().values, faces.of(0))


def test_the_test_has_the_other_half_of_the_unseen(tmp_path: Path) -> None:
    faces = list_faces(config(write_faces(tmp_path, rows_of_faces(strangers=7))))
    gallery, probes, unseen = faces.test()
    assert torch.equal(gallery, faces.of(0))
    assert torch.equal(probes, faces.of(1))
    assert {faces.files[i].parent.name for i in unseen.tolist()} == {"u3", "u4", "u5", "u6"}


def read_all(root: Path) -> dict[bytes, str]:
    """Return the file of each picture by its pixels."""
    pictures = [(file, Image.open(file)) for file in sorted(root.rglob("*.png"))]
    return {image.tobytes(): file.relative_to(root).as_posix() for file, image in pictures}


def test_loaded_pictures_have_their_own_targets_and_roles(tmp_path: Path) -> None:
    known = read_all(write_faces(tmp_path))
    data = load(config(tmp_path))
    assert (data.classes, data.channels, data.size) == (4, 1, (28, 24))
    split = {file: split for file, _, split in rows_of_faces()}
    training = [known[image.numpy().tobytes()] for image in data.train.images]
    assert [f"p{label}" for label in data.train.labels.tolist()] == [file[:2] for file in training]
    roles: dict[int, list[str]] = {GALLERY: [], PROBE: [], UNSEEN: []}
    for image, (identity, role) in zip(data.validation.images, data.validation.labels.tolist()):
        file = known[image.numpy().tobytes()]
        assert file[:2] == (f"p{identity}" if identity < 4 else f"u{identity - 4}")
        roles[role].append(file)
    assert roles[GALLERY] == training
    assert {split[file] for file in (*training, *roles[PROBE])} == {"train"}
    assert not set(training) & set(roles[PROBE])
    assert {file[:2] for file in roles[UNSEEN]} == {"u0", "u1", "u2"}


def test_no_stranger_of_validation_is_in_the_test_or_in_training(tmp_path: Path) -> None:
    write_faces(tmp_path)
    data = load(config(tmp_path))
    validation, test = data.validation.labels, data.test_split
    seen, kept = ({int(i) for i, role in labels.tolist() if role == UNSEEN} for labels in (validation, test.labels))
    assert seen == {4, 5, 6}
    assert kept == {7, 8, 9}
    assert set(data.train.labels.tolist()) == {0, 1, 2, 3}
    assert Counter(test.labels[:, 1].tolist()) == {GALLERY: 24, PROBE: 8, UNSEEN: 9}


def test_training_pictures_can_be_fewer(tmp_path: Path) -> None:
    data = load(config(write_faces(tmp_path), train_images=16, validation=0.5))
    assert data.train.labels.bincount().tolist() == [2] * 4
    assert Counter(data.validation.labels[:, 1].tolist()) == {GALLERY: 8, PROBE: 8, UNSEEN: 9}


def test_pictures_are_resized_and_cropped_in_the_middle(tmp_path: Path) -> None:
    image = Image.new("RGB", (96, 32), (255, 0, 0))
    image.paste((0, 0, 255), (32, 0, 64, 32))
    for file in write_faces(tmp_path).rglob("*.png"):
        image.save(file)
    found = load(config(tmp_path, size=16)).train.images[0]
    assert found.shape == (3, 16, 16)
    assert torch.equal(found[:, :, 1:-1], torch.tensor([0, 0, 255]).byte()[:, None, None].expand(3, 16, 14))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"split\.csv must list file, identity and split"),
        ("", "with train and unseen present"),
        ("file,person,split\na.png,a,train\n", "must list file, identity and split"),
        ("file,identity,split\na.png,a,train\nb.png,b,test\n", "with train and unseen present"),
        ("file,identity,split\na.png,a,train\nb.png,b,unseen\nb.png,b,val\n", "must be train, test or unseen"),
        ("file,identity,split\na.png,a,train\nb.png,b,unseen\nb.png,b\n", "must be train, test or unseen"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        list_faces(config(tmp_path))


def test_people_both_learned_and_unseen_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="p2 is both train and unseen"):
        list_faces(config(write_faces(tmp_path, replaced("p2/5.png", split="unseen"))))


def test_people_to_identify_who_were_not_learned_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="u3 is test without train"):
        list_faces(config(write_faces(tmp_path, replaced("u3/0.png", split="test"))))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (rows_of_faces(train=2), "no person has two of the 4 held-out pictures"),
        (rows_of_faces(strangers=6, pictures=1), "makes 0 verification pairs"),
        (rows_of_faces(strangers=2, pictures=5), "makes 0 verification pairs"),  # one person in the half
        (rows_of_faces(strangers=8, pictures=2), "makes 8 verification pairs"),
    ],
)
def test_too_few_pictures_to_be_scored_are_refused(tmp_path: Path, rows: list[Row], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(config(write_faces(tmp_path, rows)))


def test_the_fewest_pictures_that_can_be_scored(tmp_path: Path) -> None:
    faces = list_faces(config(write_faces(tmp_path, rows_of_faces(strangers=10, pictures=2))))
    _, _, unseen = faces.validation(config(tmp_path))  # 5 people: 5 pairs of one, 40 of two
    assert len(pairs(faces.identities[unseen])[0]) == 10


def test_missing_and_unlike_pictures_say_what_to_do(tmp_path: Path) -> None:
    write_faces(tmp_path)
    Image.new("L", (9, 9)).save(tmp_path / "p1" / "4.png")
    with pytest.raises(DataError, match=r"shapes \(1, 9, 9\) and \(1, 28, 24\); set data\.size"):
        load(config(tmp_path))
    (tmp_path / "p1" / "4.png").unlink()
    with pytest.raises(DataError, match=r"p1/4\.png cannot be read"):
        load(config(tmp_path))
    with pytest.raises(DataError, match=r"needs data\.root"):
        load(FaceFolder())


@given(st.lists(st.integers(0, 5), min_size=2, max_size=14), st.integers(1, 12))
@settings(deadline=None)
def test_pairs_are_different_as_many_of_one_person_as_of_two(identities: list[int], most: int) -> None:
    people = torch.tensor(identities)
    first, second, same = pairs(people, most)
    assert torch.equal(people[first] == people[second], same)
    assert bool((first < second).all())
    assert len(set(zip(first.tolist(), second.tolist()))) == len(first)
    every = [people[i] == people[j] for i in range(len(people)) for j in range(i)]
    kinds = Counter(map(bool, every))
    count = min(most, kinds[True], kinds[False])
    assert Counter(same.tolist()) == Counter({True: count, False: count})


def test_pairs_are_mixed_and_always_the_same() -> None:
    people = torch.arange(40).div(4, rounding_mode="floor")
    one, two = pairs(people, 50), pairs(people, 50)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert 5 < int(one[2][:20].sum()) < 15  # consecutive pairs make folds
    assert not torch.equal(one[0], one[0].sort().values)


def test_real_faces_as_their_readme_counts_them(lfw: Path) -> None:
    faces = list_faces(config(lfw))
    assert faces.known == 62
    assert [faces.of(split).numel() for split in (0, 1, 2)] == [2421, 602, 1301]
    halves = [{int(i) for i in faces.identities[faces.unseen_half(half)]} for half in (0, 1)]
    assert [len(half) for half in halves] == [48, 48]
    assert halves[0] | halves[1] == set(range(62, 158))
    gallery, probes, _ = faces.validation(config(lfw, validation=0.1))
    assert torch.equal(torch.cat([gallery, probes]).sort().values, faces.of(0))
    assert faces.identities[probes].bincount().tolist() == [
        round(0.1 * n) for n in faces.identities[faces.of(0)].bincount().tolist()
    ]


def test_raw_pixels_identify_as_many_real_faces_as_their_readme_says(lfw: Path) -> None:
    test = load(config(lfw)).test_split
    pixels = test.images.flatten(1).float()
    pixels = normalize(pixels - pixels.mean(1, keepdim=True))
    people, role = test.labels.unbind(1)
    gallery, probe = role == GALLERY, role == PROBE
    nearest = (pixels[probe] @ pixels[gallery].T).argmax(1)
    assert 100 * float((people[gallery][nearest] == people[probe]).float().mean()) == pytest.approx(40.7, abs=0.5)
