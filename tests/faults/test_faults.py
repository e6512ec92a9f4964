"""Each fault of `benchmarks.faults`, befalling a study until that is done."""

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.hurting import hurt, undisturbed
from benchmarks.faults.injections import FAULTS
from benchmarks.faults.judging import Verdict
from benchmarks.faults.worlds import POSTGRESQL, Shape, Storage, world
from record.run import Run

pytestmark = pytest.mark.slow
EVERYWHERE = "driver and workers killed"
CASES = [
    (name, storage, backend)
    for name, (_, storages, backends, _) in FAULTS.items()
    for backend in backends
    for storage in (storages if name == EVERYWHERE and backend == "local" else storages[:1])
]
"""Each fault on each backend, and one of them on each storage."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[Shape, Run]:
    folder = tmp_path_factory.mktemp("calm")
    return {shape: undisturbed(folder, shape) for shape in ("full", "halving")}


@pytest.fixture
def near() -> Iterator[Path]:
    """A folder of a short name, as those of Ray's sockets have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def needed(storage: Storage) -> None:
    if storage == "postgresql" and not POSTGRESQL:
        pytest.skip("PostgreSQL is not installed")
    if storage == "small_disk" and (os.geteuid() or not shutil.which("mount")):
        pytest.skip("file systems cannot be mounted here; that needs root")
    if storage == "s3":
        pytest.importorskip("moto", reason="moto, whose server stands for S3, is not installed")


@pytest.mark.parametrize(("name", "storage", "backend"), CASES)
def test_nothing_that_is_finished_is_lost(
    name: str, storage: Storage, backend: str, calm: dict[Shape, Run], near: Path
) -> None:
    needed(storage)
    shape: Shape = "halving" if storage in ("journal", "s3") else "full"
    chance = random.Random(f"{name} {storage} {backend}")
    with world(near / "world", shape, storage, backend, chance) as there:  # type: ignore[arg-type]
        assert hurt(calm[shape], there, {name: 1}, {}) == Verdict()
