"""What holds on every backend: real workers, small studies."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from record.resources import Resources
from record.study import StudyError
from search import backends
from search.backends.places import places
from search.backends.worker import Start
from search.candidate import Candidate, Job
from search.engine import Engine
from tests.candidates import Breaks, Dies, SecondBreaks, SecondFails
from tests.conftest import ROOT
from tests.driving import engine_of, run_folder, searched, work_off

Make = Callable[..., Engine]


@pytest.fixture(scope="module", params=["local", "ray"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "ray":
        import ray

        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield request.param
    if request.param == "ray":
        ray.shutdown()


@pytest.fixture
def make(backend: str, tiny: Path) -> Make:
    return lambda *overrides: engine_of(tiny, f"resources.backend={backend}", *overrides)


def test_a_study_gives_what_it_gives_in_one_process(make: Make, tiny: Path, tmp_path: Path) -> None:
    engine = make("trials=4", "halving=null")
    backends.run(engine)
    assert engine.finished
    alone = engine_of(tiny, "trials=4", "halving=null", f"runs={tmp_path / 'alone'}")
    work_off(alone)

    def found(of: Engine) -> set[tuple[str, float]]:
        return {(e.training_id, e.final.accuracy) for e in of.journal.trials.values() if e.state == "complete"}

    assert found(engine) == found(alone)


def test_an_error_of_a_worker_is_told(make: Make, backend: str, tiny: Path) -> None:
    """And its traceback is in the run folder, where Ray has no log of its own."""
    engine, handler = make("trials=1", "halving=null"), signal.getsignal(signal.SIGINT)
    backends.run(engine, Breaks)
    assert signal.getsignal(signal.SIGINT) == handler
    (entry,) = engine.journal.trials.values()
    assert entry.state == "failed"
    assert entry.reason == "KeyError: 'no such layer'"
    assert backend == "ray" or "in advance" in (run_folder(tiny) / "workers.log").read_text()


def test_a_trial_whose_worker_is_lost_is_begun_anew_and_goes_on_from_its_checkpoint(make: Make) -> None:
    engine = make("trials=1", "halving={first_rung: 2, factor: 20}", "resources.concurrent=1")
    backends.run(engine, Dies)
    (entry,) = engine.journal.trials.values()
    assert (Path(engine.study.folder) / "died").exists()
    assert (entry.state, entry.reason) == ("complete", "")
    assert [r.epoch for r in entry.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (SecondFails, "out of memory on its GPU: CUDA out of memory; lower training.batch"),
        pytest.param(SecondBreaks, "no such rank", marks=pytest.mark.slow),
    ],
)
def test_a_failure_of_any_worker_ends_its_group_with_the_reason(
    make: Make, candidate: type[Candidate], reason: str
) -> None:
    engine = make("trials=1", "halving=null", "resources.workers=2", "training.batch=50", "resources.concurrent=1")
    told: list[float] = []
    engine.watch = lambda entry: told.append(time.time()) if entry.state == "failed" else None
    backends.run(engine, candidate)
    (entry,) = engine.journal.trials.values()
    assert entry.state == "failed"
    # what is unexpected is tried again, and on Ray the last word may be that of the first worker, which waited in vain
    retried = engine.study.resources.backend == "ray" and candidate is SecondBreaks
    assert reason in entry.reason or (retried and "Gloo" in entry.reason)
    assert len(entry.curve) == 1
    failed_at = float((Path(engine.study.folder) / "failed_at").read_text())
    assert told[0] - failed_at < 10  # gloo waits half an hour for a rank that does not come


def test_a_group_of_workers_trains_a_trial(make: Make) -> None:
    engine = make("trials=1", "halving=null", "resources.workers=2", "training.batch=50")
    backends.run(engine)
    (entry,) = engine.journal.trials.values()
    assert (entry.state, entry.reason) == ("complete", "")
    assert entry.measured
    assert [r.epoch for r in entry.curve] == [1, 2, 3, 4]


def test_more_than_there_is_is_refused(make: Make) -> None:
    engine = make("trials=1", "resources.cpus=64")
    with pytest.raises(StudyError, match=r"resources\.cpus=64 for a trial, but .* offers 2 CPUs"):
        backends.run(engine)


def test_the_local_backend_needs_no_ray(tiny: Path) -> None:
    code = f"""
import sys
sys.modules["ray"] = None  # an import of it fails
sys.argv = ["run_search.py", {str(tiny)!r}, "trials=1", "halving=null", "resources.backend=local"]
import runpy
runpy.run_path("run_search.py", run_name="__main__")
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert "Front of tiny" in found.stdout


def test_workers_of_the_local_backend_import_neither_ray_nor_optuna() -> None:
    code = "import sys, search.backends.worker; print([m for m in ('ray', 'optuna') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_local_backend_refuses_what_only_a_cluster_has(tiny: Path) -> None:
    found = searched(tiny, "resources.backend=local", "resources.address=auto")
    assert found.exit_code == 2
    assert "resources.address needs resources.backend=ray" in found.stderr


@pytest.mark.parametrize(
    ("resources", "wrong"),
    [
        ({"gpus": 1.5}, r"gpus=1\.5: a worker uses one GPU at most; .* resources\.workers=2 resources\.gpus=1"),
        ({"gpus": 2}, r"gpus=2: a worker uses one GPU at most; .* resources\.workers=2 resources\.gpus=1"),
        ({"gpus": 0.5, "workers": 2}, r"gpus=0\.5 with resources\.workers=2: data-parallel workers need a GPU each"),
    ],
)
def test_resources_that_cannot_work_are_refused_at_the_start(resources: dict, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        Resources(**resources)


def test_what_is_measured_elsewhere_has_a_gpu_of_its_own() -> None:
    resources = Resources(gpus=1, measure_on={"target": 1})
    assert places(resources, {"CPU": 8, "GPU": 3, "target": 1}, "Ray") == 2
    with pytest.raises(StudyError, match=r"Ray offers 0 GPUs beside the one that measures"):
        places(resources, {"CPU": 8, "GPU": 1, "target": 1}, "Ray")


def test_a_job_and_its_candidate_travel_by_name(tiny: Path) -> None:
    import pickle

    job = engine_of(tiny).next()
    assert isinstance(job, Job)
    again = pickle.loads(pickle.dumps(Start(job, Candidate)))
    assert again == Start(job, Candidate)
