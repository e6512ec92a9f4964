"""One driver a study: who comes second is refused while the first lives, and takes over once it is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from record.study import StudyError
from search import lease
from search.lease import InFolder, InStudy, Lease, Place, gone, leased, process


@pytest.fixture(params=["folder", "study"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    monkeypatch.setattr(lease, "SETTLING", 0.01)
    if request.param == "folder":
        return InFolder(tmp_path / "driver.json")
    return InStudy(optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}"))


def of_another_machine(beats: int) -> dict[str, object]:
    return {"holder": "theirs", "machine": "theirs", "host": "node7", "pid": 7, "since": "7", "beats": beats}


def test_the_second_is_refused_while_the_first_lives(place: Place) -> None:
    with leased(place, "tiny") as lost:
        with pytest.raises(StudyError, match=f"^tiny is being run by process {os.getpid()} of "), leased(place, "tiny"):
            pass
        time.sleep(1.2)
        assert lost() == ""
    with leased(place, "tiny"):
        pass
    assert place.read() == {}


def test_the_lease_of_another_machine_is_taken_over_once_its_beats_stop(place: Place) -> None:
    place.write(of_another_machine(3))
    start = time.monotonic()
    with leased(place, "tiny") as lost:
        assert time.monotonic() - start >= 1
        assert lost() == ""


def test_the_lease_of_a_process_of_this_machine_that_is_gone_is_taken_over_at_once(place: Place) -> None:
    held = (
        "import sys, time\nfrom search.lease import *\nimport search.lease\n"
        "lease = Lease(InFolder(Path(sys.argv[1])), 'tiny')\nlease.take()\nprint(flush=True)\ntime.sleep(60)"
    )
    if not isinstance(place, InFolder):
        pytest.skip("one kind of place says it")
    process = subprocess.Popen([sys.executable, "-c", held, place.path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert not gone(place.read())
    process.kill()
    process.wait()
    assert gone(place.read())
    with leased(place, "tiny") as lost:
        assert lost() == ""


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    mine = Lease(InFolder(Path("none")), "tiny").mine
    assert not gone(mine)
    assert gone({**mine, "since": "0"})
    assert not gone({**mine, "since": "0", "machine": "another"})
    assert process(os.getpid()) != process(os.getppid())


def test_a_driver_that_was_taken_over_says_so_and_gives_nothing_back(place: Place) -> None:
    with leased(place, "tiny") as lost:
        place.write(of_another_machine(1))
        time.sleep(0.3)
        assert lost() == "tiny was taken over by process 7 of node7, as this one had stopped."
    assert place.read()["holder"] == "theirs"


def test_a_driver_that_slept_asks_before_it_goes_on(place: Place) -> None:
    mine = Lease(place, "tiny")
    mine.take()
    time.sleep(0.6)  # longer than half of the patience, without a beat
    assert mine.lost() == ""
    place.write(of_another_machine(1))
    assert mine.lost() == ""  # seen just now
    time.sleep(0.6)
    assert mine.lost().startswith("tiny was taken over")
