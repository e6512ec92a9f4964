import fcntl
import multiprocessing as mp
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch.distributed as dist

from search.candidate import Candidate
from search.measuring.locks import DeviceLock, device_name, held, lock_folder
from tests.engine.test_training import RECIPE, task

LIMIT = 60
"""Seconds that a test may take."""


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """A lock that is never given back fails the test that waits for it."""

    def ended(*_: object) -> NoReturn:
        pytest.fail(f"still waiting after {LIMIT} s")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def lock(tmp_path: Path) -> DeviceLock:
    return DeviceLock("cpu", tmp_path)


def test_a_measurement_has_the_device_alone_and_is_not_starved(tmp_path: Path) -> None:
    busy, overlaps, done = [0], [], threading.Event()
    guard = threading.Lock()

    def train() -> None:
        lock = DeviceLock("cpu", tmp_path)
        with lock.shared():
            while not done.is_set():
                with guard:
                    busy[0] += 1
                time.sleep(0.005)
                with guard:
                    busy[0] -= 1
                lock.give_way()

    trainers = [threading.Thread(target=train) for _ in range(3)]
    for trainer in trainers:
        trainer.start()
    waits, measurer = [], DeviceLock("cpu", tmp_path)
    try:
        for _ in range(10):
            start = time.monotonic()
            with measurer.alone():
                waits.append(time.monotonic() - start)
                overlaps.append(busy[0])
                time.sleep(0.01)
                overlaps.append(busy[0])
    finally:
        done.set()
    for trainer in trainers:
        trainer.join()
    assert overlaps == [0] * 20
    assert max(waits) < 2


def test_a_share_is_held_until_the_trainer_gives_way(tmp_path: Path) -> None:
    """However many batches are queued on the device in between."""
    trainer, measurer, measured = DeviceLock("cpu", tmp_path), DeviceLock("cpu", tmp_path), threading.Event()

    def measure() -> None:
        with measurer.alone():
            measured.set()

    with trainer.shared():
        thread = threading.Thread(target=measure)
        thread.start()
        assert not measured.wait(0.3)
        waited = trainer.give_way()
        assert measured.is_set()
    thread.join()
    assert 0 < waited < 0.3
    assert trainer.give_way() == 0


def test_what_is_waited_for_a_measurement_is_told_once(tmp_path: Path) -> None:
    trainer, measurer = DeviceLock("cpu", tmp_path), DeviceLock("cpu", tmp_path)
    started = threading.Event()

    def measure() -> None:
        with measurer.alone():
            started.set()
            time.sleep(0.2)

    thread = threading.Thread(target=measure)
    thread.start()
    started.wait()
    with trainer.shared():
        assert 0.1 < trainer.give_way() < 1
        assert trainer.give_way() < 0.01
    thread.join()


def test_trainers_share_the_device(tmp_path: Path) -> None:
    with DeviceLock("cpu", tmp_path).shared(), DeviceLock("cpu", tmp_path).shared():
        pass


def keep(file: Path, share: Any, forked: Any) -> None:
    forked.set()
    share.wait()


def test_a_child_process_does_not_keep_the_share_of_its_parent(lock: DeviceLock, tmp_path: Path) -> None:
    """Processes that read data are forked while a trainer holds its share, and inherit its files."""
    context = mp.get_context("fork")
    ended, forked = context.Event(), context.Event()
    with lock.shared():
        child = context.Process(target=keep, args=(tmp_path, ended, forked))
        child.start()
        forked.wait()
    measured = threading.Event()

    def measure() -> None:
        with DeviceLock("cpu", tmp_path).alone():
            measured.set()

    threading.Thread(target=measure, daemon=True).start()
    assert measured.wait(5)
    ended.set()
    child.join()


def test_a_lock_is_open_to_all_users_of_the_machine_and_named_by_the_device(
    lock: DeviceLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o077)
    try:
        with lock.shared():
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (lock.gate, lock.users)] == [0o666] * 2
    assert lock.gate.name == f"repmlp-{device_name('cpu')}.gate"
    monkeypatch.delenv("REPMLP_LOCKS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock_folder() == Path("/tmp")
    monkeypatch.setenv("REPMLP_LOCKS", str(tmp_path))
    assert DeviceLock("cpu").gate == lock.gate


def test_a_lock_held_elsewhere_is_refused_at_once(tmp_path: Path) -> None:
    with (
        held(tmp_path / "lock"),
        pytest.raises(BlockingIOError),
        held(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB),
    ):
        pass


def train_in_a_group(rank: int, folder: str, epochs: int, ended: Any) -> None:
    os.environ["REPMLP_LOCKS"] = folder
    dist.init_process_group("gloo", f"file://{folder}/meeting", world_size=2, rank=rank)
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    candidate = Candidate(task(Path(folder), workers=2, measure={}, recipe=recipe), (rank, 2))
    for _ in range(epochs):
        candidate.advance()
    ended.put(rank)
    dist.barrier()


def test_a_group_of_workers_does_not_deadlock_with_measurements_beside_it(tmp_path: Path) -> None:
    context = mp.get_context("spawn")
    ended = context.Queue()
    ranks = [context.Process(target=train_in_a_group, args=(r, str(tmp_path), 40, ended), daemon=True) for r in (0, 1)]
    for rank in ranks:
        rank.start()
    lock, measured = DeviceLock("cpu", tmp_path), 0
    while any(r.is_alive() for r in ranks) and not lock.users.exists():
        time.sleep(0.05)
    while any(r.is_alive() for r in ranks) and measured < 50:
        with lock.alone():
            time.sleep(0.005)
        measured += 1
        time.sleep(0.02)
    assert measured == 50, "the group ended before it was measured beside; train for longer"
    assert {ended.get(timeout=120), ended.get(timeout=120)} == {0, 1}
    for rank in ranks:
        rank.join()
