import time

import pytest
import torch

from repmlp import RepMLP, build, config_from_dict
from search.networks import SpaceNetworks
from search.throughput import MeasureConfig, Throughput, measure
from spaces.ablations import AblationSpace
from spaces.catalogue import SPACES, Space
from spaces.fixed import FixedSpace
from spaces.resnet import ResNet50Space

SHORT = MeasureConfig(batch=10, seconds=0.05)


class Sleeps(torch.nn.Module):
    """Takes as many seconds as the next of `times`, again and again."""

    def __init__(self, *times: float) -> None:
        super().__init__()
        self.times, self.calls = times, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.times[self.calls % len(self.times)])
        self.calls += 1
        return x


def test_throughput_counts_images_per_second() -> None:
    found = measure(Sleeps(0.005), (1, 2, 2), SHORT, "cpu")
    assert 1000 < found.median <= 2000
    assert found.samples >= 10
    assert found.relative is None
    assert found.latency == pytest.approx(10_000 / found.median)


def test_a_network_is_measured_in_turn_with_its_reference() -> None:
    found = measure(Sleeps(0.004), (1, 2, 2), SHORT, "cpu", reference=Sleeps(0.012))
    assert found.relative == pytest.approx(3, rel=0.15)
    assert found.relative_p10 <= found.relative <= found.relative_p90


def test_an_unsteady_measurement_is_repeated_and_flagged() -> None:
    steady = measure(Sleeps(0.005), (1, 2, 2), SHORT.model_copy(update={"spread": 0.9}), "cpu")
    assert (steady.steady, steady.repeats) == (True, 1)
    shaky = measure(Sleeps(0.003, 0.012), (1, 2, 2), SHORT.model_copy(update={"seconds": 0.01}), "cpu")
    assert (shaky.steady, shaky.repeats) == (False, 3)
    assert shaky.spread > 0.2


@pytest.mark.parametrize("changes", [{"channels_last": True}, {"dtype": "bfloat16"}, {"threads": 2}])
def test_conditions_are_kept_and_recorded(changes: dict[str, object]) -> None:
    class Notes(torch.nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.update(
                dtype=str(x.dtype).removeprefix("torch."),
                channels_last=x.is_contiguous(memory_format=torch.channels_last)
                and self.weight.is_contiguous(memory_format=torch.channels_last),
                threads=torch.get_num_threads(),
            )
            return super().forward(x)

    seen: dict[str, object] = {}
    conditions = SHORT.model_copy(update=changes)
    found = measure(Notes(3, 4, 3), (3, 8, 8), conditions, "cpu")
    for name in ("channels_last", "dtype", "threads"):
        assert seen[name] == getattr(found, name) == getattr(conditions, name)


@pytest.mark.slow
def test_a_compiled_network_is_measured() -> None:
    found = measure(torch.nn.Conv2d(3, 4, 3), (3, 8, 8), SHORT.model_copy(update={"compiled": True}), "cpu")
    assert found.compiled


def test_a_record_without_newer_fields_is_read() -> None:
    old = {"median": 100.0, "p10": 95.0, "p90": 110.0, "samples": 10, "batch": 8, "dtype": "float32", "device": "cpu"}
    read = Throughput(**old, threads=1)
    assert read.steady
    assert read.spread == pytest.approx(0.15)


@pytest.mark.parametrize("name", [name for name in SPACES if name not in ("ablation", "fixed", "repmlpnet")])
def test_the_baseline_of_a_space_holds_no_repmlp(name: str) -> None:
    space: Space = SPACES[name]()
    baseline = config_from_dict(SpaceNetworks(space, space.images).baseline())
    with torch.device("meta"):
        assert not [module for module in build(baseline).modules() if isinstance(module, RepMLP)]


@pytest.mark.parametrize("name", ["ablation", "fixed"])
def test_the_baseline_of_a_list_is_its_first_network(name: str) -> None:
    space: Space = SPACES[name]()
    assert isinstance(space, AblationSpace | FixedSpace)
    first = space.network(space.names[0], *space.images)
    assert config_from_dict(SpaceNetworks(space, space.images).baseline()) == first


def test_the_baseline_of_resnet50_is_resnet50() -> None:
    networks = SpaceNetworks(ResNet50Space(), (3, (224, 224), 1000))
    baseline = config_from_dict(networks.baseline())
    assert sum(p.numel() for p in build(baseline).parameters()) == 25_557_032
