import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import RECIPES, Claim, fastest
from tests.conftest import ROOT


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_script_for_gpus_runs_in_small_on_a_cpu_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = script("--device", "cpu", "--minutes", 5, "--out", tmp_path)
    assert first.returncode == 0, first.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| what auto takes is at least 0.95 times as fast as float32 |" in page
    assert page.count("\n| Pure MLP | 1 |") == 1
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"tests", "training_step", "grouped_fc", "conversion", "networks", "quiet_measurement"}
    assert not [name for name, found in figures.items() if "failure" in found]
    assert len(list(tmp_path.glob("*.csv"))) == 6
    again = script("--device", "cpu", "--minutes", 5, "--out", tmp_path)
    assert again.returncode == 0
    assert "..." not in again.stdout  # nothing is measured again
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_script_says_what_works() -> None:
    found = script("--minutes", 1)
    assert found.returncode == 2
    assert "there is no GPU that PyTorch can use; --device cpu takes the same way in small" in found.stderr


def test_the_fastest_way_to_take_a_step_is_chosen() -> None:
    assert fastest({}) == "auto"
    assert fastest({"graph_vs_auto": 0.9, "compiled_vs_auto": 0.99}) == "auto"
    assert fastest({"graph_vs_auto": 1.9, "compiled_vs_auto": 1.2}) == "graph"
    assert set(RECIPES) >= {"auto", "graph", "compiled"}


def test_a_claim_that_was_not_measured_does_not_hold() -> None:
    assert [Claim("", value, 1.5).verdict for value in (None, 1.4, 1.5)] == ["not measured", "does not hold", "holds"]
