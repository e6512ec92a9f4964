"""The commands as a user runs them, on small studies: in this process, where another one would show nothing more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from record.run import open_run
from search.measuring.locks import held
from tests.conftest import ROOT
from tests.driving import analysis, command, engine_of, run_folder, searched, work_off


def test_a_search_runs_reports_and_continues(tiny: Path) -> None:
    first = command("run_search.py", tiny, "trials=4", "halving=null")
    assert first.returncode == 0, first.stderr
    assert "Front of tiny" in first.stdout
    assert "python analyze.py report" in first.stderr
    run = open_run(str(run_folder(tiny)))
    done = run.trials[run.trials["outcome"] == "complete"]
    assert len(done) == 4
    assert len(run.epochs) == 16
    assert (done["throughput_p10"] <= done["throughput"]).all()
    assert run.environments[0]["packages"]["torch"]
    assert run.reference == {"accuracy": 10.0, "throughput": 0.0}

    second = searched(tiny, "trials=6", "halving=null")
    assert second.exit_code == 0, second.stderr
    more = open_run(str(run_folder(tiny)))
    pd.testing.assert_frame_equal(more.trials.loc[done.index, done.columns], done)
    assert (more.trials["outcome"] == "complete").sum() == 6
    assert len(more.environments) == 2

    listed = command("analyze.py", "front", run_folder(tiny), "--format", "json")
    best = json.loads(listed.stdout)
    assert [r["accuracy"] for r in best] == sorted((r["accuracy"] for r in best), reverse=True)
    report = analysis("report", run_folder(tiny))
    assert report.exit_code == 0, report.stderr
    html = (run_folder(tiny) / "report.html").read_text()
    assert 1e6 < len(html) < 6e6
    assert "<script src=" not in html
    assert "minutes since the start" in html


def test_two_processes_do_not_share_a_run(tiny: Path) -> None:
    run_folder(tiny).mkdir(parents=True)
    with held(run_folder(tiny) / "lock"):
        second = searched(tiny)
    assert second.exit_code == 2
    assert "being run by another process" in second.stderr


def test_a_dry_run_costs_candidates_and_writes_nothing(tiny: Path) -> None:
    done = searched(tiny, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("conv 3") + done.stdout.count("RepMLP") >= 20
    assert not run_folder(tiny).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trails=3"], "did you mean trials?"),
        (["limits.max_params=5"], "Raise the limits or widen the space"),
        (["data.name=cifar10", "data.root=/nowhere"], "data.download=true"),
        (["resources.cpus=1000"], "but this machine offers"),
        (["training.batch=5000"], "exceeds the 300 training images"),
        (["runs=/proc/none"], "runs=FOLDER"),
        (["start_with=[{stage1.knd: conv}]"], "stage1.knd is not asked"),
        (["from_runs=[nowhere]"], "from_runs: nowhere is not a run folder"),
    ],
)
def test_bad_input_ends_with_one_clear_error(tiny: Path, arguments: list[str], message: str) -> None:
    done = searched(tiny, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert arguments[0].startswith("resources") or not run_folder(tiny).exists()


def test_a_run_of_another_study_is_refused_and_left_alone(tiny: Path) -> None:
    folder = run_folder(tiny)
    work_off(engine_of(tiny, "trials=1", "training.epochs=1"))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "lock"}
    done = searched(tiny, "trials=1", "training.epochs=2")
    assert done.exit_code == 2
    assert "belongs to another study: training.epochs is 1 there and 2 here" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != "lock"} == before


def test_the_papers_table_matches_cell_by_cell() -> None:
    done = analysis("paper", "--table", 1, "--format", "json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 7
    assert all(r["match"] for r in rows)
    assert {"row", "macs", "params", "paper_macs_m", "paper_params_m", "match"} <= set(rows[0])
    assert rows[0]["macs"] == 52_843_520


@pytest.mark.parametrize("style", ["table", "csv", "md", "latex"])
def test_every_format_holds_the_table(style: str) -> None:
    done = analysis("paper", "--table", 1, "--format", style)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("conv9") == 2
    assert ("22,414,426" if style != "csv" else "22414426") in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["front", "/nowhere"], "is not a run folder"),
        (["report", "sqlite:////nowhere/x.db"], "add its study"),
        (["paper", "--table", "12"], "use one of 1"),
    ],
)
def test_analyze_names_what_is_wrong(arguments: list[str], message: str) -> None:
    done = analysis(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_one_candidate_needs_neither_ray_nor_optuna() -> None:
    code = (
        "import sys; sys.modules['ray'] = sys.modules['optuna'] = None; "
        "import search.candidate, search.measuring.costs, search.measuring.points; from repmlp import build"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ})
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_trial_can_be_trained_data_parallel_by_two_workers(tiny: Path) -> None:
    result = command("run_search.py", tiny, "trials=2", "training.batch=24", "resources.workers=2")
    assert result.returncode == 0, result.stderr
    run = open_run(str(run_folder(tiny)))
    done = run.trials[run.trials["outcome"] == "complete"]
    assert len(done) >= 1
    assert done["throughput"].notna().all()
    assert list(run.epochs[run.epochs["trial"] == done.index[0]]["epoch"]) == [1, 2, 3, 4]
