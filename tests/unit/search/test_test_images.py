"""Test images: read only when asked for, evaluated as validation images are."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from search.data import (
    Cityscapes,
    DataError,
    FaceFolder,
    ImageFolder,
    ImageNet,
    Mnist5k,
    SegmentationFolder,
    Source,
    load,
)
from tests.sets import write_cityscapes, write_classes, write_faces, write_segments


def all_of(source: Source) -> tuple[Tensor, Tensor]:
    images, targets = (torch.cat(part) for part in zip(*source.test()))
    return images, targets


def test_those_of_a_set_on_the_device_are_normalised_as_its_training_images() -> None:
    source = load(Mnist5k(size=8))
    images, labels = all_of(source)
    assert torch.equal(labels.bincount(), torch.full((10,), 100))
    mean, std = source.normalisation
    expected = (source.test_split.images.float() - mean[0]) / std[0]
    assert torch.allclose(images, expected, atol=1e-5)


@pytest.mark.parametrize("half", ["val", "test"])
def test_those_of_streamed_classes_are_in_val_or_test(tmp_path: Path, half: str) -> None:
    write_classes(tmp_path, halves=("train", half), images=6)
    config = {"root": str(tmp_path), "size": 16, "workers": 0, "validation": 0.25}
    stream = load(ImageFolder(stream=True, **config))
    _, labels = all_of(stream)
    assert labels.tolist() == 6 * [0] + 6 * [1] + 6 * [2]
    held = load(ImageFolder(**config))
    assert torch.equal(all_of(held)[1], labels)
    assert all_of(load(ImageNet(**config)))[0].shape == (18, 3, 16, 16)


def test_a_set_without_test_images_trains_and_says_so_when_asked(tmp_path: Path) -> None:
    write_classes(tmp_path, halves=("train",))
    source = load(ImageNet(root=str(tmp_path), size=16, workers=0, validation=0.25))
    next(iter(source.held_out()))
    with pytest.raises(DataError, match="is not a folder of class folders"):
        next(source.test())


def test_other_classes_than_those_of_training_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    shutil.rmtree(tmp_path / "val" / "bee")
    source = load(ImageNet(root=str(tmp_path), size=16, workers=0, validation=0.25))
    with pytest.raises(DataError, match="has other classes"):
        next(source.test())


def test_those_of_segments_are_tiled_as_validation_images_are(tmp_path: Path) -> None:
    write_segments(tmp_path)
    shutil.copytree(tmp_path / "val", tmp_path / "test")
    shutil.copytree(tmp_path / "valannot", tmp_path / "testannot")
    source = load(SegmentationFolder(root=str(tmp_path), size=16, workers=0))
    held_out = [torch.cat(part) for part in zip(*source.held_out())]
    assert all(torch.equal(a, b) for a, b in zip(all_of(source), held_out))


def test_those_of_cityscapes_are_its_labelled_val(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, images=4)
    for kind in ("leftImg8bit", "gtFine"):
        shutil.copytree(tmp_path / kind / "train" / "city0", tmp_path / kind / "val" / "city0")
    source = load(Cityscapes(root=str(tmp_path), size=24, workers=0, validation=0.25))
    assert len(all_of(source)[0]) == 2 * 2  # two images of two tiles


def test_those_of_streamed_faces_are_those_on_the_device(tmp_path: Path) -> None:
    write_faces(tmp_path)
    config = {"root": str(tmp_path), "size": 24, "validation": 0.34, "pad": 0}
    stream, held = load(FaceFolder(stream=True, workers=0, **config)), load(FaceFolder(**config))
    assert torch.equal(all_of(stream)[1], all_of(held)[1])
