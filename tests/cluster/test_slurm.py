"""The script for SLURM: what it asks for, and, on a SLURM of its own, what becomes of a study at the time limit."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from record.files import read_study
from record.run import Run, open_run
from record.study import StudyError
from search.backends.slurm import script
from tests.cluster.throwaway import Slurm, lacking, throwaway
from tests.conftest import ROOT
from tests.driving import run_folder, searched

KINDS = {"node": {}, "nodes": {"nodes": 2}, "array": {"array": 2}}


def scripted(tiny: Path, *overrides: str, **kinds: int | str) -> str:
    return script(read_study(tiny, overrides), ["python", "run_search.py", str(tiny), *overrides], tiny.parent, **kinds)


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_is_sound_bash_that_carries_the_command(tiny: Path, kind: str) -> None:
    overrides = ["start_with=[{stage1.kind: conv}]", "runs=it's here", "resources.concurrent=2"]
    text = scripted(tiny, *overrides, **KINDS[kind])
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    line = next(line for line in text.splitlines() if line.startswith("search="))
    said = subprocess.run(["bash", "-c", f'{line}; printf "%s\\n" "${{search[@]}}"'], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["python", "run_search.py", str(tiny), *overrides]
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-"], input=text, text=True, capture_output=True)
        assert found.returncode == 0, found.stdout


def asked(text: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize(
    ("resources", "kind", "cpus", "gpus"),
    [
        ("{backend: local, concurrent: 3, cpus: 2}", {}, "6", None),
        ("{concurrent: 4, cpus: 1.5, gpus: 0.5}", {}, "6", "2"),
        ("{concurrent: 5, cpus: 4, gpus: 1}", {"nodes": 2}, "12", "3"),
        ("{concurrent: 3, cpus: 2, gpus: 0.4}", {"array": 3}, "2", "1"),
        ("{concurrent: 1, workers: 5, cpus: 2, gpus: 1}", {"nodes": 5}, "2", "1"),
        ("{backend: ray, concurrent: 2, gpus: 1, measure_on: {target: 1}}", {}, "2", "3"),
    ],
)
def test_a_job_asks_for_what_its_share_of_the_trials_needs(
    tiny: Path, resources: str, kind: dict[str, int], cpus: str, gpus: str | None
) -> None:
    options = asked(scripted(tiny, f"resources={resources}", **kind))
    assert (options["cpus-per-task"], options.get("gpus-per-node")) == (cpus, gpus)
    assert options["nodes"] == str(kind.get("nodes", 1))
    assert options.get("array") == ("0-2" if kind == {"array": 3} else None)


@pytest.mark.parametrize(
    ("limit", "signal"),
    [("00:01:00", "15"), ("00:04:00", "60"), ("04:00:00", "120"), ("2-00:00:00", "120")],
)
def test_a_job_is_told_to_stop_before_its_time_is_over(tiny: Path, limit: str, signal: str) -> None:
    options = asked(scripted(tiny, limit=limit))
    assert (options["time"], options["signal"]) == (limit, f"B:TERM@{signal}")
    assert "requeue" in options


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        ([], {"limit": "4h"}, "HH:MM:SS"),
        ([], {"nodes": 2, "array": 2}, "one of --nodes"),
        ([], {"nodes": 4}, "resources.concurrent=2 leaves nodes idle; set it to 4 or more"),
        (["resources={backend: ray, address: auto}"], {}, "leave resources.address out"),
    ],
)
def test_what_makes_no_job_is_told(tiny: Path, overrides: list[str], kind: dict[str, int], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        scripted(tiny, *overrides, **kind)


def test_the_command_prints_the_script_and_runs_nothing(tiny: Path) -> None:
    done = searched(tiny, "trials=7", "--slurm", "--time", "00:10:00")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n#SBATCH")
    assert f"{sys.executable} {ROOT / 'run_search.py'} {tiny} trials=7" in done.stdout
    assert "#SBATCH --time=00:10:00\n" in done.stdout
    assert not run_folder(tiny).exists()


def test_what_is_for_a_job_alone_is_refused_without_one(tiny: Path) -> None:
    found = searched(tiny, "--nodes", "2")
    assert (found.exit_code, "--nodes and --array are for --slurm" in found.stderr) == (2, True)
    assert not run_folder(tiny).exists()


@pytest.mark.parametrize(
    ("code", "state", "fruitless", "asked"),
    [
        pytest.param(143, "RUNNING", 0, "requeue 7", id="the time is over"),
        pytest.param(143, "RUNNING", 3, "requeue 7", id="the time is over, the fourth time in vain"),
        pytest.param(143, "RUNNING", 4, "", id="the time is over, the fifth time in vain"),
        pytest.param(143, "COMPLETING", 0, "", id="cancelled"),
        pytest.param(75, "RUNNING", 0, "requeuehold 7", id="the disk is full"),
        pytest.param(2, "RUNNING", 0, "", id="the study is wrong"),
        pytest.param(0, "RUNNING", 0, "", id="done"),
    ],
)
def test_a_job_asks_to_be_queued_again_only_if_that_helps(
    tiny: Path, code: int, state: str, fruitless: int, asked: str
) -> None:
    """Stand-ins of SLURM's commands answer; the search tells the shell of the time limit, if it is that, and ends."""
    told = "kill -TERM $PPID; kill -TERM $PPID; sleep 0.2; " if code == 143 else ""
    text = script(read_study(tiny), ["bash", "-c", f"{told}exit {code}"], tiny.parent)
    calls = tiny.parent / "calls"
    for name, does in {"squeue": f"echo {state}", "scontrol": f'echo "$*" >> {calls}'}.items():
        (tiny.parent / name).write_text(f"#!/bin/sh\n{does}\n")
        (tiny.parent / name).chmod(0o755)
    run_folder(tiny).mkdir(parents=True)
    starts = run_folder(tiny) / "slurm-7.starts"
    starts.write_text("\n" * fruitless)
    env = {**os.environ, "SLURM_JOB_ID": "7", "PATH": f"{tiny.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done.stderr
    assert (calls.read_text().strip() if calls.exists() else "") == asked
    assert starts.exists() == (code in (143, 75))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if reason := lacking():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm") / "cluster"
    try:
        with throwaway(folder) as running:
            yield running
    except RuntimeError as error:
        pytest.skip(str(error))


LONG = "seeds=12", "training.epochs=100"
"""Of `ablation`, whose three networks are two, trained seed by seed: about 80 seconds on two cores."""


def submitted(slurm: Slurm, study: Path, *arguments: str, **options: str) -> str:
    """Submit the script that the command prints, and return the number of the job."""
    done = searched(study, *LONG, *arguments, "--slurm", "--time", "00:02:00")
    assert done.exit_code == 0, done.stderr
    job = study.parent / "job.sh"
    job.write_text(done.stdout)
    more = [f"--{name}={value}" for name, value in options.items()]
    return slurm("sbatch", "--parsable", *more, job, cwd=study.parent)


def begun(slurm: Slurm, study: Path, number: str) -> None:
    """Wait until a job has recorded an epoch."""
    slurm.wait(number, {"RUNNING"})
    holds(study, '"epoch 2"')


def holds(study: Path, text: str) -> None:
    """Wait until the journal has a text."""
    journal = run_folder(study) / "journal.log"
    for _ in range(120):
        if journal.exists() and text in journal.read_text():
            return
        time.sleep(0.5)
    raise AssertionError([path.read_text() for path in study.parent.glob("*.log")])


def check_whole(run: Run, stops: int) -> None:
    """Every training is there to its end, with all epochs; what had ended was not trained again.

    An epoch that no checkpoint held at a stop is: they are written as often as takes little of the time.
    """
    assert run.trials["outcome"].value_counts().to_dict() == {"complete": 24, "duplicate": 12}
    for _, curve in run.epochs.groupby("trial"):
        assert curve["epoch"].tolist() == list(range(1, 101))
    lines = (run.folder / "journal.log").read_text().splitlines()
    trained = re.findall(r'"trial_id":(\d+),"user_attr":{"epoch (\d+)"', "\n".join(lines))
    assert len(set(trained)) == 2400
    assert len(trained) <= 2400 + 2 * 10 * stops  # two were under way
    ended = [line for line in lines if '"outcome":"complete"' in line]
    assert len(ended) == 24
    for line in ended:
        (trial,) = re.findall(r'"trial_id":(\d+),', line)
        assert not any(f'"trial_id":{trial},"user_attr":{{"epoch' in later for later in lines[lines.index(line) :])


@pytest.mark.slow
def test_a_job_is_stopped_at_its_time_limit_queued_again_and_finishes(slurm: Slurm, ablation: Path) -> None:
    number = submitted(slurm, ablation)  # two minutes, of which SLURM may take one and a half for its notice
    slurm.wait(number, {"RUNNING"})
    restarts = 0
    while True:
        job = slurm.wait(number, {"PENDING", "COMPLETED"})
        if job["JobState"] == "COMPLETED":
            break
        restarts += 1
        assert job["Restarts"] == str(restarts)
        slurm.hurry(number)
        slurm.wait(number, {"RUNNING"})
    assert job["ExitCode"] == "0:0"
    assert restarts >= 1
    log = (ablation.parent / f"tiny-{number}.log").read_text()
    print(*slurm.history, log, sep="\n")
    assert log.count("Stopped. What is finished is kept") == log.count("Back into the queue.") == restarts
    assert log.count("continuing after") == restarts
    check_whole(open_run(run_folder(ablation)), restarts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partition", "own"), [pytest.param("low", True, id="with grace"), pytest.param("abrupt", False, id="at once")]
)
def test_a_job_that_is_preempted_is_queued_again_once(slurm: Slurm, ablation: Path, partition: str, own: bool) -> None:
    number = submitted(slurm, ablation, partition=partition, time="10", nodelist="n1")
    begun(slurm, ablation, number)
    slurm("sbatch", "--partition=high", "--nodelist=n1", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    job = slurm.wait(number, {"PENDING"})
    assert job["Restarts"] == "1"
    time.sleep(5)
    assert slurm.job(number)["Restarts"] == "1"
    log = (ablation.parent / f"tiny-{number}.log").read_text()
    assert log.count("Stopped. What is finished is kept") == 1
    assert log.count("Back into the queue.") == own
    slurm("scancel", number)


@pytest.mark.slow
def test_a_job_that_is_cancelled_stops_cleanly_and_stays_cancelled(slurm: Slurm, ablation: Path) -> None:
    number = submitted(slurm, ablation, time="10")
    begun(slurm, ablation, number)
    slurm("scancel", number)
    slurm.wait(number, {"CANCELLED"})
    time.sleep(5)
    job = slurm.job(number)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    log = (ablation.parent / f"tiny-{number}.log").read_text()
    assert log.count("Stopped. What is finished is kept") == 1
    assert "Back into the queue." not in log


def overlaps(run: Run) -> bool:
    """Whether two trainings ran at once."""
    done = run.trials[run.trials["outcome"] == "complete"].sort_values("start")
    return bool((done["start"].to_numpy()[1:] < done["end"].to_numpy()[:-1]).any())


@pytest.mark.slow
def test_a_job_of_two_nodes_trains_on_both(slurm: Slurm, ablation: Path) -> None:
    number = submitted(slurm, ablation, "--nodes", "2", time="10")
    slurm.wait(number, {"COMPLETED"}, 400)
    run = open_run(run_folder(ablation))
    check_whole(run, 0)
    assert overlaps(run)
    assert not Path(f"/tmp/repmlp-{number}").exists()


@pytest.mark.slow
def test_the_tasks_of_an_array_join_a_search_leave_it_and_take_it_over(slurm: Slurm, ablation: Path) -> None:
    array = submitted(slurm, ablation, "--array", "2", time="10", array="0-1%1")
    first, second = f"{array}_0", f"{array}_1"
    begun(slurm, ablation, first)
    slurm("scontrol", "update", f"JobId={array}", "ArrayTaskThrottle=2")
    slurm.wait(second, {"RUNNING"})
    log = ablation.parent / f"tiny-{array}_0.log"
    holds(ablation, '"trial_id":6,')
    assert overlaps(open_run(run_folder(ablation)))  # each task has room for one
    slurm("scancel", "--signal=TERM", "--batch", first)
    slurm.wait(first, {"PENDING"})
    assert "Back into the queue." in log.read_text()
    slurm.wait(second, {"COMPLETED"}, 400)
    assert slurm.wait(first, {"CANCELLED"})["Restarts"] == "1"
    check_whole(open_run(run_folder(ablation)), 1)
