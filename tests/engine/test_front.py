"""One front, whoever reads it: a second measurement changes a throughput, and everybody sees the same."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from record.front import complete, front_of
from record.measure import Measurement
from record.run import open_run
from record.trial import EpochResult, Final, State
from results.front import front
from results.report.embedded import embedded
from results.views import front_table
from search.candidate import Job, Report
from search.engine import Engine
from search.progress import Display
from search.warmstart import take_over
from tests.driving import analysis, engine_of

SPEEDS = [(100.0, 300.0), (200.0, 190.0), (150.0, 80.0), (400.0, 60.0), (50.0, 50.0)]
"""First and second measurement, by number: the second turns the order over."""
ACCURACIES = [60.0, 70.0, 90.0, 50.0, 40.0]


def speed(median: float) -> Measurement:
    return Measurement(median, 0.9 * median, 1.1 * median, 10, 8, "float32", "cpu", 1)


def scripted(engine: Engine) -> list[tuple[int, bool]]:
    """Report what the lists say; return the tasks: number, and whether it trained."""
    tasks = []
    while isinstance(job := engine.next(), Job):
        tasks.append((job.number, job.trains))
        first, second = SPEEDS[job.number]
        if not job.trains:
            engine.report(job.number, Report(measured={"default": speed(second)}))
            continue
        engine.report(job.number, Report(measured={"default": speed(first)}))
        for epoch in range(1, 5):
            accuracy = ACCURACIES[job.number]
            final = Final(accuracy, images=100) if epoch == 4 else None
            engine.report(job.number, Report(epoch=EpochResult(epoch, accuracy, 1.0, 1.0), final=final))
    return tasks


@pytest.fixture
def engine(tiny: Path) -> Engine:
    wide = ["space.channels=[[4,6,8,10,12]]", "space.kinds=[conv]", "measure.confirm=true", "halving=null"]
    return engine_of(tiny, *wide, "trials=5", "resources.concurrent=1", "start_with=" + START)


START = "[" + ", ".join(f"{{stage1.channels: {c}}}" for c in (4, 6, 8, 10, 12)) + "]"


def test_everybody_sees_the_front_of_the_second_measurements(engine: Engine, tiny: Path) -> None:
    tasks = scripted(engine)
    assert len(tasks) > len(SPEEDS)
    twice = {number for number, trains in tasks if not trains}
    told = {number: SPEEDS[number][number in twice] for number in range(5)}
    expected = {
        n
        for n in told
        if not any(
            told[m] >= told[n]
            and ACCURACIES[m] >= ACCURACIES[n]
            and (told[m], ACCURACIES[m]) != (told[n], ACCURACIES[n])
            for m in told
        )
    }
    once = {0: SPEEDS[0][0], 1: SPEEDS[1][0], 2: SPEEDS[2][0], 3: SPEEDS[3][0]}
    assert expected == {0, 1, 2}
    assert expected <= twice
    assert once[3] > max(once[n] for n in expected)  # by its first measurement trial 3 would be on it
    folder = engine.study.folder
    run = open_run(folder)
    assert set(front_of(run)) == set(front_of(engine.journal.run())) == set(front(run).index) == expected
    assert {t.number for t in engine.journal.optuna.best_trials} == expected
    assert set(front_table(run)["trial"]) == expected
    shown = Display(Console(file=io.StringIO()), engine.study, {"accuracy": 10.0, "throughput": 0.0}, run.entries)
    assert dict(complete(shown.study, shown.trials.values())) == {n: [ACCURACIES[n], told[n]] for n in told}
    assert embedded(run)["trials"]["throughput"] == [told[n] for n in sorted(told)]
    fastest = analysis("pick", folder, "--rule", "max-throughput", "--out", tiny.with_name("pick.yaml"))
    assert fastest.exit_code == 0, fastest.stderr
    assert "Trial 0 has the highest throughput" in fastest.stdout
    other = engine_of(tiny, "name=other", "training.epochs=2", "space.channels=[[4,6,8,10,12]]", "space.kinds=[conv]")
    begun = take_over(str(folder), other.study, other.networks, other.journal)
    assert [params["stage1.channels"] for params in begun] == [
        run.entries[n].params["stage1.channels"] for n in (0, 1, 2)
    ]


@pytest.mark.parametrize(("gpus", "taken"), [(1, 3), (0, 0)])
def test_speeds_of_a_gpu_are_taken_over_by_a_gpu_study_alone(tiny: Path, gpus: int, taken: int) -> None:
    quick = ["objectives=[accuracy,throughput]", "halving=null", "space.channels=[[4,6,8]]", "space.kinds=[conv]"]
    start = "start_with=[{stage1.channels: 4}, {stage1.channels: 6}, {stage1.channels: 8}]"
    earlier = engine_of(tiny, "name=earlier", "resources.gpus=1", "trials=3", *quick, start)
    scripted(earlier)
    later = engine_of(tiny, f"resources.gpus={gpus}", "trials=1", *quick, f"from_runs=[{earlier.study.folder}]")
    assert sum(t.origin != "" for t in later.journal.trials.values()) == taken
    if taken:
        assert {t.state for t in later.journal.trials.values()} == {State.complete}


def test_the_pick_of_a_gpu_study_trains_on_the_gpu(tiny: Path) -> None:
    quick = ["halving=null", "resources.gpus=1", "resources.concurrent=3", "trials=3"]
    engine = engine_of(tiny, *quick)
    scripted(engine)
    study = open_run(engine.study.folder).pick("max-accuracy").study(seeds=2)
    assert study.resources == engine.study.resources
    assert (study.seeds, study.resources.device) == (2, "cuda")
