import fcntl
import threading
import time
from pathlib import Path

import pytest

from search.locks import DeviceLock, held


@pytest.fixture
def lock(tmp_path: Path) -> DeviceLock:
    lock = DeviceLock("cpu")
    lock.gate, lock.users = tmp_path / "gate", tmp_path / "users"
    return lock


def test_a_measurement_has_the_device_alone_and_is_not_starved(lock: DeviceLock) -> None:
    busy, overlaps, done = [0], [], threading.Event()
    guard = threading.Lock()

    def train() -> None:
        while not done.is_set():
            with lock.shared():
                with guard:
                    busy[0] += 1
                time.sleep(0.005)
                with guard:
                    busy[0] -= 1

    trainers = [threading.Thread(target=train) for _ in range(3)]
    for trainer in trainers:
        trainer.start()
    waits = []
    for _ in range(10):
        start = time.monotonic()
        with lock.alone():
            waits.append(time.monotonic() - start)
            overlaps.append(busy[0])
            time.sleep(0.01)
            overlaps.append(busy[0])
    done.set()
    for trainer in trainers:
        trainer.join()
    assert overlaps == [0] * 20
    assert max(waits) < 2


def test_trainers_share_the_device(lock: DeviceLock) -> None:
    with lock.shared(), lock.shared():
        pass


def test_a_lock_held_elsewhere_is_refused_at_once(tmp_path: Path) -> None:
    with (
        held(tmp_path / "lock"),
        pytest.raises(BlockingIOError),
        held(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB),
    ):
        pass
