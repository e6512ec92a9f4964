import struct
import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from search.data import Cifar10, DataError, ImageFolder, Mnist5k, load
from search.data.image_folder import class_folders
from search.data.tensors import cut_out, draw_moves, resize, statistics, statistics_of_many, stratified
from tests.sets import write_classes


def test_the_default_digits_need_no_download_and_split_evenly() -> None:
    data = load(Mnist5k(validation=0.1))
    assert data.train.images.shape == (3600, 1, 28, 28)
    assert data.train.images.dtype == torch.uint8
    assert torch.equal(data.validation.labels.bincount(), torch.full((10,), 40))
    assert torch.equal(data.test_split.labels.bincount(), torch.full((10,), 100))


def test_no_image_is_on_two_sides() -> None:
    data = load(Mnist5k())
    sides = [{bytes(i.numpy()) for i in split.images} for split in (data.train, data.validation, data.test_split)]
    assert len(set.union(*sides)) == sum(map(len, sides))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5), st.floats(0.1, 0.5), st.integers(0, 99))
@settings(deadline=None)
def test_a_stratified_split_takes_the_share_of_each_class(classes: list[int], share: float, seed: int) -> None:
    labels = torch.tensor(classes * 12)
    taken, rest = stratified(labels, share, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.cat([taken, rest]).sort().values, torch.arange(len(labels)))
    for label in labels.unique():
        size = int((labels == label).sum())
        assert int((labels[taken] == label).sum()) == max(1, round(share * size))


def test_a_class_too_small_to_split_is_refused() -> None:
    with pytest.raises(DataError, match="class 1 has 1 images"):
        stratified(torch.tensor([0, 0, 0, 1]), 0.5, torch.Generator())


def test_normalised_training_images_have_mean_0_and_deviation_1() -> None:
    data = load(Mnist5k())
    pixels = data.normalise(data.train.images)
    assert abs(float(pixels.mean())) < 1e-4
    assert abs(float(pixels.std()) - 1) < 1e-3


def augment(images: torch.Tensor, pad: int, flip: bool, seed: int) -> torch.Tensor:
    """Augment images in order."""
    moves = draw_moves(len(images), pad, flip, torch.Generator().manual_seed(seed))
    padded = torch.nn.functional.pad(images, [pad] * 4)
    return cut_out(padded, torch.arange(len(images)), (images.shape[2], images.shape[3]), *moves)


