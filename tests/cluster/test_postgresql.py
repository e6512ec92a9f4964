"""PostgreSQL as the storage, for real: searched, killed, stopped and restarted, with two studies, and watched."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.faults.worlds import POSTGRESQL, Database, free_port
from record.run import RunError, open_run
from tests.conftest import ROOT
from tests.driving import analysis, searched

pytest.importorskip("psycopg", reason="psycopg is not installed")
if not POSTGRESQL:
    pytest.skip("PostgreSQL is not installed", allow_module_level=True)
LONG = ("halving=null", "sampler=random", "training.epochs=30")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    server = Database(tmp_path_factory.mktemp("postgresql") / "database")
    yield server
    server.stop()


@pytest.fixture
def started(tiny: Path, database: Database) -> Iterator["subprocess.Popen[str]"]:
    """A search whose second trial has been recorded."""
    line = [sys.executable, ROOT / "run_search.py", tiny, "trials=4", *LONG, f"storage={database.url}", "name=started"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=tiny.parent)
    while process.poll() is None:
        time.sleep(0.2)
        with suppress(RunError):
            if len(open_run(f"{database.url}#started").epochs) >= 2:
                break
    yield process
    process.kill()
    process.wait()


def test_a_database_that_stops_halts_the_study_and_one_that_was_killed_goes_on(
    tiny: Path, database: Database, started: "subprocess.Popen[str]"
) -> None:
    same = (tiny, "trials=4", *LONG, f"storage={database.url}", "name=started")
    database.stop()
    _, errors = started.communicate(timeout=60)
    database.start()
    assert started.returncode == 75, errors
    assert f"error: the storage {database.url} cannot be used: " in errors
    assert "Nothing that is recorded is lost" in errors
    assert "Traceback" not in errors
    before = open_run(f"{database.url}#started")
    killed = subprocess.Popen([sys.executable, ROOT / "run_search.py", *same], stderr=subprocess.DEVNULL)
    while len(open_run(f"{database.url}#started").epochs) <= len(before.epochs) + 2 and killed.poll() is None:
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    found = searched(*same)
    assert found.exit_code == 0, found.stderr
    after = open_run(f"{database.url}#started")
    assert after.trials["outcome"].isin(["complete", "duplicate", "failed"]).all()
    assert (after.trials["outcome"] == "complete").sum() == 4
    assert after.trials.loc[after.trials["outcome"] == "failed", "config"].isna().all()  # cut off before it was chosen
    assert after.epochs.groupby("trial")["epoch"].apply(list).map(lambda e: e == list(range(1, 31))).all()


def test_two_studies_share_a_database_and_a_dashboard_shows_both(tiny: Path, database: Database) -> None:
    for name in ("one", "two"):
        found = searched(tiny, "trials=1", "halving=null", f"storage={database.url}", f"name={name}")
        assert found.exit_code == 0, found.stderr
        assert analysis("front", f"{database.url}#{name}").exit_code == 0
    missing = analysis("front", f"{database.url}#three")
    assert (missing.exit_code, "cannot be opened" in missing.stderr) == (2, True), missing.output
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    port = free_port()
    shown = subprocess.Popen(
        [Path(sys.executable).with_name("optuna-dashboard"), database.url, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies") as answer:
                studies = {s["study_name"] for s in json.load(answer)["study_summaries"]}
                break
            time.sleep(0.2)
        assert studies >= {"one", "two"}
    finally:
        shown.kill()
        shown.wait()
