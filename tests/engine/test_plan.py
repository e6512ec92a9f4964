"""Studies that list their networks: an ablation, or a finished pick, trained seed by seed."""

from pathlib import Path

import pytest

from record.files import read_study
from record.run import open_run
from record.study import StudyError
from results.ablation import ablation_table
from search.candidate import Candidate, Job, Report
from search.policies.listed import Training, planned
from search.training.checkpoints import checkpoint_path
from tests.driving import engine_of, run_folder, work_off

ROWS = ("Pure MLP", "A) before conversion", "B) w/o Local")


def trained(ablation: Path) -> list[tuple[str, int]]:
    trials = open_run(str(run_folder(ablation))).trials
    return list(zip(trials["param.network"], trials["seed"], strict=True))


def test_variants_are_interleaved_by_seed_and_equal_ones_trained_once(ablation: Path) -> None:
    jobs = work_off(engine_of(ablation))
    assert trained(ablation) == [(row, seed) for seed in (0, 1, 2) for row in ROWS]
    assert [job.seed for job in jobs] == [0, 0, 1, 1, 2, 2]
    trials = open_run(str(run_folder(ablation))).trials
    assert list(trials["outcome"]) == 3 * ["complete", "duplicate", "complete"]
    twins = trials[trials["outcome"] == "duplicate"]
    assert list(twins["twin"]) == [0, 3, 6]
    assert list(twins["accuracy"]) == list(trials.loc[[0, 3, 6], "accuracy"])
    assert trials.loc[[0, 3, 6], "accuracy"].nunique() > 1


def test_converted_networks_are_scored_on_the_test_images(ablation: Path) -> None:
    work_off(engine_of(ablation, "seeds=1"))
    trials = open_run(str(run_folder(ablation))).trials
    assert (trials["test_images"] == 1000).all()
    assert (trials["images"] == 100).all()
    assert trials["test"].between(5, 100).all()


def test_test_images_are_left_alone_where_the_study_says_so(ablation: Path) -> None:
    jobs = work_off(engine_of(ablation, "seeds=1", "test=false"))
    assert not any(job.tests for job in jobs)
    assert open_run(str(run_folder(ablation))).trials["test"].isna().all()


def test_a_search_never_reads_the_test_images(tiny: Path) -> None:
    assert not any(job.tests for job in work_off(engine_of(tiny, "trials=1")))


def test_more_seeds_continue_an_ablation(ablation: Path) -> None:
    work_off(engine_of(ablation, "seeds=1"))
    jobs = work_off(engine_of(ablation, "seeds=2"))
    assert [job.seed for job in jobs] == [1, 1]
    assert trained(ablation) == [(row, seed) for seed in (0, 1) for row in ROWS]
    assert engine_of(ablation, "seeds=2").finished


def test_an_interrupted_ablation_goes_on_and_stays_balanced(ablation: Path) -> None:
    work_off(engine_of(ablation), until=lambda job, reports: job.number == 3 and reports == 2)
    work_off(engine_of(ablation))
    assert sorted(trained(ablation), key=lambda cell: cell[1]) == [(row, seed) for seed in (0, 1, 2) for row in ROWS]
    trials = open_run(str(run_folder(ablation))).trials
    assert set(trials["outcome"]) == {"complete", "duplicate"}


def test_a_trial_cut_off_before_its_network_was_chosen_is_trained_after_all(ablation: Path) -> None:
    engine = engine_of(ablation, "seeds=1")
    engine.journal.optuna.ask()  # and the process dies
    again = engine_of(ablation, "seeds=1")
    assert planned(again.study, again.journal.trials.values()) == planned(engine.study, [])
    work_off(again)
    assert [row for row, _ in trained(ablation)[1:]] == list(ROWS)


def test_a_training_that_failed_is_tried_again_when_the_study_goes_on(ablation: Path) -> None:
    engine = engine_of(ablation, "seeds=1")
    first = engine.next()
    assert isinstance(first, Job)
    assert engine.report(first.number, Report(failure="onnx is not installed")) == "stop"
    work_off(engine)
    assert list(open_run(str(engine.study.folder)).trials["outcome"]) == ["failed", "duplicate", "complete"]
    (job,) = work_off(engine_of(ablation, "seeds=1"))
    assert (job.config, job.seed) == (first.config, first.seed)
    run = open_run(str(engine.study.folder))
    assert list(run.trials["outcome"])[3:] == ["complete", "duplicate"]
    assert ablation_table(run)["n"].tolist() == [1, 1, 1]
    assert not ablation_table(run)["note"].str.contains("failed").any()


def test_the_plan_lists_every_network_with_the_first_seed_first(ablation: Path) -> None:
    plan = planned(read_study(ablation, ["seed=7", "seeds=2"]), [])
    assert list(plan) == [Training(row, seed) for seed in (7, 8) for row in ROWS]


def test_long_epochs_leave_checkpoints_without_rungs(ablation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.candidate.SAVING", 1e9)
    engine = engine_of(ablation, "seeds=1", "training.epochs=3")
    job = engine.next()
    assert not isinstance(job, str)
    candidate = Candidate(job)
    for _ in range(3):  # the measurement and two epochs
        engine.report(job.number, candidate.advance())
    assert checkpoint_path(run_folder(ablation), job.number).is_file()
    (task, *_) = work_off(engine_of(ablation, "seeds=1", "training.epochs=3"))
    assert task.trained == 2
    assert len(open_run(str(run_folder(ablation))).epochs.query("trial == 0")) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds=null", "an ablation needs seeds"),
        ("seeds=0", "seeds=0"),
        ("space.variants={x: 3}", "space.variants.x"),
    ],
)
def test_an_ablation_that_cannot_run_is_refused(ablation: Path, override: str, message: str) -> None:
    with pytest.raises(StudyError, match=message.replace("(", r"\(")):
        read_study(ablation, [override])


def test_seeds_are_refused_for_a_search(tiny: Path) -> None:
    with pytest.raises(StudyError, match="trials, sampler and halving are for a search, and seeds=3"):
        read_study(tiny, ["seeds=3"])


def test_each_deployed_network_of_a_list_is_measured_once_more(ablation: Path) -> None:
    jobs = work_off(engine_of(ablation, "seeds=1", "measure.confirm=true"))
    assert [job.trains for job in jobs] == [True, False, True]  # kernels fold away: both deploy the same
    trials = open_run(str(run_folder(ablation))).trials
    assert trials["throughput"].nunique() == 1
