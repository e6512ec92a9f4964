"""The pick, explained: ties, neighbours, impossible limits, and the study that trains it."""

from pathlib import Path
from typing import Any

import pytest

from deploy.picking import pick, readable_rivals
from record.files import read_study
from record.run import RunError, open_run
from record.same import plain
from record.study import StudyError
from results.choice import Rule
from results.report.embedded import sliders
from results.views import front_table
from tests.driving import analysis, engine_of, run_folder, work_off
from tests.frames import run_of


def trial(accuracy: float, throughput: float, images: int | None = 1000, params: int = 100) -> dict[str, object]:
    return {
        "accuracy": accuracy,
        "throughput": throughput,
        "throughput_p10": 0.9 * throughput,
        "throughput_p90": 1.1 * throughput,
        "images": images,
        "params": params,
    }


LISTED: dict[str, Any] = {"space": {"name": "fixed"}, "seeds": 1}
RUN = run_of(trial(90.0, 100, params=50), trial(89.0, 200), trial(85.0, 400), trial(80.0, 800), trial(70.0, 50))


def test_trials_within_the_noise_are_ties_with_their_differences() -> None:
    # 90 % and 89 % on 1,000 images each: 1.96 * sqrt(0.9 * 0.1 + 0.89 * 0.11) / sqrt(1000) = 2.7 points.
    decision = pick(RUN)
    assert decision.trial == 0
    tie = decision.rivals[decision.rivals["role"] == "tie"].iloc[0]
    assert (tie["trial"], tie["difference"], tie["img/s (%)"], tie["params (%)"]) == (1, -1, 100, 100)
    assert "1 other cannot be told from it" in decision.why


def test_neighbours_say_what_the_next_steps_on_the_front_cost() -> None:
    decision = pick(RUN, min_throughput=300)
    assert decision.trial == 2
    assert decision.rivals["trial"].tolist() == [2, 3]
    assert "no other one is within the noise" in decision.why
    shown = readable_rivals(decision.rivals)
    assert shown["difference"].tolist() == ["", "-5.00"]
    assert shown["img/s (%)"].tolist() == ["", "+100"]


def test_many_images_leave_no_tie() -> None:
    run = run_of(trial(90.0, 100, 100_000), trial(89.0, 200, 100_000))
    assert pick(run).rivals["role"].tolist() == ["pick", "neighbour"]


def test_throughputs_whose_ranges_overlap_are_ties() -> None:
    run = run_of(trial(90.0, 100), trial(70.0, 110), trial(60.0, 300))
    decision = pick(run, Rule.max_throughput, min_accuracy=65)
    assert decision.trial == 1
    assert decision.rivals["trial"].tolist() == [1, 0]


def test_a_run_that_did_not_count_its_images_says_what_is_not_known() -> None:
    decision = pick(run_of(trial(90.0, 100, None), trial(89.9, 200, None)))
    assert "is not known" in decision.why
    assert "tie" not in set(decision.rivals["role"])


def test_limits_that_no_trial_keeps_are_named_with_the_best_there_is() -> None:
    with pytest.raises(RunError, match=r"none of 5 complete trials keeps max_params=10 \(here 50 at best\)"):
        pick(RUN, max_params=10, min_accuracy=80)
    with pytest.raises(RunError, match="all at once"):
        pick(RUN, min_throughput=800, min_accuracy=90)


def test_what_cannot_be_picked_is_said() -> None:
    failed = run_of({"outcome": "failed"}, {"outcome": "stopped"})
    with pytest.raises(RunError, match="has no complete trial to pick from"):
        pick(failed, Rule.knee)
    with pytest.raises(RunError, match="trial 9 is not in this run"):
        pick(RUN, Rule.knee, trial=9)
    with pytest.raises(RunError, match="trial 1 is stopped; complete are 0"):
        pick(run_of(trial(90.0, 1.0), {"outcome": "stopped"}), Rule.knee, trial=1)
    with pytest.raises(RunError, match=r"limit max_parms is not there; use min_accuracy, "):
        pick(RUN, max_parms=1)
    with pytest.raises(RunError, match="rule=best must be one of max-accuracy, "):
        pick(RUN, "best")
    with pytest.raises(RunError, match="compare them with analyze"):
        pick(run_of(trial(90.0, 1.0), **LISTED), Rule.knee)


