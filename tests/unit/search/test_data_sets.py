"""Data sets by name: those of the package, and one's own."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
import torch

from record.files import checked
from record.same import what_data
from record.stored import upgraded_data
from record.study import StudyError, study_of
from search.data import DataConfig, Mnist5k, load, named, names
from tests.conftest import ROOT
from tests.sets import DATA_SETS, write_cityscapes, write_classes, write_faces, write_fashion, write_segments

BATCHES: list[tuple[str, Callable[[Path], Path] | None, dict[str, object], tuple[object, ...]]] = [
    (
        "mnist5k",
        None,
        {"size": 8, "train_images": 400, "validation": 0.25, "pad": 1},
        (3749848910, [-0.0587, -0.0434, 0.135, -0.1376], 1261243060, [0.1089, 0.2004, -0.1145, 0.1763]),
    ),
    (
        "fashion_mnist",
        write_fashion,
        {"validation": 0.25, "flip": True, "pad": 3},
        (2812522356, [-0.1632, -0.0895, -0.1064, -0.0904], 1664249320, [0.0021, -0.0121, 0.008, -0.0041]),
    ),
    (
        "image_folder",
        write_classes,
        {"size": 16, "validation": 0.25, "flip": True},
        (315254339, [-0.5342, -0.5388, -0.4132, -0.2739], 1884499570, [0.0407, 0.0342, -0.0075, 0.0271]),
    ),
    (
        "image_folder",
        write_classes,
        {"size": 16, "validation": 0.25, "flip": True, "stream": True, "workers": 0},
        (315254339, [0.1178, 0.1625, 0.169, 0.1083], 1884499570, [0.1726, 0.169, 0.1452, 0.165]),
    ),
    (
        "imagenet",
        write_classes,
        {"validation": 0.25, "train_images": 24, "workers": 0},
        (1871604841, [0.1206, 0.1561, 0.1032, 0.1442], 1207103750, [0.1732, 0.1461, 0.1516, 0.1773]),
    ),
    (
        "face_folder",
        write_faces,
        {"size": 24, "validation": 0.34, "flip": True},
        (2111932352, [0.1288, -0.0247, -0.1179, -0.2446], 756327674, [0.0779, 0.06, 0.0805, 0.0743]),
    ),
    (
        "face_folder",
        write_faces,
        {"size": 16, "validation": 0.34, "flip": True, "pad": 3, "stream": True, "workers": 0},
        (2111932352, [-0.0806, -0.0294, -0.0172, -0.014], 756327674, [0.1984, 0.1914, 0.1997, 0.194]),
    ),
    (
        "segmentation_folder",
        write_segments,
        {"size": 16, "scale": (0.5, 2), "flip": True, "workers": 0},
        (3814672566, [0.0916, 0.066, -0.1964, -0.0871], 505107922, [0.308, -0.0467, 0.4306, 0.0748]),
    ),
    (
        "cityscapes",
        write_cityscapes,
        {"size": 16, "scale": (0.5, 2), "flip": True, "validation": 0.34, "workers": 0},
        (1034161722, [-0.9581, -0.7839, -0.6968, -0.871], 1489813316, [-0.6097, -0.6097, -0.6097, -0.6097]),
    ),
]
"""Of an epoch and of the validation split: CRC of all targets, and a mean of each of the first four images that weighs
pixels by where they are; as they were before data sets had modules of their own, but for cityscapes, whose images came
in the order of the file system."""
FLAT = {
    "root": None,
    "download": False,
    "size": None,
    "train_images": None,
    "validation": 0.1,
    "pad": 2,
    "flip": False,
    "auto_augment": False,
    "resize": None,
    "scale": [1.0, 1.0],
    "rotate": 0.0,
    "stream": False,
    "workers": 2,
    "decode": "cpu",
}
"""A configuration as older versions stored it, at its defaults."""
OWN = """
from dataclasses import dataclass
from typing import ClassVar

import torch

from search.data.tensors import Split, TensorSet, in_memory


def stripes(count, seed):
    labels = torch.arange(count) % 2
    noise = torch.randint(200, (count, 1, 8, 8), generator=torch.Generator().manual_seed(seed))
    noise[labels == 1, :, ::2] += 50
    return noise.to(torch.uint8), labels


@dataclass(frozen=True)
class Stripes:
    task: ClassVar = "classification"
    place: ClassVar = frozenset({"root"})
    count: int = 40
    root: str = "here"

    def load(self, device="cpu"):
        return in_memory(Split(*stripes(self.count, 0)), lambda: Split(*stripes(10, 1)), device, validation=0.25)


class Derived(TensorSet):
    def read(self, train):
        return stripes(40 if train else 10, 0 if train else 1)


class NoTask:
    model_fields = {}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module with data sets of one's own."""
    (tmp_path / "my_sets.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_sets", raising=False)
    return "my_sets"


