"""Run folders on object storage: searched, cut off, continued and read as those on this machine are."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from record.run import RunError, open_run
from record.trial import EpochResult
from search.candidate import Candidate, Job, Report
from tests.clusters import serving
from tests.conftest import ROOT
from tests.driving import analysis, command, driven, engine_of, searched

S3FileSystem = pytest.importorskip("s3fs", reason="s3fs is not installed").S3FileSystem


def test_a_search_and_what_is_asked_of_it_need_no_folder_here(
    tiny: Path, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    same = ("trials=3", "halving=null", "sampler=random")
    assert searched(tiny, *same).exit_code == 0
    found = searched(tiny, *same, f"runs={bucket}")
    assert found.exit_code == 0, found.stderr
    here, there = open_run("runs/tiny"), open_run(f"{bucket}/tiny")
    assert there.trials["accuracy"].tolist() == here.trials["accuracy"].tolist()
    assert there.trials["config"].tolist() == here.trials["config"].tolist()
    assert not list(Path("runs/tiny").glob("journal/*"))
    for asked in ("front", "report", "figure", "pick", "export --format safetensors"):
        name, *options = asked.split()
        told = analysis(name, f"{bucket}/tiny", *options)
        assert told.exit_code == 0, told.output
    assert {p.name for p in there.folder.iterdir()} >= {"journal", "weights", "report.html", "front.pdf"}
    assert Path("runs/tiny/export/model.safetensors").is_file()
    again = searched(tiny, *same, f"runs={bucket}", "trials=4")
    assert again.exit_code == 0, again.stderr
    later = open_run(f"{bucket}/tiny").trials
    assert later.loc[there.trials.index, "end"].equals(there.trials["end"])
    assert f"runs: {bucket}\n" in Path("runs/tiny/pick.yaml").read_text()


def test_a_paused_trial_goes_on_from_its_checkpoint_there(tiny: Path, bucket: str) -> None:
    engine = engine_of(tiny, "trials=2", f"runs={bucket}")
    job, _ = driven(engine)
    trial = engine.journal.trials[job.number]
    assert (trial.state, len(trial.curve)) == ("paused", 1)
    path = engine.study.folder / "checkpoints" / f"{job.number}.pt"
    assert path.exists()
    again = engine_of(tiny, "trials=1", f"runs={bucket}")
    job, _ = driven(again)
    assert (job.trained, len(again.journal.trials[job.number].curve), again.journal.trials[job.number].note) == (
        1,
        2,
        "",
    )


@pytest.mark.slow
def test_a_kill_costs_nothing_finished_and_two_drivers_are_not_let_in(tiny: Path, bucket: str) -> None:
    given = (str(tiny), f"runs={bucket}", "trials=30", "halving=null", "training.epochs=8")
    process = subprocess.Popen(
        [sys.executable, ROOT / "run_search.py", *given], stderr=subprocess.DEVNULL, cwd=tiny.parent, process_group=0
    )
    start = time.monotonic()
    while time.monotonic() - start < 120:
        time.sleep(0.5)
        with suppress(RunError):
            if open_run(f"{bucket}/tiny").trials["outcome"].eq("complete").sum() >= 2:
                break
    second = searched(*given)
    assert second.exit_code == 2
    assert f"is being run by process {process.pid} of" in second.stderr or "is being run by another" in second.stderr
    process.kill()
    process.wait()
    before = open_run(f"{bucket}/tiny").trials
    done = before[before["outcome"] == "complete"]
    again = searched(*given[:2], *given[3:], f"trials={len(done) + 1}")
    assert again.exit_code == 0, again.stderr
    after = open_run(f"{bucket}/tiny")
    assert after.trials.loc[done.index, "end"].equals(done["end"])
    for _, epochs in after.epochs.groupby("trial"):
        assert epochs["epoch"].tolist() == list(range(1, len(epochs) + 1))


def test_a_server_that_is_gone_halts_the_study(tiny: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (process, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        S3FileSystem.clear_instance_cache()
        S3FileSystem(skip_instance_cache=True).mkdir("bucket")
        engine = engine_of(tiny, "trials=2", "runs=s3://bucket/runs")
        job = engine.next()
        assert isinstance(job, Job)
        candidate = Candidate(job)
        assert engine.report(job.number, candidate.advance()) == "continue"
        process.kill()
        process.wait()
        found = candidate.advance()
        assert found.halt.startswith("s3://bucket/runs/tiny/checkpoints/0.pt cannot be reached: Could not connect"), (
            found
        )
        assert engine.report(job.number, Report(epoch=EpochResult(1, 10, 1, 1))) == "stop"
        assert engine.halted.startswith("s3://bucket/runs/tiny/journal/000000000.jsonl cannot be reached: ")
        assert engine.next() == "finished"


def test_what_cannot_be_reached_is_told_in_a_sentence(tiny: Path, bucket: str) -> None:
    for runs, expected in (
        ("s3://no-such-bucket/runs", "bucket does not exist"),
        ("nowhere://a/b", "give the path of a folder here"),
    ):
        found = searched(tiny, f"runs={runs}")
        assert (found.exit_code, expected in found.stderr) == (2, True), found.stderr
    for run in (f"{bucket}/none", "s3://no-such-bucket/x"):
        told = analysis("front", run)
        assert (told.exit_code, "has no journal" in told.stderr) == (2, True), told.output


def test_a_server_that_is_not_there_is_told_in_a_sentence(tiny: Path, s3: str) -> None:
    found = command("run_search.py", tiny, "runs=s3://bucket/runs", AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert found.returncode == 2, found.stderr
    assert "cannot be reached: Could not connect" in found.stderr
    assert "Traceback" not in found.stderr
