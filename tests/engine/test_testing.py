"""What is built in, and the examples, pass the checks for what one brings; what is broken does not."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from optuna.samplers import RandomSampler
from torch import nn

from examples.data_set import Stripes
from examples.network import Patches
from examples.objective import FileSize
from examples.sampler import Crossover
from examples.space import TwoParameters
from record.measure import Point
from record.recipe import Recipe
from record.study import Search
from repmlp.networks import KINDS, NetworkConfig
from repmlp.networks.baselines import TorchvisionNet
from repmlp.networks.mobilefacenet import MobileFaceNet
from repmlp.networks.timm_net import TimmNet
from search.data.tensors import Dataset
from search.testing import check_data, check_network, check_quantity, check_sampler, check_space
from spaces.ablations import AblationSpace
from spaces.catalogue import SPACES
from spaces.cifar_mlp import CifarMLPSpace
from spaces.enumeration import Script
from spaces.fixed import FixedSpace
from spaces.mixer import MixerSpace
from spaces.repmlpnet import RepMLPNetSpace
from spaces.resnet import FaceResNetSpace, PSPNetSpace, ResNet50Space, ResNetSmallSpace
from tests import own_networks
from tests.sets import DATA_SETS, write_cityscapes, write_classes, write_faces, write_fashion, write_segments

SETS = ((1, 3), (3, 1, 3), ("identity", 1))
SMALL: list[tuple[Any, tuple[int, tuple[int, int], int]]] = [
    (CifarMLPSpace(channels=((4, 6), (8,)), partitions=(4, 8), groups=(4,), kernels=SETS, head=16), (1, (8, 8), 10)),
    (ResNet50Space(widths=(0.25,), stages=("c3", "c4"), r=(1, 3), partitions=(2, 4), kernels=SETS), (2, (32, 48), 5)),
    (ResNetSmallSpace(widths=(0.25,), r=(2,), partitions=(2, (4, 2)), groups=(2,), kernels=((),)), (1, (16, 16), 10)),
    (FaceResNetSpace(widths=(0.25,), embedding=16, stages=("c4", "c2"), r=(2,), kernels=SETS), (3, (32, 48), 10)),
    (PSPNetSpace(widths=(0.25,), channels=(8, 16), partitions=(3,), groups=(4,), kernels=SETS), (2, (41, 41), 3)),
    (RepMLPNetSpace(channels=(4,), blocks=((1,),), share_sets=((1, 4),), partitions=(2, 4)), (1, (32, 64), 10)),
    (MixerSpace(patches=(4, 8), channels=(8, 12), blocks=(1,), partitions=(2, 4), kernels=SETS), (1, (16, 16), 10)),
    (FixedSpace(networks={"a": {"build": "resnet", "width": 0.25}, "b": {"kind": "mobilefacenet"}}), (3, (64, 64), 9)),
    (AblationSpace(), (3, (32, 32), 10)),
    (TwoParameters(), (3, (8, 8), 10)),
]
OTHERS: list[NetworkConfig] = [
    MobileFaceNet(in_channels=1, size=(32, 32), classes=16, width=0.25),
    TorchvisionNet(name="efficientnet_b1", in_channels=3, size=(32, 32), classes=10),
    TimmNet(model="efficientvit_m0", in_channels=3, size=(32, 32), classes=10),
    Patches(channels=6),
    own_networks.Patches(block={"partition": 4, "kernels": [3]}),
]
STUDY = Search(
    name="s",
    space=CifarMLPSpace(channels=((4, 6, 8, 10, 12),) * 3, blocks=(1, 2), partitions=(2,), groups=(1, 2), head=16),
    data=Stripes(images=40),
    training=Recipe(epochs=1, batch=4),
    measure={"default": Point(batch=8)},
)


@pytest.mark.parametrize(("space", "image"), SMALL, ids=[type(space).__name__ for space, _ in SMALL])
def test_spaces_and_what_they_hold_behave(space: Any, image: Any) -> None:
    check_space(space, image)
    if not isinstance(space, AblationSpace):
        check_network(space.suggest(Script(), *image))


def test_every_space_and_kind_of_network_is_among_those_checked() -> None:
    assert set(SPACES) <= {getattr(space, "name", "") for space, _ in SMALL}
    suggested = [space.suggest(Script(), *image) for space, image in SMALL]
    paths = {f"{type(c).__module__}:{type(c).__qualname__}" for c in [*suggested, *OTHERS]}
    assert set(KINDS.values()) <= paths


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: type(config).__name__)
def test_networks_of_other_kinds_behave(config: NetworkConfig) -> None:
    check_network(config)


@pytest.mark.parametrize(
    ("name", "write", "fields"),
    [
        ("mnist5k", None, {"size": 8, "train_images": 400}),
        ("fashion_mnist", write_fashion, {"validation": 0.25, "flip": True}),
        ("image_folder", write_classes, {"size": 16, "validation": 0.25, "flip": True}),
        ("image_folder", write_classes, {"size": 16, "validation": 0.25, "stream": True, "workers": 0}),
        ("imagenet", write_classes, {"size": 32, "validation": 0.25, "workers": 0}),
        ("face_folder", write_faces, {"size": 24, "validation": 0.34, "flip": True}),
        ("face_folder", write_faces, {"size": 16, "validation": 0.34, "stream": True, "workers": 0}),
        ("segmentation_folder", write_segments, {"size": 16, "scale": (0.5, 2), "workers": 0}),
        ("cityscapes", write_cityscapes, {"size": 16, "validation": 0.34, "workers": 0}),
    ],
)
def test_data_sets_behave(
    tmp_path: Path, name: str, write: Callable[[Path], Path] | None, fields: dict[str, Any]
) -> None:
    root = {"root": str(write(tmp_path))} if write else {}
    check_data(DATA_SETS.validated({"name": name, **root, **fields}), batch=2 if name == "cityscapes" else 4)


def test_the_example_of_a_data_set_behaves() -> None:
    check_data(Stripes())


SLOW = pytest.param("gp", marks=pytest.mark.slow)  # it takes seconds for a proposal


@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        "tpe",
        "nsga2",
        "surrogate",
        "local",
        SLOW,
        Crossover,
        {"name": Crossover, "mutation": 0.5},
        RandomSampler,
    ],
    ids=str,
)
def test_samplers_behave(sampler: Any) -> None:
    study = STUDY.model_copy(update={"space": replace(STUDY.space, kinds=("conv",))}) if sampler == "gp" else STUDY
    check_sampler(sampler, study)


def test_the_example_of_a_quantity_behaves() -> None:
    check_quantity(FileSize, Patches())


def test_checks_are_quick() -> None:
    start = time.perf_counter()
    check_space(TwoParameters(), (3, (8, 8), 10))
    check_data(Stripes())
    check_network(Patches())
    check_quantity(FileSize, Patches())
    assert time.perf_counter() - start < 2


@dataclass(frozen=True)
class BrokenSpace(TwoParameters):
    fault: str = ""

    def suggest(self, trial: Any, *image: Any) -> Any:
        network = super().suggest(Unaware(trial) if self.fault == "plain" else trial, *image)
        width = network.stages[0].channels
        match self.fault:
            case "int":
                trial.suggest_int("depth", 1, 2)
            case "pair":
                trial.suggest_categorical("depth", [(1, 2), (3, 4)])
            case "alike":
                trial.suggest_categorical("depth", [1, 1])
            case "none":
                trial.suggest_categorical("depth", [])
            case "twice":
                trial.suggest_categorical("width", self.widths)
            case "moving":
                trial.suggest_categorical("depth", range(1, width))
            case "chance":
                return replace(network, head=random.randrange(1, 10**6))
            case "image":
                return replace(network, size=(16, 16)).canonical()
            case "raw":
                (stage,) = network.stages
                shape = {"kernels": ((3, 3), (1, 1)), "reduction": 2}
                block = stage.block if stage.block.kind == "conv" else replace(stage.block, **shape)
                return replace(network, stages=(replace(stage, block=block),))
            case "error":
                raise KeyError("depth")
        return network

    def count(self, *image: Any) -> int:
        return super().count(*image) - (self.fault == "count")


class Unaware:
    """A trial that is no `Plainest`, and takes what is offered first."""

    def __init__(self, trial: Any) -> None:
        self.suggest_categorical = trial.suggest_categorical


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("int", r"uses trial\.suggest_int; a space asks by trial\.suggest_categorical alone"),
        ("pair", r"depth offers \[\(1, 2\), \(3, 4\)\]; choices are numbers or words"),
        ("alike", r"depth offers \(1, 1\); offer each value once"),
        ("none", "depth has no choices"),
        ("twice", "width is asked twice for one network"),
        ("moving", r"depth offers .* and then .*; use spaces\.choices\.choose"),
        ("chance", "answers decide the network"),
        ("image", r"is for images of \(3, \(16, 16\)\), not \(3, \(8, 8\)\)"),
        ("raw", "is not canonical: return"),
        ("plain", "passes for the plainest; name the value without RepMLP"),
        ("count", "space.count says 5, but 6 different networks were found"),
        ("error", "space.suggest fails with KeyError: 'depth'"),
    ],
)
def test_a_broken_space_is_told_what_is_wrong(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_space(BrokenSpace(fault=fault), (3, (8, 8), 10))


class Wrapped:
    """A source with other batches."""

    def __init__(self, source: Dataset, batches: Callable[..., Iterator[Any]]) -> None:
        self.source, self.other = source, batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, batch: int, generator: torch.Generator, shard: Any = (0, 1)) -> Iterator[Any]:
        return self.other(self.source, batch, generator, shard)


def unshuffled(source: Dataset, batch: int, _: Any, shard: Any) -> Iterator[Any]:
    return source.batches(batch, torch.Generator().manual_seed(0), shard)


def unseeded(source: Dataset, batch: int, _: Any, shard: Any) -> Iterator[Any]:
    return source.batches(batch, torch.Generator().manual_seed(random.randrange(10**9)), shard)


FAULTS: dict[str, tuple[Callable[[Dataset], Any], str]] = {
    "names": (lambda s: replace(s, class_names=("one",)), "class_names are .*, of 2 classes; all or none"),
    "normalisation": (lambda s: replace(s, std=0 * s.std), "a deviation above 0 for each channel"),
    "classes": (lambda s: replace(s, classes=0), "they must be integers above 0"),
    "labels": (lambda s: replace(s, classes=1, class_names=()), "Targets are \\[0, 1\\]; 1 classes are counted from 0"),
    "floats": (lambda s: replace(s, train=replace(s.train, labels=s.train.labels.float())), "must be int64"),
    "leak": (lambda s: replace(s, validation=s.train), "images are training and validation images too"),
    "test": (lambda s: replace(s, read_test=lambda: s.validation), "images are validation and test images too"),
    "unshuffled": (lambda s: Wrapped(s, unshuffled), "Another seed gave the same epoch; shuffle by the generator"),
    "unseeded": (lambda s: Wrapped(s, unseeded), "The same seed gave another epoch"),
    "shards": (lambda s: Wrapped(s, lambda s, n, g, _: s.batches(n, g)), "Shards do not part a batch"),
    "short": (lambda s: Wrapped(s, lambda s, n, g, shard: list(s.batches(n, g, shard))[1:]), "An epoch has 2 batches"),
    "double": (
        lambda s: Wrapped(s, lambda s, n, g, shard: ((i.double(), t) for i, t in s.batches(n, g, shard))),
        "Images are torch.float64 .*; they must be float32",
    ),
    "infinite": (
        lambda s: Wrapped(s, lambda s, n, g, shard: ((i / 0, t) for i, t in s.batches(n, g, shard))),
        "Some pixels are not finite",
    ),
}


@dataclass(frozen=True)
class BrokenSet(Stripes):
    fault: str = ""

    def load(self, device: str = "cpu") -> Any:
        return FAULTS[self.fault][0](super().load(device))


@dataclass(frozen=True)
class NoTask(Stripes):
    task: ClassVar[Any] = "sorting"


@dataclass(frozen=True)
class Nowhere(Stripes):
    place: ClassVar[frozenset[str]] = frozenset({"folder"})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_data_set_is_told_what_is_wrong(fault: str) -> None:
    with pytest.raises(AssertionError, match=FAULTS[fault][1]):
        check_data(BrokenSet(fault=fault, images=16))


def test_a_data_set_says_its_task_and_its_place_right() -> None:
    with pytest.raises(AssertionError, match="task='sorting' must be one of classification, recognition"):
        check_data(NoTask())
    with pytest.raises(AssertionError, match=r"place names \['folder'\], which are no fields; known are images, noise"):
        check_data(Nowhere())


class Unseeded(RandomSampler):
    def __init__(self, seed: int) -> None:
        super().__init__()


class Outside(RandomSampler):
    def sample_independent(self, *_: Any) -> Any:
        return 5


class Stuck(RandomSampler):
    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return distribution.choices[0]


class WantsAll(Crossover):
    """Learns from every trial as if all were trained."""

    def before_trial(self, study: Any, trial: Any) -> None:
        self.proposal = {}
        _ = [self.trials[number].curve[-1] for number in self.trials]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Unseeded, "The same seed gave"),
        (Outside, "The sampler fails with ValueError"),
        (Stuck, "The sampler proposed 1 of .* networks, and then the same ones"),
        (WantsAll, "The sampler fails with IndexError"),
        ({"name": Crossover, "mutations": 1}, "unexpected keyword argument 'mutations'"),
        ("annealing", "must be one of surrogate, local"),
    ],
    ids=str,
)
def test_a_broken_sampler_is_told_what_is_wrong(sampler: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_sampler(sampler, STUDY)


class Noise(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


@dataclass(frozen=True, kw_only=True)
class BrokenNetwork(Patches):
    fault: str = ""

    def canonical(self) -> Self:
        return (
            replace(super().canonical(), channels=self.channels + 1)
            if self.fault == "canonical"
            else super().canonical()
        )

    def deployed(self) -> Self:
        return self if self.fault == "deployed" else super().deployed()

    def build(self, deploy: bool = False) -> nn.Module:
        model = super().build(deploy)
        match self.fault:
            case "conversion":
                return nn.Sequential(model, Noise())
            case "outputs":
                return nn.Sequential(model, nn.Linear(self.classes, self.classes + 1))
            case "weights":
                return nn.Sequential(model, nn.Linear(self.classes, self.classes)) if deploy else model
            case "operator":
                return nn.Sequential(model, nn.Softplus())
        return model

    def placement(self) -> str:
        return "" if self.fault == "words" else super().placement()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("canonical", r"canonical\(\) changes what is canonical already"),
        ("deployed", r"deployed\(\) keeps kernels, which conversion merges"),
        ("conversion", "Conversion changes the outputs of BrokenNetwork by"),
        ("outputs", r"gives \(4, 11\) for 4 images; \(4, 10\) is due"),
        ("weights", "has other weights than conversion leaves"),
        (
            "operator",
            "Counting BrokenNetwork fails with UnknownOperatorError: no MAC count is known for aten::softplus",
        ),
        ("words", "must be one line; one is ''"),
    ],
)
def test_a_broken_network_is_told_what_is_wrong(fault: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_network(BrokenNetwork(fault=fault))


def test_a_network_is_a_frozen_class_that_is_found_again() -> None:
    with pytest.raises(AssertionError, match="must be a frozen dataclass"):
        check_network(own_networks.Thawed())  # type: ignore[arg-type]


@dataclass(frozen=True)
class InTraining(FileSize):
    def count(self, network: NetworkConfig) -> float:
        return sum(p.numel() for p in network.build().parameters())


@dataclass(frozen=True)
class Negative(FileSize):
    def count(self, network: NetworkConfig) -> float:
        return -1.0


@dataclass(frozen=True)
class Words(FileSize):
    name: str = "my bytes"


@dataclass(frozen=True)
class Undecided(FileSize):
    better: Any = None


@dataclass(frozen=True)
class Known(FileSize):
    name: str = "accuracy"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (InTraining, "of the network converted; count that one"),
        (Negative, "bytes is -1.0; it must be finite and above 0"),
        (Words, "name='my bytes' must be an identifier"),
        (Undecided, "objective Undecided fails"),
        (Known, "objective Known fails with ValidationError"),
    ],
)
def test_a_broken_quantity_is_told_what_is_wrong(kind: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_quantity(kind, Patches())


def test_what_no_other_process_could_import_is_refused() -> None:
    @dataclass(frozen=True)
    class Here(TwoParameters):
        pass

    with pytest.raises(AssertionError, match="cannot be imported by other processes; define the class in a module"):
        check_space(Here(), (3, (8, 8), 10))
