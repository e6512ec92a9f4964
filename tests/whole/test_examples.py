"""Every example runs, and what it brings works from a study file as well."""

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from deploy.picking import readable_rivals
from record.files import checked, read_study
from record.run import Run, open_run
from record.same import changes_nothing, plain
from record.study import Search, StudyError, study_of
from results.ablation import ablation_table, readable_table
from results.views import front_table
from search import run, sample
from search.draws import reference_point
from search.progress import Display
from tests.conftest import ROOT
from tests.frames import run_of

PROGRAMS = "__init__", "measure_command"
EXAMPLES = sorted(file.stem for file in (ROOT / "examples").glob("*.py") if file.stem not in PROGRAMS)
DONE: dict[str, Run] = {}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the examples' runs."""
    return tmp_path_factory.mktemp("runs")


def done(name: str, runs: Path) -> Run:
    """Return the run of an example, run once."""
    if name not in DONE:
        DONE[name] = importlib.import_module(f"examples.{name}").main(str(runs))
    return DONE[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_its_run_is_read_from_its_folder(name: str, runs: Path) -> None:
    found = done(name, runs)
    assert found.trials["outcome"].eq("complete").any()
    opened = open_run(found.folder)
    assert opened.study == found.study
    pd.testing.assert_frame_equal(opened.trials, found.trials)


def test_an_example_is_a_command_whose_class_workers_find(tmp_path: Path) -> None:
    line, path = [sys.executable, "-m", "examples.space"], {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ | path)
    assert ended.returncode == 0, ended.stderr
    assert "param.width" in ended.stdout
    found = open_run(tmp_path / "runs" / "example-space")
    assert type(found.study.space).__module__ == "examples.space"


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("space", {"space": {"name": "examples.space:TwoParameters", "widths": [4, 8]}}),
        ("data_set", {"data": {"name": "examples.data_set:Stripes", "noise": 60}}),
        ("sampler", {"sampler": "examples.sampler:Crossover"}),
        ("objective", {"objectives": ["accuracy", "examples.objective:FileSize"], "limits": {"max_bytes": 100000}}),
        (
            "network",
            {
                "space": {
                    "name": "fixed",
                    "networks": {
                        "narrow": {"kind": "examples.network:Patches"},
                        "wide": {"kind": "examples.network:Patches", "channels": 8},
                    },
                }
            },
        ),
    ],
)
def test_what_an_example_brings_is_named_in_a_study_file(name: str, keys: dict[str, Any], runs: Path) -> None:
    """The study in Python and that of plain values are one, so its run goes on as either."""
    study = done(name, runs).study
    assert checked({**plain(study), **keys}) == study
    assert changes_nothing(open_run(runs / study.name).study, study)  # another test may have asked it for more trials


def test_a_run_with_a_class_of_ones_own_goes_on_from_its_file(runs: Path) -> None:
    before = done("data_set", runs)
    file = runs / "more.yaml"
    file.write_text(json.dumps(plain(before.study)))
    after = run(read_study(file, ["trials=4"]))
    assert list(after.trials.index[:3]) == list(before.trials.index)
    assert after.trials["outcome"].isin(["complete", "stopped"]).sum() == 4


def test_a_quantity_of_ones_own_is_a_column_a_cost_a_limit_and_a_reference(runs: Path) -> None:
    found = done("objective", runs)
    assert found.objectives == ["accuracy", "bytes"]
    assert found.maximise == [True, False]
    assert found.trials["bytes"].notna().all()
    costs = found.study.costs(found.entries[0])
    assert costs["bytes"] == found.trials["bytes"].iloc[0] > 4 * costs["params"]
    assert found.reference == {"accuracy": 10.0, "bytes": 100_000}
    assert set(found.front().columns) >= {"accuracy", "bytes"}
    tight = found.study.model_copy(update={"limits": {"max_bytes": 5000.0}})
    over = sample(tight, 12)
    assert (over["over limit"].eq("max_bytes") == over["bytes"].gt(5000)).all()
    assert over["over limit"].eq("max_bytes").any()
    without = found.study.model_copy(update={"limits": {}})
    assert reference_point(without, (1, (8, 8), 10))["bytes"] > 10_000


