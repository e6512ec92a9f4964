from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from record.files import read_study
from record.run import open_run
from record.same import plain
from record.study import StudyError
from record.trial import Trial
from results.front import front
from search.candidate import Candidate, Job, Report
from search.draws import reference_point
from search.engine import Engine
from search.journal import Journal
from search.storage import mend
from tests.driving import IMAGE, driven, engine_of, work_off

ALL = ["halving=null"]


def by_outcome(engine: Engine, outcome: str) -> list[Trial]:
    return [e for e in engine.journal.trials.values() if e.state == outcome]


def states(engine: Engine) -> dict[int, TrialState]:
    return {t.number: t.state for t in engine.journal.optuna.get_trials()}


def test_outcomes_are_told_as_what_they_are(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=6", "limits.max_params=10000")
    work_off(engine)
    assert engine.trained() == 6
    told = states(engine)
    complete, stopped = by_outcome(engine, "complete"), by_outcome(engine, "stopped")
    assert complete
    assert stopped
    assert all(told[e.number] is TrialState.COMPLETE and len(e.curve) == 4 for e in complete)
    assert all(told[e.number] is TrialState.PRUNED and len(e.curve) in (1, 2) for e in stopped)
    assert by_outcome(engine, "infeasible")
    for entry in by_outcome(engine, "infeasible"):
        assert told[entry.number] is TrialState.PRUNED
        assert entry.costs["params"] > 10000
        assert entry.curve == []
        assert engine.journal.optuna.trials[entry.number].constraints["max_params"] > 0
    assert all(engine.journal.optuna.trials[e.number].constraints["max_params"] <= 0 for e in complete)


def test_the_same_network_is_trained_once(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=12", *ALL)
    tasks = work_off(engine)
    duplicates = by_outcome(engine, "duplicate")
    assert duplicates
    assert len({str(t.config) for t in tasks}) == len(tasks)
    for entry in duplicates:
        twin = engine.journal.trials[entry.twin]
        assert entry.training_id == twin.training_id
        assert entry.final == twin.final


def test_kernel_sets_share_one_measurement(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=12", *ALL)
    tasks = work_off(engine)
    entries = [engine.journal.trials[t.number] for t in tasks]
    measured = [e.deploy_id for e, t in zip(entries, tasks, strict=True) if t.measure]
    assert len(measured) == len(set(measured)) == len({e.deploy_id for e in entries}) < len(entries)


def test_an_exhausted_space_ends_the_search(tiny: Path) -> None:
    one = ["space.channels=[[4]]", "space.partitions=[4]", "space.groups=[1]", "space.kernels=[[]]", "trials=50"]
    engine = engine_of(tiny, *one)
    work_off(engine)
    assert engine.exhausted
    assert engine.finished
    assert engine.trained() == 2


def test_a_slow_candidate_is_not_trained(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "limits.min_throughput=1e12")
    task = engine.next()
    assert isinstance(task, Job)
    report = Candidate(task).advance()
    assert engine.report(task.number, report) == "stop"
    entry = engine.journal.trials[task.number]
    assert (entry.state, entry.curve) == ("infeasible", [])
    assert entry.reason == "exceeds min_throughput by 100%"
    assert engine.trained() == 0


def test_limits_that_no_candidate_keeps_end_the_search(tiny: Path) -> None:
    engine = engine_of(tiny, "limits.min_throughput=1e12")
    assert work_off(engine)
    assert engine.finished
    assert engine.exhausted
    assert engine.trained() == 0
    assert {e.state for e in engine.journal.trials.values()} == {"infeasible"}


def test_a_failure_keeps_its_reason_and_is_not_on_the_front(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=3", "training.learning_rate=1e30")
    work_off(engine)
    assert len(by_outcome(engine, "failed")) == 3
    assert set(states(engine).values()) <= {TrialState.FAIL}
    assert "loss became" in engine.journal.trials[0].reason
    assert engine.journal.optuna.best_trials == []


def test_a_stopped_process_loses_nothing(tiny: Path) -> None:
    cut = engine_of(tiny, "trials=5", *ALL)
    done = work_off(cut, until=lambda task, reports: task.number >= 2 and reports == 3)
    finished = {e.number: e.final for e in by_outcome(cut, "complete")}
    assert finished
    again = engine_of(tiny, "trials=5", *ALL)
    tasks = work_off(again)
    assert tasks[0].number == done[-1].number
    assert not {t.number for t in tasks} & set(finished)
    assert all(again.journal.trials[n].final == final for n, final in finished.items())
    assert [r.epoch for r in again.journal.trials[tasks[0].number].curve] == [1, 2, 3, 4]
    assert again.finished
    assert TrialState.RUNNING not in states(again).values()


@pytest.mark.parametrize("written", [{"final"}, {"final", "outcome"}])
def test_a_trial_cut_off_while_its_end_was_recorded_is_not_trained_again(tiny: Path, written: set[str]) -> None:
    engine = engine_of(tiny, "trials=1")
    task = engine.next()
    assert isinstance(task, Job)
    entry, candidate = engine.journal.trials[task.number], Candidate(task)
    while not (report := candidate.advance()).last:
        engine.report(task.number, report)
    engine.journal.trained(entry, report.epoch)
    engine.journal.live[entry.number].set_user_attr("final", asdict(report.final))
    if "outcome" in written:
        engine.journal.live[entry.number].set_user_attr("outcome", "complete")
    again = engine_of(tiny, "trials=1")
    assert work_off(again) == []
    assert states(again) == {0: TrialState.COMPLETE}
    assert again.journal.trials[0].final == report.final


def test_checkpoints_of_ended_trials_are_removed(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=4")
    work_off(engine)
    folder = read_study(tiny).folder
    assert list((folder / "checkpoints").iterdir()) == []
    complete = {f"{e.number}.safetensors" for e in by_outcome(engine, "complete") if e.twin is None}
    assert {p.name for p in (folder / "weights").iterdir()} == complete


def test_an_interrupted_trial_ends_as_it_would_have(tiny: Path, tmp_path: Path) -> None:
    cut = engine_of(tiny, "trials=1")
    work_off(cut, until=lambda _, reports: reports == 3)
    resumed = engine_of(tiny, "trials=1")
    work_off(resumed)
    whole = engine_of(tiny, "trials=1", f"runs={tmp_path / 'other'}")
    work_off(whole)
    a, b = resumed.journal.trials[0], whole.journal.trials[0]
    assert a.final == b.final
    assert [(r.accuracy, r.loss) for r in a.curve] == [(r.accuracy, r.loss) for r in b.curve]


def test_pausing_and_going_on_gives_the_curve_of_running_through(tiny: Path, tmp_path: Path) -> None:
    halved = engine_of(tiny, "trials=6")
    tasks = work_off(halved)
    complete = [e for e in by_outcome(halved, "complete") if e.twin is None]
    assert [t.number for t in tasks].count(complete[0].number) == 3  # one rung, the next, and the end
    whole = engine_of(tiny, "trials=6", f"runs={tmp_path / 'other'}", *ALL)
    work_off(whole)
    through = {e.training_id: e for e in by_outcome(whole, "complete")}
    shared = [e for e in complete if e.training_id in through]
    assert shared
    for entry in shared:
        other = through[entry.training_id]
        assert entry.final == other.final
        assert [(r.accuracy, r.loss) for r in entry.curve] == [(r.accuracy, r.loss) for r in other.curve]


def test_a_worker_goes_on_without_a_checkpoint_only_from_where_the_trial_is(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1")
    task, candidate = driven(engine)
    again = engine.next()
    assert isinstance(again, Job)
    assert (again.number, again.trained) == (task.number, 1)
    assert candidate.goes_on_with(again)
    assert not Candidate(task).goes_on_with(again)
    candidate.advance()
    assert not candidate.goes_on_with(again)


def test_a_paused_trial_waits_through_an_interruption(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=4")
    work_off(engine, until=lambda task, _: task.number == 2)
    paused = [e.number for e in by_outcome(engine, "paused")]
    assert paused
    assert open_run(str(engine.study.folder)).trials.loc[paused, "outcome"].eq("paused").all()
    again = engine_of(tiny, "trials=4")
    assert [e.number for e in by_outcome(again, "paused")] == paused
    work_off(again)
    assert again.finished
    assert by_outcome(again, "paused") == []
    assert by_outcome(again, "complete")
    assert TrialState.RUNNING not in states(again).values()


def test_a_larger_budget_goes_on(tiny: Path) -> None:
    first = engine_of(tiny, "trials=2")
    work_off(first)
    second = engine_of(tiny, "trials=4")
    assert not second.finished
    work_off(second)
    assert second.trained() == 4
    assert work_off(engine_of(tiny, "trials=4")) == []


def test_duplicates_of_a_running_trial_wait_for_it(tiny: Path) -> None:
    one = ["space.channels=[[4]]", "space.kinds=[repmlp]", "space.partitions=[4]", "space.groups=[1]"]
    engine = engine_of(tiny, *one, "space.kernels=[[],[3]]", "trials=3", "resources.concurrent=3", *ALL)
    tasks = [engine.next(), engine.next()]
    assert engine.next() == "wait"  # the space has two networks, so all further candidates are theirs
    waiting = [e for e in engine.journal.trials.values() if e.twin is not None]
    assert waiting
    assert all(e.state == "running" for e in waiting)
    for task in tasks:
        assert isinstance(task, Job)
        engine.fail(task.number, "the power went out")
    assert all(e.state == "duplicate" for e in waiting)
    assert set(states(engine).values()) == {TrialState.FAIL}


def test_a_run_of_another_study_is_not_written_over(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1"))
    journal = read_study(tiny).folder / "journal.log"
    before = journal.read_bytes()
    with pytest.raises(StudyError, match=r"belongs to another study: training.epochs is 4 there and 3 here"):
        engine_of(tiny, "training.epochs=3")
    assert journal.read_bytes() == before


def test_a_torn_last_line_is_cut_off(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1"))
    path = read_study(tiny).folder / "journal.log"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 8, "wor')
    mend(path)
    assert path.read_bytes() == whole
    assert engine_of(tiny, "trials=1").finished


def test_another_storage_holds_the_same(tiny: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    work_off(engine_of(tiny, "trials=2", f"storage={url}"))
    run = open_run(f"{url}#tiny")
    assert (run.trials["outcome"].isin(["complete", "stopped", "duplicate"])).all()
    assert engine_of(tiny, "trials=2", f"storage={url}").finished


def test_one_device_sees_the_same_trials_again(tiny: Path, tmp_path: Path) -> None:
    """The clock of the measurement apart, a seed decides everything."""
    runs = [engine_of(tiny, "trials=4", f"runs={tmp_path / name}", *ALL) for name in ("a", "b")]
    for engine in runs:
        work_off(engine)
    a, b = ([(e.config, [(r.accuracy, r.loss) for r in e.curve]) for e in r.journal.trials.values()] for r in runs)
    assert a == b


def test_objectives_come_in_the_studys_order(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "objectives=[params,accuracy,macs]")
    work_off(engine)
    trial = engine.journal.optuna.get_trials()[0]
    entry = engine.journal.trials[0]
    assert trial.values == [entry.costs["params"], entry.final.accuracy, entry.costs["macs"]]
    names = [d.name for d in engine.journal.optuna.directions]
    assert names == ["MINIMIZE", "MAXIMIZE", "MINIMIZE"]


def test_a_trial_cut_off_before_its_network_was_chosen_is_closed(tiny: Path) -> None:
    engine = engine_of(tiny)
    engine.journal.optuna.ask()
    again = Journal(read_study(tiny))
    trial = again.optuna.get_trials()[0]
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["reason"].startswith("interrupted")
    assert optuna.trial.TrialState.RUNNING not in {t.state for t in again.optuna.get_trials()}


def test_a_lost_worker_is_a_failure_with_its_reason(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1")
    task = engine.next()
    assert isinstance(task, Job)
    assert engine.report(task.number, Report(failure="its worker was lost")) == "stop"
    assert engine.journal.trials[0].reason == "its worker was lost"
    assert engine.next() == "finished"


def test_what_is_on_the_front_when_it_ends_is_measured_again_before_it_counts(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=3", "measure.confirm=true", *ALL)
    tasks = work_off(engine)
    again = [t.number for t in tasks if not t.trains]
    run = open_run(engine.study.folder)
    assert set(front(run).index) <= set(again)
    told = {t.number: t.values for t in engine.journal.optuna.get_trials()}
    for number in again:
        trial = engine.journal.trials[number]
        first, second = trial.measured["default"], trial.confirmed["default"]
        assert second.median == run.trials.loc[number, "throughput"] != first.median
        assert told[number] == [trial.final.accuracy, second.median]
    assert engine.finished
    assert work_off(engine_of(tiny, "trials=3", "measure.confirm=true", *ALL)) == []


def test_a_trial_cut_off_before_its_second_measurement_is_measured_and_not_trained(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "measure.confirm=true", *ALL)
    driven(engine)
    assert engine.journal.trials[0].state == "confirming"
    again = engine_of(tiny, "trials=1", "measure.confirm=true", *ALL)
    assert [t.trains for t in work_off(again)] == [False]
    assert again.journal.trials[0].state == "complete"


def test_a_front_that_cannot_be_measured_again_stays(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "measure.confirm=true", *ALL)
    driven(engine)
    again = engine.next()
    assert isinstance(again, Job)
    assert not again.trains
    engine.fail(again.number, "its worker was lost")
    assert engine.next() == "finished"
    assert engine.journal.trials[0].state == "complete"


def test_the_next_trial_is_ready_before_a_worker_is_free(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=3", "resources.concurrent=1", *ALL)
    first = engine.next()
    assert isinstance(first, Job)
    assert engine.next() == "wait"
    engine.prepare()
    assert engine.prepared is not None
    ready = engine.prepared.number
    candidate = Candidate(first)
    while engine.report(first.number, candidate.advance()) == "continue":
        pass
    second = engine.next()
    assert isinstance(second, Job)
    assert second.number == ready
    again = engine_of(tiny, "trials=3", *ALL)
    resumed = again.next()
    assert isinstance(resumed, Job)
    assert resumed.number == ready


def test_a_setting_that_is_new_since_a_run_was_as_by_default(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1")
    known = plain(engine.study)
    del known["measure"]["channels_last"]
    engine.journal.optuna.set_user_attr("study", known)
    assert engine_of(tiny, "trials=1").journal.trials.keys() == engine.journal.trials.keys()
    with pytest.raises(StudyError, match=r"measure\.channels_last is False there and True here"):
        engine_of(tiny, "trials=1", "measure.channels_last=true")


def test_a_trial_that_runs_out_of_memory_is_tried_once_more_with_twice_the_share(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", "resources.gpus=0.25", *ALL)
    shares = []
    for _ in range(2):
        task = engine.next()
        assert isinstance(task, Job)
        shares.append(task.gpus)
        assert engine.report(task.number, Report(failure="out of memory", out_of_memory=True)) == "stop"
    assert shares == [0.25, 0.5]
    assert engine.next() == "finished"
    entry = engine.journal.trials[0]
    assert (entry.state, entry.reason) == ("failed", "out of memory")


def test_out_of_memory_says_what_to_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = engine_of(tiny, "trials=1", *ALL).next()
    assert isinstance(task, Job)

    def full(_: Candidate) -> Report:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Candidate, "train", full)
    candidate = Candidate(replace(task, gpus=0.5, measure={}))
    report = candidate.advance()
    assert report.out_of_memory
    assert report.failure == "out of memory on its 0.5 of a GPU: CUDA out of memory; lower training.batch"


POINTS = "measure={seconds: 0.02, one: {batch: 1}, many: {batch: 8}, idle: {batch: 4}}"


def test_points_that_nothing_names_are_measured_for_the_front_alone(tiny: Path) -> None:
    named = (POINTS, "measure.confirm=true", "objectives=[accuracy,throughput.many]", "limits.max_latency.many=1000")
    engine = engine_of(tiny, "trials=4", *named, *ALL)
    tasks = work_off(engine)
    run = open_run(engine.study.folder)
    on_front = set(front(run).index)
    assert {tuple(t.measure) for t in tasks if t.trains and t.measure} == {("one", "many")}
    assert {tuple(t.measure) for t in tasks if not t.trains} == {("many", "idle")}
    for trial in engine.journal.trials.values():
        if trial.state == "complete":
            assert {"one", "many"} <= set(trial.measured)
            if trial.number in on_front:
                assert "idle" in trial.measured
                assert set(engine.journal.twice[trial.deploy_id]) == {"many"}
    again = engine_of(tiny, "trials=4", *named, *ALL)
    assert [t.measured for t in again.journal.trials.values()] == [t.measured for t in engine.journal.trials.values()]
    assert work_off(again) == []


def test_a_front_is_measured_at_other_points_though_no_speed_counts(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=3", POINTS, "objectives=[accuracy,macs]", *ALL)
    tasks = work_off(engine)
    assert {tuple(t.measure) for t in tasks if t.trains and t.measure} == {("one",)}
    assert {tuple(t.measure) for t in tasks if not t.trains} == {("many", "idle")}
    assert not any(t.confirmed for t in engine.journal.trials.values())


def test_networks_that_are_listed_are_measured_at_every_point(ablation: Path) -> None:
    engine = engine_of(ablation, "seeds=1", POINTS)
    tasks = work_off(engine)
    assert {tuple(t.measure) for t in tasks if t.trains and t.measure} == {("one", "many", "idle")}
    assert all(set(t.measured) == {"one", "many", "idle"} for t in engine.journal.trials.values())


def test_a_limit_of_a_point_ends_a_trial_before_it_trains(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=1", POINTS, "limits.max_latency.many=1e-9")
    task = engine.next()
    assert isinstance(task, Job)
    assert engine.report(task.number, Candidate(task).advance()) == "stop"
    assert "max_latency.many" in engine.journal.trials[task.number].reason


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("latency", marks=pytest.mark.slow),
        pytest.param("latency_p99", marks=pytest.mark.slow),
        pytest.param("peak_memory", marks=pytest.mark.slow),
        pytest.param("size", marks=pytest.mark.slow),
        pytest.param("accuracy_int8", marks=pytest.mark.slow),
        pytest.param("energy", marks=pytest.mark.slow),
    ],
)
def test_every_quantity_may_be_an_objective(tiny: Path, name: str) -> None:
    if name == "energy" and not any(Path("/sys/class/powercap").glob("intel-rapl*/energy_uj")):
        pytest.skip("no meter of energy here")
    point = "measure={seconds: 0.02, file: {batch: 2, runtime: onnx}, bulk: {batch: 8}}"
    kind = name if name == "accuracy_int8" else f"{name}.file"
    limit = [] if name == "accuracy_int8" else [f"limits.max_{kind}=1e9"]
    engine = engine_of(tiny, "trials=3", "sampler=surrogate", point, f"objectives=[accuracy,{kind},throughput]", *limit)
    work_off(engine)
    run = open_run(engine.study.folder)
    best = front(run)
    assert len(best)
    assert best[[kind, "throughput.file"]].gt(0).all(axis=None)
    assert run.objectives == ["accuracy", kind, "throughput.file"]
    assert set(reference_point(engine.study, IMAGE)) == set(run.objectives)