def test_a_trial_of_an_ablation_is_picked_by_its_number() -> None:
    run = run_of(trial(90.0, 100), trial(70.0, 400), **LISTED)
    assert pick(run, trial=1).why.startswith("Trial 1 was asked for")


def test_a_pick_is_written_as_a_study_that_ends_in_test_accuracy(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=2", "halving=null"))
    folder = run_folder(tiny)
    done = analysis("pick", folder, "--seeds", 2, "training.epochs=1")
    assert done.exit_code == 0, done.stderr
    assert "has the highest accuracy of 2 trials" in done.stdout
    assert "Measured again" in done.stdout
    study = read_study(folder / "pick.yaml")
    assert (study.name, study.seeds, study.training.epochs, study.runs) == ("tiny-pick", 2, 1, str(folder.parent))
    jobs = work_off(engine_of(folder / "pick.yaml"))
    best = open_run(str(folder)).trials.sort_values("accuracy").iloc[-1]
    assert [dict(job.config) for job in jobs] == [best["config"]] * 2
    tested = open_run(str(folder.parent / "tiny-pick")).trials
    assert tested["test"].notna().all()


def test_changes_that_make_no_study_leave_the_last_pick_alone(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null"))
    path = run_folder(tiny) / "pick.yaml"
    path.write_text("kept")
    done = analysis("pick", run_folder(tiny), "training.epoch=3")
    assert done.exit_code == 2
    assert "did you mean epochs?" in done.stderr
    assert path.read_text() == "kept"
    assert not list(path.parent.glob("*.part"))


def test_the_study_of_a_pick_keeps_data_recipe_and_measurement(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=1", "halving=null"))
    run = open_run(str(run_folder(tiny)))
    written = plain(run.pick().study(seeds=2, training={"epochs": 7}, resources={"cpus": 1}))
    same = plain(run.study)
    same["training"]["epochs"], same["resources"]["cpus"] = 7, 1
    same["seeds"], same["runs"] = 2, str(run.folder.parent)
    for name in ("data", "training", "measure", "objectives", "resources", "seeds", "runs"):
        assert written[name] == same[name]
    with pytest.raises(StudyError, match="did you mean epochs"):
        run.pick().study(training={"epoch": 7})


def test_a_quantity_of_ones_own_is_a_column_a_slider_and_a_limit(tiny: Path) -> None:
    work_off(engine_of(tiny, "trials=3", "halving=null", "objectives=[accuracy,tests.own_quantities:Kilobytes]"))
    folder = run_folder(tiny)
    run = open_run(folder)
    table = front_table(run)
    assert table["size (kB)"].tolist() == [run.trials["bytes"][n] / 1000 for n in table["trial"]]
    assert (table["size (kB)"] == 4 * table["params"] / 1000).all()
    assert "max_bytes" in sliders(run)
    assert '"title":"size (kB)"' in run.report().read_text()
    smallest = run.trials["bytes"].min()
    done = analysis("pick", folder, "--limit", f"max_bytes={smallest}", "--max-params", 1e9)
    assert done.exit_code == 0, done.stderr
    assert f"of 1 trials that keep max_params=1e+09, max_bytes={smallest:,g}" in done.stdout
    none = analysis("pick", folder, "--limit", "max_bytes=1")
    assert f"keeps max_bytes=1 (here {smallest:,.6g} at best)" in none.stderr


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("max_parms=1", "limit max_parms is not there; use min_accuracy"),
        ("max_params", "must be a key, min_ or max_ and a name, and a number"),
        ("run=3", "must be a key, min_ or max_ and a name, and a number"),
    ],
)
def test_a_limit_that_is_none_is_said(tiny: Path, limit: str, message: str) -> None:
    work_off(engine_of(tiny, "trials=1", "training.epochs=1"))
    done = analysis("pick", run_folder(tiny), "--limit", limit)
    assert (done.exit_code, done.stderr.count("error:")) == (2, 1)
    assert message in done.stderr