def test_a_quantity_of_ones_own_is_in_every_table(runs: Path) -> None:
    found = done("objective", runs)
    assert front_table(found)["file (kB)"].tolist() == (found.front()["bytes"] / 1000).tolist()
    decision = found.pick()
    assert "file (%)" in readable_rivals(decision.rivals)
    console = Console(file=io.StringIO(), record=True, width=200, force_terminal=True)
    with Display(console, found.study, found.reference, found.entries) as display:
        display.live.refresh()
    text = console.export_text()
    assert "file (kB)" in text
    assert f"{found.trials['bytes'].iloc[0] / 1000:.2f}" in text
    row = {"accuracy": 90.0, "param.network": "a", "bytes": 2000.0}
    listed = run_of(row, seeds=1, space={"name": "fixed"}, objectives=found.study.objectives)
    assert readable_table(ablation_table(listed), listed.study.own)["file (kB)"].tolist() == [2.0]


def test_objectives_keep_their_order() -> None:
    from examples.objective import FileSize

    study = Search(name="s", objectives=(FileSize, "macs", "accuracy"))
    assert study.objectives == ("examples.objective:FileSize", "macs", "accuracy")
    assert [q.name for q in study.quantities] == ["bytes", "macs", "accuracy"]
    assert study_of(plain(study)) == study


def test_classes_are_written_by_where_they_are_with_their_arguments() -> None:
    from examples.data_set import Stripes
    from examples.sampler import Crossover
    from examples.space import TwoParameters

    given = {"space": TwoParameters(kinds=("conv",)), "data": Stripes(images=80)}
    study = Search(name="s", sampler={"name": Crossover, "mutation": 0.3}, **given)
    written = plain(study)
    assert written["space"] == {"name": "examples.space:TwoParameters", "widths": [4, 8, 12], "kinds": ["conv"]}
    assert written["data"] == {"name": "examples.data_set:Stripes", "images": 80, "noise": 100}
    assert written["sampler"] == {"name": "examples.sampler:Crossover", "mutation": 0.3}
    assert study_of(written) == study
    assert Search(name="s", sampler=Crossover).sampler == "examples.sampler:Crossover"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"space": {"name": "examples.space:TwoParameters", "width": [4]}},
            r"unknown key space\.width; did you mean wi",
        ),
        ({"space": {"name": "examples.space:TwoParameters", "widths": []}}, "widths must offer at least one value"),
        ({"space": {"name": "examples.space:Two"}}, "examples.space:Two cannot be imported"),
        (
            {"data": {"name": "examples.data_set:Stripes", "colour": 1}},
            r"unknown key data\.colour; known are images, noi",
        ),
        ({"sampler": "examples.sampler:Crossing"}, "examples.sampler:Crossing cannot be imported"),
        (
            {"objectives": ["accuracy", "examples.objective:run"]},
            "must be a class derived from record.quantities.Quanti",
        ),
        ({"limits": {"max_bytes": 3}}, r"limits\.max_bytes is not there; what is known without training is"),
    ],
)
def test_what_cannot_be_used_says_why(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        checked({"name": "s", **keys})


def test_a_class_that_no_worker_could_import_is_refused() -> None:
    from examples.objective import FileSize
    from examples.sampler import Crossover
    from examples.space import TwoParameters

    for key, kind, value in (
        ("space", TwoParameters, lambda kind: kind()),
        ("sampler", Crossover, lambda kind: kind),
        ("objectives", FileSize, lambda kind: ("accuracy", kind)),
    ):
        local = type("Local", (kind,), {"__qualname__": "f.<locals>.Local", "__module__": __name__})
        mine = type("Mine", (kind,), {"__module__": "__main__"})
        for refused in (local, mine):
            with pytest.raises(
                ValueError, match="cannot be imported by other processes; define the class in a module of"
            ):
                Search.model_validate({"name": "s", key: value(refused)})
