import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from record.resources import Resources
from record.study import StudyError
from search.backends import raytune
from search.backends.places import places
from tests.driving import engine_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray with one CPU and a node to measure on."""
    ray.init("local", num_cpus=1, resources={"target": 1}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


OFFERED = {"CPU": 4.0, "GPU": 1.0, "target": 1.0}


def test_places_are_what_the_scarcer_resource_allows() -> None:
    assert places(Resources(cpus=1), OFFERED, "Ray") == 4
    assert places(Resources(cpus=1, gpus=0.5), OFFERED, "Ray") == 2
    assert places(Resources(cpus=1, workers=2), OFFERED, "Ray") == 2
    told = r"resources\.gpus=1 for each of 2 workers, but Ray offers 1 GPUs; ask for .* such as resources\.workers=1\."
    with pytest.raises(StudyError, match=told):
        places(Resources(gpus=1, workers=2), OFFERED, "Ray")


def test_shares_of_gpus_are_counted_gpu_by_gpu() -> None:
    """Two trials of 0.6 do not fit on two GPUs as three."""
    assert places(Resources(gpus=0.6), {"CPU": 16, "GPU": 2}, "Ray") == 2
    assert places(Resources(gpus=0.1), {"CPU": 16, "GPU": 1}, "Ray") == 10


def test_measuring_on_nodes_that_are_not_there_is_refused() -> None:
    assert places(Resources(measure_on={"target": 1}), OFFERED, "Ray") == 4
    with pytest.raises(StudyError, match=r"asks for phone=1, but Ray's nodes have 0; start the one that measures with"):
        places(Resources(measure_on={"phone": 1}), OFFERED, "Ray")


@ray.remote(num_cpus=0, resources={"target": 1})
class Holder:
    """Takes the node to measure on for itself."""

    def held(self) -> None:
        """Nothing; answers once it is so."""


def test_a_node_to_measure_on_that_is_taken_is_told(tiny: Path, cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raytune, "PLACED", 1.0)
    holder = Holder.remote()
    ray.get(holder.held.remote())
    engine = engine_of(tiny, "trials=1", "resources={backend: ray, measure_on: {target: 1}}")
    with pytest.raises(StudyError, match=r"resources\.measure_on={'target': 1\.0}: no node has that free"):
        raytune.run(engine)
    assert engine.journal.trials == {}
    ray.kill(holder)


def test_throughput_is_measured_on_the_nodes_that_are_named(tiny: Path, cluster: None) -> None:
    engine = engine_of(
        tiny,
        "trials=1",
        "resources={backend: ray, measure_on: {target: 1}}",
        "measure.confirm=true",
        "halving=null",
    )
    raytune.run(engine)
    (entry,) = engine.journal.trials.values()
    assert (entry.state, entry.reason) == ("complete", "")
    assert entry.measured["default"].relative is not None
    assert entry.confirmed
    assert engine.finished


def test_a_trial_whose_worker_is_not_reached_is_begun_anew_later_and_fails_after_so_many_times(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray says of a worker on a node that does not answer was the end of its trial before that counted as lost."""
    monkeypatch.setattr(raytune, "LATER", 0.2)
    engine = engine_of(tiny, "trials=1", "resources.concurrent=1", "halving=null")
    asking = raytune.AskEngine(engine, "")
    unreached = "The actor 1 is unavailable: The actor is temporarily unavailable: RpcError"
    for turn in range(1 + raytune.TIMES):
        given = asking.suggest(f"t{turn}")
        assert isinstance(given, dict)
        assert given["job"].number == 0
        asking.errors[f"t{turn}"] = unreached
        asking.on_trial_complete(f"t{turn}", error=True)
        if turn < raytune.TIMES:
            assert engine.journal.trials[0].open
            assert asking.suggest("early") is None
            time.sleep(0.25)
    assert (engine.journal.trials[0].state, engine.journal.trials[0].reason) == ("failed", unreached)


def test_what_a_worker_says_of_itself_ends_its_trial_at_once(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "halving=null")
    asking = raytune.AskEngine(engine, "")
    assert isinstance(asking.suggest("t"), dict)
    asking.errors["t"] = "KeyError: 'x'"
    asking.on_trial_complete("t", error=True)
    assert (engine.journal.trials[0].state, engine.journal.trials[0].reason) == ("failed", "KeyError: 'x'")
