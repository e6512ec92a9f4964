import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEMORY = Path("/dev/shm")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4e9:  # each line of a journal is synced, which is free there
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
if "REPMLP_LOCKS" not in os.environ:  # a search beside the tests does not hold them up; their own workers share it
    LOCKS = tempfile.TemporaryDirectory(prefix="repmlp-locks-")
    os.environ["REPMLP_LOCKS"] = LOCKS.name


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A study that trains a candidate in about a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""
        name: tiny
        runs: {tmp_path / "runs"}
        data: {{name: mnist5k, size: 8, train_images: 400, validation: 0.25, pad: 1}}
        space:
          name: cifar_mlp
          channels: [[4, 8]]
          blocks: [1]
          partitions: [4, 8]
          groups: [1, 2]
          kernels: [[], [1, 3]]
          reductions: [1]
          head: 16
        training: {{epochs: 4, batch: 25, precision: float32}}
        trials: 5
        sampler: random
        halving: {{first_rung: 1, factor: 2}}
        measure: {{batch: 8, seconds: 0.02, confirm: false}}
        resources: {{backend: local}}
        """
    )
    return path


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    """An ablation of two networks, of which another row is the base once more, that trains one in about a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"""
        name: tiny
        runs: {tmp_path / "runs"}
        data: {{name: mnist5k, size: 8, train_images: 400, validation: 0.25, pad: 1}}
        space:
          name: ablation
          table: 1
          base_name: Pure MLP
          base:
            kind: cifar
            head: 16
            stages: [{{channels: 8, blocks: 1, block: {{kind: repmlp, partition: 4, groups: 2, kernels: [1, 3]}}}}]
          variants:
            A) before conversion: before_conversion
            B) w/o Local: without_local
        seeds: 3
        training: {{epochs: 2, batch: 25, precision: float32, learning_rate: 0.05}}
        measure: {{batch: 8, seconds: 0.02, confirm: false}}
        resources: {{backend: local}}
        """
    )
    return path


@pytest.fixture(scope="session")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the real CIFAR-10, where it is at hand."""
    shared = ROOT.parent / "shared" / "data"
    if not (shared / "cifar10.zip").is_file() or not zipfile.is_zipfile(shared / "cifar10.zip"):
        pytest.skip("CIFAR-10 is not at ../shared/data/cifar10.zip")
    import subprocess
    import sys

    root = tmp_path_factory.mktemp("cifar10")
    out = root / "cifar-10-batches-py"
    subprocess.run([sys.executable, shared / "unpack_cifar10.py", shared / "cifar10.zip", out], check=True)
    return root


def unzipped(name: str, folder: Path) -> Path:
    """Unpack ../shared/data/NAME.zip, where it is at hand."""
    archive = ROOT.parent / "shared" / "data" / f"{name}.zip"
    if not archive.is_file() or not zipfile.is_zipfile(archive):
        pytest.skip(f"there is no ../shared/data/{name}.zip")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def lfw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of real faces, where they are at hand."""
    return unzipped("faces", tmp_path_factory.mktemp("lfw"))


@pytest.fixture(scope="session")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the real CamVid, where it is at hand."""
    return unzipped("camvid", tmp_path_factory.mktemp("camvid"))
