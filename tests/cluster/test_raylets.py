"""A cluster whose nodes share no folder: what they train is recorded as if it were trained here."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from record.run import RunError, open_run
from tests.clusters import Raylets, needs_namespaces
from tests.conftest import ROOT
from tests.driving import command


@pytest.fixture
def raylets(tmp_path: Path, s3: str) -> Iterator[Raylets]:
    needs_namespaces()
    hidden = tmp_path / "here"
    hidden.mkdir()
    found = Raylets(hidden, {})
    yield found
    found.close()


def known(run: str) -> pd.DataFrame:
    """Return the trials, as far as chance of timing has no say in them."""
    trials = open_run(run).trials
    return trials[["outcome", "accuracy", "epochs", "training_id", "params", "macs"]]


@pytest.mark.slow
def test_the_same_front_without_a_shared_folder_though_a_node_is_lost_and_one_added(
    tiny: Path, bucket: str, raylets: Raylets, tmp_path: Path
) -> None:
    same = (str(tiny), "trials=8", "halving=null", "training.epochs=6", "measure.confirm=false")
    alone = command("run_search.py", *same, "resources.concurrent=1", f"runs={tmp_path / 'here' / 'runs'}")
    assert alone.returncode == 0, alone.stderr
    expected = known(str(tmp_path / "here" / "runs" / "tiny"))
    ray = f"resources={{backend: ray, address: '{raylets.address}', concurrent: 2}}"
    with (tmp_path / "search.log").open("wb") as log:
        search = subprocess.Popen(
            [sys.executable, ROOT / "run_search.py", *same, ray, f"runs={bucket}"],
            stdout=log,
            stderr=log,
            cwd=tmp_path / "here",
        )
    time.sleep(10)  # there is no node yet for a trial
    assert search.poll() is None
    node = raylets.add()
    done = pd.DataFrame()
    while search.poll() is None and len(done) < 2:
        time.sleep(0.5)
        with suppress(RunError):
            found = open_run(f"{bucket}/tiny").trials
            done = found[found["outcome"] == "complete"]
    raylets.lose(node)
    raylets.add()
    raylets.add()
    assert search.wait(400) == 0, (tmp_path / "search.log").read_text()
    after = open_run(f"{bucket}/tiny")
    assert after.trials.loc[done.index, "end"].equals(done["end"])
    assert known(f"{bucket}/tiny").equals(expected)
    for _, epochs in after.epochs.groupby("trial"):
        assert epochs["epoch"].tolist() == list(range(1, len(epochs) + 1))
    exported = command(
        "analyze.py", "export", f"{bucket}/tiny", "--format", "safetensors", "--out", tmp_path / "export"
    )
    assert exported.returncode == 0, exported.stderr


@pytest.mark.slow
def test_two_studies_at_once_of_which_one_measures_on_a_node_of_its_own(
    tiny: Path, bucket: str, raylets: Raylets, tmp_path: Path
) -> None:
    raylets.add()
    raylets.add('--resources={"target": 1}')
    ray = f"resources={{backend: ray, address: '{raylets.address}', concurrent: 2"
    given = {"one": f"{ray}}}", "two": f"{ray}, measure_on: {{target: 1}}}}"}
    searches = {}
    for name, resources in given.items():
        line = [sys.executable, ROOT / "run_search.py", tiny, "trials=3", "halving=null", f"name={name}"]
        with (tmp_path / f"{name}.log").open("wb") as log:
            searches[name] = subprocess.Popen(
                [*line, resources, f"runs={bucket}"], stdout=log, stderr=log, cwd=tmp_path / "here"
            )
    for name, search in searches.items():
        assert search.wait(300) == 0, (tmp_path / f"{name}.log").read_text()
    one, two = (open_run(f"{bucket}/{name}").trials for name in given)
    assert one["outcome"].isin(["complete", "duplicate"]).all()
    assert two[["accuracy", "config"]].equals(one[["accuracy", "config"]])
    assert two["throughput"].notna().all()
