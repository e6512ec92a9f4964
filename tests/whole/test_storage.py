"""Disks that are full, storages that are gone, and passwords in their URLs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from record.run import open_run
from search.candidate import Candidate, Job
from search.training.checkpoints import checkpoint_path
from tests.driving import analysis, command, driven, engine_of, searched

FULL = "/dev/full"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("backend", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_full_disk_pauses_the_study(tiny: Path, small_disk: Path, backend: str) -> None:
    given = (str(tiny), f"runs={small_disk}", "halving=null", "trials=6", f"resources.backend={backend}")
    filling = small_disk / "filling"
    filling.write_bytes(bytes(120_000))
    found = command("run_search.py", *given)
    assert found.returncode == 75, found.stderr
    assert "error: the disk that holds" in found.stderr
    assert "is full. Nothing that is recorded is lost" in found.stderr
    assert "Traceback" not in found.stderr
    assert not list(small_disk.rglob("*.part"))
    filling.unlink()
    before = open_run(small_disk / "tiny").trials
    assert "failed" not in set(before["outcome"])
    done = before[before["outcome"] == "complete"]
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    again = command("run_search.py", *given)
    assert again.returncode == 0, again.stderr
    after = open_run(small_disk / "tiny").trials
    assert after["outcome"].eq("complete").sum() == 6
    assert not set(after["outcome"]) & {"failed", "running"}
    assert after.loc[done.index, "end"].equals(done["end"])


def test_a_checkpoint_that_finds_no_room_fails_no_trial(tiny: Path) -> None:
    engine = engine_of(tiny, "trials=2")
    path = checkpoint_path(engine.study.folder, 0)
    path.parent.mkdir()
    path.with_name(f"{path.name}.part").symlink_to(FULL)
    job, _ = driven(engine)
    assert engine.halted == f"the disk that holds {job.folder} is full."
    assert engine.next() == "finished"
    assert not list(path.parent.iterdir())
    assert engine.journal.trials[0].state == "running"
    again = engine_of(tiny, "trials=2")
    job, _ = driven(again)
    assert (job.number, again.journal.trials[0].state, again.halted) == (0, "paused", "")


def test_no_paused_trial_is_given_up_when_the_next_one_finds_no_room(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(tiny, "trials=2")
    driven(engine)

    def no_room() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "candidate", no_room)
    monkeypatch.setattr(engine.policy, "promoted", lambda _: None)
    assert engine.next() == "finished"
    assert "is full" in engine.halted
    assert engine.journal.trials[0].state == "paused"


def test_a_storage_that_goes_away_halts_the_study_and_comes_back(tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "study.db"
    engine = engine_of(tiny, "trials=3", f"storage=sqlite:///{base}")
    job = engine.next()
    assert isinstance(job, Job)
    kept = base.read_bytes()
    base.write_bytes(b"no database")
    storage = engine.journal.optuna._storage
    getattr(storage, "_backend", storage).engine.dispose()
    assert engine.report(job.number, Candidate(job).advance()) == "stop"
    assert engine.halted.startswith(f"the storage sqlite:///{base} cannot be used: ")
    assert engine.next() == "finished"
    base.write_bytes(kept)
    again = engine_of(tiny, "trials=3", f"storage=sqlite:///{base}")
    assert {t.state for t in again.journal.trials.values()} == {"running"}


def test_a_storage_that_is_not_there_is_told_in_a_sentence(tiny: Path) -> None:
    found = searched(tiny, "storage=postgresql+psycopg2://me:s3cret@127.0.0.1:1/none")
    assert found.exit_code == 2
    assert "postgresql+psycopg2://me:***@127.0.0.1:1/none" in found.stderr
    assert "s3cret" not in found.stderr
    assert len(found.stderr.splitlines()) < 6


def test_a_database_that_cannot_be_read_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"no database" * 99)
    found = analysis("front", f"sqlite:///{tmp_path / 'no.db'}#tiny")
    assert (found.exit_code, "cannot be opened" in found.stderr) == (2, True), found.output


def test_a_password_is_neither_stored_nor_shown(tiny: Path, tmp_path: Path) -> None:
    base = tmp_path / "study.db"
    url = f"sqlite:///file:{base}?uri=true&password=s3cret"
    found = command("run_search.py", tiny, "trials=1", "halving=null", f"storage={url}")
    assert found.returncode == 0, found.stderr
    assert "s3cret" not in found.stdout + found.stderr
    assert b"s3cret" not in base.read_bytes()
    page = tmp_path / "report.html"
    for arguments in (["front"], ["report", "--out", page], ["pick", "--out", tmp_path / "pick.yaml"]):
        told = analysis(*arguments[:1], f"{url}#tiny", *arguments[1:])
        assert told.exit_code == 0, told.stderr
        assert "s3cret" not in told.stdout + told.stderr
    assert "s3cret" not in page.read_text() + (tmp_path / "pick.yaml").read_text()
    again = command("run_search.py", tiny, "trials=2", "halving=null", f"storage={url}")
    assert again.returncode == 0, again.stderr
