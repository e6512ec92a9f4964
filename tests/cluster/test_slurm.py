"""The script for SLURM: what it asks for, and, on a SLURM of its own, what becomes of a study at the time limit."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from record.files import read_study
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
        ("{concurrent: 2, gpus: 1, measure_on: {target: 1}}", {}, "2", "3"),
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
        (["resources={address: auto}"], {}, "leave resources.address out"),
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


LONG = "trials=100", "training.epochs=30", "training.learning_rate=0.01", "halving=null", "space.groups=[1,2,4]"


def submitted(slurm: Slurm, tiny: Path, *overrides: object, **options: str) -> str:
    """Submit the script that the command prints, and return the number of the job."""
    job = tiny.parent / "job.sh"
    done = searched(tiny, *overrides, "--slurm", "--time", "00:01:00")
    assert done.exit_code == 0, done.stderr
    job.write_text(done.stdout)
    more = [f"--{name}={value}" for name, value in options.items()]
    return slurm("sbatch", "--parsable", *more, job, cwd=tiny.parent)
