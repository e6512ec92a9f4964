"""Runs recorded by version 1 (at commit b819ccaa): whatever the code has become, they are read as they were, and go on.

In `tests/golden/v1` are a search with halving, limits and second measurements, an ablation, the search's pick and its
full training with an export; the two study files; and what `analyze.py front` and `ablation` printed of the runs then.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

import repmlp
from record.files import read_study
from record.run import open_run
from tests.conftest import ROOT
from tests.driving import analysis, searched

GOLDEN = ROOT / "tests" / "golden" / "v1"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Copies of the runs, which may be written to."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "runs"))


@pytest.mark.parametrize(("command", "run"), [("front", "search"), ("ablation", "ablation")])
def test_its_table_is_what_it_was(command: str, run: str) -> None:
    done = analysis(command, GOLDEN / run, "--format", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((GOLDEN / f"{command}.json").read_text())


@pytest.mark.parametrize(("run", "more", "new"), [("search", "trials=17", 1), ("ablation", "seeds=4", 4)])
def test_it_goes_on_and_trains_nothing_again(runs: Path, run: str, more: str, new: int) -> None:
    before = open_run(str(runs / run))
    done = searched(GOLDEN / f"{run}.yaml", f"runs={runs}", more)
    assert done.exit_code == 0, done.stderr
    after = open_run(str(runs / run))
    known = ["outcome", "accuracy", "test", "throughput", "params", "macs", "seed"]
    pd.testing.assert_frame_equal(after.trials.loc[before.trials.index, known], before.trials[known])
    pd.testing.assert_frame_equal(after.epochs[after.epochs["trial"].isin(before.trials.index)], before.epochs)
    added = after.trials.drop(before.trials.index)
    assert (added["outcome"].isin(["complete", "stopped"]) | added["twin"].notna()).all()
    assert len(added) == new


def test_its_pick_is_what_it_was(runs: Path) -> None:
    done = analysis("pick", runs / "search", "--rule", "knee", "--seeds", 2, "--out", runs / "new.yaml")
    assert done.exit_code == 0, done.stderr
    then, now = read_study(GOLDEN / "search" / "pick.yaml"), read_study(runs / "new.yaml", ["runs=golden/runs"])
    assert now == then


def test_its_report_is_written(runs: Path) -> None:
    done = analysis("report", runs / "search")
    assert done.exit_code == 0, done.stderr
    assert "4x1 RepMLP 2 g2 k1 global | 8x1 RepMLP 4 g4" in (runs / "search" / "report.html").read_text()


def test_its_weights_are_exported(runs: Path) -> None:
    run = runs / "search-pick"
    done = analysis("export", run, "--trial", 0, "--format", "safetensors", "--out", runs / "export")
    assert done.exit_code == 0, done.stderr
    assert repmlp.load(runs / "export")(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_its_export_loads() -> None:
    assert repmlp.load(GOLDEN / "search-pick" / "export")(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
