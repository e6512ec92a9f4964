import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from record.measure import Measurement, Point
from repmlp import RepMLP, build, config_from_dict
from search.measuring.points import measure
from search.measuring.runtimes import MeasureError
from search.measuring.switches import switches
from search.networks import SpaceNetworks
from search.training.trainer import Trainer
from spaces.ablations import AblationSpace
from spaces.catalogue import SPACES, Space
from spaces.fixed import FixedSpace
from spaces.resnet import ResNet50Space
from tests.engine.test_training import CONFIG, DATA, RECIPE

SHORT = Point(batch=10, seconds=0.05)


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
    assert 500 < found.median <= 2000
    assert found.samples >= 10
    assert found.relative is None
    assert found.latency == pytest.approx(10_000 / found.median, rel=0.3)


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


def state() -> dict[str, object]:
    """Every switch that changes what a network computes or how fast."""
    return {
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "threads": torch.get_num_threads(),
    }


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("before", [False, True])
def test_what_the_process_did_before_does_not_count_and_is_restored(tf32: bool, before: bool) -> None:
    class Notes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(state())
            return x

    seen: list[dict[str, object]] = []
    with switches(tf32=before, threads=1):
        torch.backends.cudnn.benchmark = before
        outside = state()
        found = measure(Notes(), (1, 2, 2), SHORT.model_copy(update={"tf32": tf32, "threads": 2}), "cpu")
        assert state() == outside
    assert all(s == {"matmul": tf32, "cudnn": tf32, "benchmark": False, "threads": 2} for s in seen)
    assert found.tf32 is tf32
    assert found.cudnn_benchmark is False


def test_switches_are_restored_after_an_error() -> None:
    class Fails(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise KeyError("no such layer")

    outside = state()
    with pytest.raises(KeyError):
        measure(Fails(), (1, 2, 2), SHORT.model_copy(update={"tf32": True, "threads": 2}), "cpu")
    assert state() == outside


def test_the_conversion_is_checked_without_tf32_and_training_is_left_as_it_is() -> None:
    class Notes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return x.flatten(1)[:, :10]

    seen: list[bool] = []
    before = torch.backends.cudnn.allow_tf32
    trainer = Trainer(CONFIG, DATA, RECIPE, 0)
    trainer.train_epoch()
    assert torch.backends.cudnn.allow_tf32 == before
    trainer.compare(Notes())
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32 == before


def test_warm_up_and_whatever_it_allocates_come_before_the_device_is_taken_alone() -> None:
    class Notes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            events.append("call")
            return x

    @contextmanager
    def alone() -> Iterator[None]:
        events.append("alone")
        yield
        events.append("free")

    events: list[str] = []
    measure(Notes(), (1, 2, 2), SHORT, "cpu", Notes(), alone)
    assert events[:5] == ["call"] * 4 + ["alone"]
    assert events[-1] == "free"
    assert events.count("alone") == 1


def test_timing_one_call_at_a_time_takes_no_more_calls_than_samples() -> None:
    """Each sample once had a warm-up of two calls of its own."""
    slow = Sleeps(0.03)
    found = measure(slow, (1, 2, 2), SHORT, "cpu")
    assert slow.calls == found.samples + 4  # two to warm up, two to see how many fit into a sample


def compiled_frames() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


class Scale(torch.nn.Module):
    """A network whose forward pass is the same code for every size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


@pytest.mark.parametrize("count", [3, pytest.param(14, marks=pytest.mark.slow)])
def test_every_network_of_a_process_that_is_measured_compiled_is_compiled(count: int) -> None:
    conditions = SHORT.model_copy(update={"runtime": "torch-compiled"})
    with torch._dynamo.config.patch(recompile_limit=2 if count < 8 else 8):
        for width in range(1, count + 1):
            before = compiled_frames()
            assert measure(Scale(width), (1, 4, 4), conditions, "cpu").runtime == "torch-compiled"
            assert compiled_frames() == before + 1


def test_a_network_that_is_not_compiled_whole_is_not_measured() -> None:
    class Breaks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch._dynamo.graph_break()
            return x + 1

    with pytest.raises(MeasureError, match=r"runtime=torch-compiled: torch\.compile fails"):
        measure(Breaks(), (1, 4, 4), SHORT.model_copy(update={"runtime": "torch-compiled"}), "cpu")
    with (
        torch._dynamo.config.patch(disable=True),
        pytest.raises(MeasureError, match=r"runtime=torch-compiled: torch\.compile"),
    ):
        measure(Scale(1), (1, 4, 4), SHORT.model_copy(update={"runtime": "torch-compiled"}), "cpu")


def test_a_record_without_newer_fields_is_read() -> None:
    old = {"median": 100.0, "p10": 95.0, "p90": 110.0, "samples": 10, "batch": 8, "dtype": "float32", "device": "cpu"}
    read = Measurement(**old, threads=1)
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
