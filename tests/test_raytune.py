from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from search import raytune
from search.study import Resources, StudyError
from tests.driving import engine_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray with one CPU and a node to measure on."""
    ray.init(num_cpus=1, resources={"target": 1}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


OFFERED = {"CPU": 4.0, "GPU": 1.0, "target": 1.0}


def test_places_are_what_the_scarcer_resource_allows() -> None:
    assert raytune.places(Resources(cpus=1), OFFERED) == 4
    assert raytune.places(Resources(cpus=1, gpus=0.5), OFFERED) == 2
    assert raytune.places(Resources(cpus=1, workers=2), OFFERED) == 2
    with pytest.raises(StudyError, match=r"resources\.gpus=2 for a trial, but Ray offers 1 GPUs"):
        raytune.places(Resources(gpus=2), OFFERED)


def test_measuring_on_nodes_that_are_not_there_is_refused() -> None:
    assert raytune.places(Resources(measure_on={"target": 1}), OFFERED) == 4
    with pytest.raises(StudyError, match=r"asks for phone=1, but Ray's nodes have 0; start the one that measures with"):
        raytune.places(Resources(measure_on={"phone": 1}), OFFERED)


def test_throughput_is_measured_on_the_nodes_that_are_named(tiny: Path, cluster: None) -> None:
    engine = engine_of(tiny, "trials=1", "resources.measure_on={target: 1}", "measure.confirm=true", "halving=null")
    raytune.run(engine, engine.study.resources)
    (entry,) = engine.journal.entries.values()
    assert (entry.outcome, entry.reason) == ("complete", "")
    assert entry.throughput is not None
    assert entry.throughput.relative is not None
    assert entry.confirmed is not None
    assert engine.finished


def test_an_error_of_a_worker_is_told(tiny: Path, cluster: None) -> None:
    class Breaks(raytune.Worker):
        def step(self) -> dict[str, object]:
            raise KeyError("no such layer")

    engine = engine_of(tiny, "trials=1", "halving=null")
    raytune.run(engine, engine.study.resources, Breaks)
    (entry,) = engine.journal.entries.values()
    assert entry.outcome == "failed"
    assert entry.reason == "KeyError: 'no such layer'"