@pytest.mark.parametrize(("name", "write", "fields", "expected"), BATCHES, ids=range(len(BATCHES)))
def test_images_splits_order_and_augmentation_are_what_they_always_were(
    tmp_path: Path,
    name: str,
    write: Callable[[Path], Path] | None,
    fields: dict[str, object],
    expected: tuple[object, ...],
) -> None:
    source = load(DATA_SETS.validated({"name": name, **({"root": str(write(tmp_path))} if write else {}), **fields}))
    found: list[object] = []
    for part in (source.batches(4, torch.Generator().manual_seed(0)), source.held_out()):
        batches = list(part)
        images = batches[0][0][:4].double()
        weights = torch.linspace(0, 1, images[0].numel()).view_as(images[0])
        found += [crc32(torch.cat([targets for _, targets in batches]).numpy().tobytes())]
        found += [pytest.approx((images * weights).mean((1, 2, 3)).tolist(), abs=2e-3)]
    assert list(expected) == found


def test_every_data_set_is_found_by_its_name() -> None:
    known = "cifar10 cifar100 cityscapes face_folder fashion_mnist image_folder imagenet mnist5k segmentation_folder"
    assert names() == known.split()
    for name in names():
        config = named(name)()
        assert (config.name, DATA_SETS.validated(DATA_SETS.written(config))) == (name, config)
        assert type(config).place <= set(type(config).model_fields)
        assert not {"size", "validation", "stream", "flip"} & type(config).place
    assert {name for name in names() if named(name).task == "segmentation"} == {"cityscapes", "segmentation_folder"}
    assert named("face_folder").task == "recognition"
    assert DATA_SETS.validated({}) == Mnist5k()


def test_importing_data_sets_alone_is_cheap_and_gives_their_classes_when_asked() -> None:
    program = """
import sys
import search.data
assert not {"torch", "torchvision", "search.data.cifar10"} & set(sys.modules)
from search.data import Cifar10, ImageNet, segments
assert (Cifar10.__module__, ImageNet().name) == ("search.data.cifar10", "imagenet")
assert segments.IGNORED == 255
assert not hasattr(search.data, "Tensors")
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize("name", ["Stripes", "Derived"])
def test_a_data_set_of_ones_own_is_a_class_by_its_place(own: str, name: str) -> None:
    given = {"validation": 0.25} if name == "Derived" else {}
    study = study_of({"name": "s", "data": {"name": f"{own}:{name}", **given}})
    assert type(study.data).__name__ == name
    source = load(study.data)
    assert (len(source), source.classes, source.size, source.channels) == (30, 2, (8, 8), 1)
    assert torch.cat([labels for _, labels in source.held_out()]).bincount().tolist() == [5, 5]
    assert sum(len(labels) for _, labels in source.test()) == 10
    stored = study.model_dump(mode="json")
    assert stored["data"]["name"] == f"{own}:{name}"
    assert study_of(stored) == study
    assert pickle.loads(pickle.dumps(study.data)) == study.data


def test_where_data_of_ones_own_lies_is_not_what_it_is(own: str) -> None:
    here, there, fewer = (
        what_data(study_of({"name": "s", "data": {"name": f"{own}:Stripes", **fields}}))
        for fields in ({}, {"root": "there"}, {"count": 20})
    )
    assert here == there == {"name": f"{own}:Stripes", "count": 40}
    assert here != fewer


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Stripes", "colour": 3}, r"unknown key data\.colour; known are count, root"),
        ({"name": "Stripes", "count": "many"}, "data.count='many': should be a valid integer"),
        ({"name": "Dots"}, r"my_sets:Dots cannot be imported \(module"),
        ({"name": "NoTask"}, "my_sets:NoTask lacks task and load, which a data set has"),
        ({"name": "stripes"}, "must be a class"),
    ],
)
def test_a_data_set_of_ones_own_that_cannot_be_used_says_why(own: str, values: dict[str, str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        checked({"name": "s", "data": {**values, "name": f"{own}:{values['name']}"}})


def test_a_set_without_test_images_says_so(own: str) -> None:
    from search.data.tensors import Split, in_memory

    images, labels = torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.arange(8) % 2
    with pytest.raises(ValueError, match="no test images"):
        next(in_memory(Split(images, labels), validation=0.25).test())


@pytest.mark.parametrize("name", names())
def test_what_older_versions_stored_is_read_as_today(name: str) -> None:
    given: DataConfig = DATA_SETS.validated(upgraded_data({"name": name, **FLAT}))
    assert given == named(name)()
    changed = {"root": "data", "size": 64, "train_images": 9, "workers": 5, "pad": 1, "rotate": 3, "validation": 0.3}
    config = DATA_SETS.validated(upgraded_data({"name": name, **FLAT, **changed}))
    kept = {key: value for key, value in changed.items() if key in type(config).model_fields}
    assert DATA_SETS.written(config) == {**DATA_SETS.written(given), **kept}
    assert upgraded_data(DATA_SETS.written(config)) == DATA_SETS.written(config)