@given(st.integers(0, 3), st.booleans(), st.integers(0, 99))
@settings(deadline=None)
def test_augmented_images_are_crops_of_the_padded_image_or_its_mirror(pad: int, flip: bool, seed: int) -> None:
    images = torch.randint(1, 255, (4, 2, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    crops = augment(images, pad, flip, seed)
    for image, crop in zip(images, crops, strict=True):
        padded = torch.nn.functional.pad(image, [pad] * 4)
        windows = [padded[:, y : y + 5, x : x + 6] for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
        assert any(torch.equal(crop, w) or (flip and torch.equal(crop, w.flip(2))) for w in windows)


def test_flipping_and_shifting_do_happen() -> None:
    images = torch.arange(1, 37, dtype=torch.uint8).view(1, 1, 6, 6).repeat(200, 1, 1, 1)
    crops = augment(images, 1, True, 0)
    assert len({bytes(c.numpy()) for c in crops}) == 18


def test_workers_of_a_group_share_each_batch_out_with_the_same_augmentation() -> None:
    data = load(Mnist5k(size=8, train_images=200, flip=False))
    whole = list(data.batches(12, torch.Generator().manual_seed(1)))
    shares = [list(data.batches(12, torch.Generator().manual_seed(1), (rank, 3))) for rank in range(3)]
    for (images, labels), *parts in zip(whole, *shares, strict=True):
        for rank, (own_images, own_labels) in enumerate(parts):
            assert torch.equal(own_images, images[rank::3])
            assert torch.equal(own_labels, labels[rank::3])


def test_an_epoch_sees_each_image_at_most_once_and_its_own_label() -> None:
    data = load(Mnist5k(pad=0))
    seen = list(data.batches(500, torch.Generator().manual_seed(1)))
    assert [len(labels) for _, labels in seen] == [500] * 7
    known = {bytes(i.numpy()): int(y) for i, y in zip(data.normalise(data.train.images), data.train.labels)}
    pairs = [(bytes(i.numpy()), int(y)) for images, labels in seen for i, y in zip(images, labels)]
    assert len({i for i, _ in pairs}) == 3500
    assert all(known[i] == y for i, y in pairs)


def test_missing_data_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.download=true"):
        load(Cifar10(root=str(tmp_path)))
    with pytest.raises(DataError, match=r"needs data\.root"):
        load(Cifar10())
    with pytest.raises(DataError, match="not a folder of class folders"):
        load(ImageFolder(root=str(tmp_path), size=8))


def test_a_folder_of_images_is_read_at_the_size_wanted(tmp_path: Path) -> None:
    for label, colour in (("cat", (255, 0, 0)), ("dog", (0, 0, 255))):
        folder = tmp_path / "train" / label
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (20, 12 + i), colour).save(folder / f"{i}.png")
    data = load(ImageFolder(root=str(tmp_path), size=8, validation=0.25))
    assert data.train.images.shape == (6, 3, 8, 8)
    assert {tuple(i[:, 4, 4].tolist()) for i in data.train.images[data.train.labels == 1]} == {(0, 0, 255)}


def test_cifar_10_as_torchvision_lays_it_out(cifar10: Path) -> None:
    data = load(Cifar10(root=str(cifar10)))
    assert data.train.images.shape == (45000, 3, 32, 32)
    assert torch.equal(data.validation.labels.bincount(), torch.full((10,), 500))
    means = data.mean.flatten() / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=2e-3, rtol=0)


def huge() -> bytes:
    """Return a PNG file that says that it has 400 million pixels."""
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "gone", "huge"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, damage: str, stream: bool) -> None:
    for label in "ab":
        folder = tmp_path / "train" / label
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (16, 16), (i, 0, 0)).save(folder / f"{i}.png")
    bad = tmp_path / "train" / "a" / "1.png"
    content = {"empty": b"", "noise": bytes(range(256)), "cut": bad.read_bytes()[:50], "huge": huge()}
    bad.unlink()
    if damage == "gone":
        bad.symlink_to(tmp_path / "nowhere.png")
    else:
        bad.write_bytes(content[damage])
    study = ImageFolder(root=str(tmp_path), size=8, validation=0.25, stream=stream, workers=0)

    def read() -> None:
        source = study.load()
        list(source.held_out())
        list(source.batches(2, torch.Generator().manual_seed(0)))

    with pytest.raises(DataError, match=r"1\.png cannot be read as an image"):
        read()


def test_a_folder_that_is_linked_to_itself_counts_once(tmp_path: Path) -> None:
    for label in "ab":
        folder = tmp_path / "train" / label
        folder.mkdir(parents=True)
        (folder / "again").symlink_to(folder)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
    found = class_folders(tmp_path / "train")
    assert [Path(path).name for path, _ in found.samples] == ["0.png", "1.png", "2.png"] * 2
    assert found.targets == [0, 0, 0, 1, 1, 1]
    assert len(found) == 6


def test_a_size_that_no_memory_holds_is_refused() -> None:
    many = torch.zeros(1, 1, 28, 28, dtype=torch.uint8).expand(10**9, 1, 28, 28)
    with pytest.raises(DataError, match=r"data\.size=224 makes of \d+ images [\d,.]+ GiB, more than half"):
        resize(many, 224)


def test_images_held_in_memory_are_not_magnified_without_end(tmp_path: Path) -> None:
    write_classes(tmp_path)
    with pytest.raises(DataError, match=r"data\.size=193 is over 8 times the 24 pixels .*; use at most 192"):
        load(ImageFolder(root=str(tmp_path), size=193))
    assert load(ImageFolder(root=str(tmp_path), size=192)).size == (192, 192)


def test_statistics_of_many_images_are_those_of_few() -> None:
    images = torch.randint(0, 256, (300, 3, 5, 7), dtype=torch.uint8)
    for many, few in zip(statistics_of_many(images), statistics(images), strict=True):
        torch.testing.assert_close(many, few)


def test_images_are_resized_as_in_one_piece() -> None:
    images = torch.randint(0, 256, (300, 1, 28, 28), dtype=torch.uint8)
    alone = torch.cat([resize(image[None], 12) for image in images])
    assert torch.equal(resize(images, 12), alone)
